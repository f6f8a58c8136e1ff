"""Keep a training job's checkpoint folder and its place in the store alike."""

import asyncio
import logging
import os
import stat
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from millrace.agents.objects import download, iter_objects, upload_file
from millrace.agents.placement import Placement
from millrace.clock import Clock
from millrace.errors import StoreUnavailable
from millrace.names import ObjectPrefix, ObjectRef, relative_key
from millrace.ports.objects import ObjectStore, ObjectStoreError

__all__ = ["CheckpointSync"]

log = logging.getLogger(__name__)

SCAN_SECONDS = 3.0

_Stamp = tuple[int, int]


class CheckpointSync:
    """Restores what an earlier run left, then sends changes (deletions too) as they settle.

    Source:
        containers.md 2.10: a file goes once it was unchanged between two scans; a full pass ends the run.
    """

    def __init__(
        self,
        objects: ObjectStore,
        folder: Path,
        target: ObjectPrefix,
        clock: Clock,
        *,
        check_lease: Callable[[], Awaitable[None]],
        report: Callable[[str], None],
    ) -> None:
        """Take what is to be alike; `check_lease` is awaited before every change of the store.

        `report` tells the job's owner of checkpoints that can't be stored: that is no reason to end a training.

        The folder is shared with the attempts that follow, which clear it: an agent that hung meanwhile must not take
        that for deletions.
        """
        self._objects = objects
        self._folder = folder
        self._target = target
        self._clock = clock
        self._check_lease = check_lease
        self._report = report
        self._reported = ""
        self._stored: dict[str, _Stamp] = {}
        self._seen: dict[str, _Stamp] = {}

    async def restore(self) -> None:
        """Bring the stored checkpoints into the folder.

        Raises:
            ClientFailure: The bucket does not exist, or a key can't be a file name below the folder.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        # as a folder: with a bare prefix the checkpoints of another job, whose place is named alike, would come too
        source = ObjectPrefix(self._target.bucket, self._target.join("").key if self._target.prefix else "")
        placement = Placement(self._folder)
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
        except (ObjectStoreError, StoreUnavailable, OSError) as exc:
            log.warning("checkpoints not stored", extra={"target": str(self._target)}, exc_info=True)
            if str(exc) != self._reported:  # once, not every few seconds
                self._reported = str(exc)
                self._report(f"checkpoints could not be stored under {self._target}: {exc}")
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
            if self._stored.get(name) != stamp and (not settled_only or self._seen.get(name) == stamp):
                path = self._folder / name
                try:
                    await upload_file(self._objects, path, self._ref(name), check_lease=self._check_lease)
                except FileNotFoundError:
                    if path.exists():
                        raise
                    continue  # the program takes its old checkpoints away: the next look tells what is left
                self._stored[name] = stamp
        for name in [name for name in self._stored if name not in now]:
            await self._check_lease()
            await self._objects.delete(self._ref(name))
            del self._stored[name]
        self._seen = now

    def _ref(self, name: str) -> ObjectRef:
        return self._target.join(name)

    def _scan(self) -> dict[str, _Stamp] | None:
        """Return the files that are there, None if the folder is not. The program may change it meanwhile."""
        stamps = {}
        for folder, _, files in os.walk(self._folder, onerror=_raise_unless_gone):
            for name in files:
                path = Path(folder, name)
                with suppress(FileNotFoundError, NotADirectoryError):
                    status = path.lstat()
                    if stat.S_ISREG(status.st_mode):
                        stamps[path.relative_to(self._folder).as_posix()] = (status.st_mtime_ns, status.st_size)
        return stamps if self._folder.is_dir() else None


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error  # files that can't be looked at are not deleted
