"""Keep a folder that a program writes to and its place in the store alike: checkpoints, continuous outputs."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from millrace.agents.confined import iter_files, open_below, open_folder
from millrace.agents.objects import download, iter_objects, upload_file
from millrace.agents.placement import Placement
from millrace.clock import Clock
from millrace.errors import ClientFailure, JobFailure, StoreUnavailable
from millrace.names import ObjectPrefix, ObjectRef, relative_key
from millrace.ports.objects import ObjectStore, ObjectStoreError

__all__ = ["FolderSync"]

log = logging.getLogger(__name__)

SCAN_SECONDS = 3.0

_Stamp = tuple[int, int]


class FolderSync:
    """Sends changes as they settle. Links are not followed, wherever they lead.

    Source:
        containers.md 2.10: a file goes once it was unchanged between two scans; a full pass ends the run. 4.4.
    """

    def __init__(
        self,
        objects: ObjectStore,
        root: Path,
        inside: str,
        target: ObjectPrefix,
        clock: Clock,
        *,
        what: str,
        mirror_deletions: bool,
        check_lease: Callable[[], Awaitable[None]],
        report: Callable[[str], None],
    ) -> None:
        """Take what is to be alike; `check_lease` is awaited before every change of the store.

        The folder is shared with the attempts that follow, which clear it: an agent that hung meanwhile must not take
        that for deletions.

        Args:
            root: A folder whose path no program can change.
            inside: The folder, relative to the root.
            what: What messages call it.
            mirror_deletions: Whether files that are gone are deleted from the store.
            report: Tells the job's owner of what can't be stored: while the program runs that is no reason to end it.
        """
        self._objects = objects
        self._root = root
        self._inside = inside
        self._target = target
        self._clock = clock
        self._what = what
        self._mirror_deletions = mirror_deletions
        self._check_lease = check_lease
        self._report = report
        self._reported = ""
        self._stored: dict[str, _Stamp] = {}
        self._seen: dict[str, _Stamp] = {}

    async def restore(self) -> None:
        """Bring what is stored into the folder, before the program starts.

        Raises:
            ClientFailure: The bucket does not exist, or a key can't be a file name below the folder.
        """
        folder = self._root / self._inside
        folder.mkdir(parents=True, exist_ok=True)
        # as a folder: with a bare prefix the checkpoints of another job, whose place is named alike, would come too
        source = ObjectPrefix(self._target.bucket, self._target.join("").key if self._target.prefix else "")
        placement = Placement(folder)
        async for info in iter_objects(self._objects, source):
            target = placement.place(info.ref, relative_key(source.prefix, info.ref.key))
            await download(self._objects, info.ref, target, link=False)
        self._stored = self._seen = self._scan() or {}

    async def run(self) -> None:
        """Send settled changes until cancelled; what fails is tried again."""
        while True:
            await self._clock.sleep(SCAN_SECONDS)
            await self._try_to_send(settled_only=True)

    async def finish(self) -> None:
        """Send what is left, after the program's end."""
        await self._try_to_send(settled_only=False)

    async def _try_to_send(self, *, settled_only: bool) -> None:
        try:
            await self.send(settled_only=settled_only)
        except (ObjectStoreError, StoreUnavailable, JobFailure, OSError) as exc:
            log.warning("files not stored", extra={"what": self._what, "target": str(self._target)}, exc_info=True)
            if str(exc) != self._reported:  # once, not every few seconds
                self._reported = str(exc)
                self._report(f"{self._what} could not be stored under {self._target}: {exc}")
        else:
            self._reported = ""

    async def send(self, *, settled_only: bool = False) -> None:
        """Send what changed since the last time; nothing if the folder itself is gone.

        Raises:
            LeaseLost: Another attempt has taken over; the store is its own now.
        """
        now = await asyncio.to_thread(self._scan)
        if now is None:
            return
        for name, stamp in now.items():
            settled = not settled_only or self._seen.get(name) == stamp
            if settled and self._stored.get(name) != stamp and await self._send_file(name):
                self._stored[name] = stamp
        for name in [name for name in self._stored if name not in now] if self._mirror_deletions else ():
            await self._check_lease()
            await self._objects.delete(self._ref(name))
            del self._stored[name]
        self._seen = now

    async def _send_file(self, name: str) -> bool:
        """Store one file; return False if it is gone: the program takes old files away, the next look tells more."""
        ref = self._ref(name)
        try:
            source = open_below(self._root, f"{self._inside}/{name}")
        except (FileNotFoundError, NotADirectoryError):
            return False
        await upload_file(self._objects, source, ref, check_lease=self._check_lease)
        return True

    def _ref(self, name: str) -> ObjectRef:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise ClientFailure(f"the name of file {name!r} is not UTF-8, as a key must be") from None
        return self._target.join(name)

    def _scan(self) -> dict[str, _Stamp] | None:
        """Return the files that are there, None if the folder is not. The program may change it meanwhile."""
        try:
            held = open_folder(self._root, self._inside)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            return {name: (status.st_mtime_ns, status.st_size) for name, status in iter_files(held)}
        finally:
            os.close(held)
