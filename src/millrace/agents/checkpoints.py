"""Keep a training job's checkpoint folder and its place in the store alike."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from millrace.agents.objects import download, iter_objects, upload_file
from millrace.agents.placement import Placement
from millrace.clock import Clock
from millrace.names import ObjectPrefix, ObjectRef, relative_key
from millrace.ports.objects import ObjectStore

__all__ = ["CheckpointSync"]

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
    ) -> None:
        """Take what is to be alike; `check_lease` is awaited before every change of the store.

        The folder is shared with the attempts that follow, which clear it: an agent that hung meanwhile must not take
        that for deletions.
        """
        self._objects = objects
        self._folder = folder
        self._target = target
        self._clock = clock
        self._check_lease = check_lease
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
        """Send settled changes until cancelled."""
        while True:
            await self._clock.sleep(SCAN_SECONDS)
            await self.send(settled_only=True)

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
                await upload_file(self._objects, self._folder / name, self._ref(name), check_lease=self._check_lease)
                self._stored[name] = stamp
        for name in [name for name in self._stored if name not in now]:
            await self._check_lease()
            await self._objects.delete(self._ref(name))
            del self._stored[name]
        self._seen = now

    def _ref(self, name: str) -> ObjectRef:
        return self._target.join(name)

    def _scan(self) -> dict[str, _Stamp] | None:
        """Return the files that are there, None if the folder is not."""
        stamps = {}
        for path in self._folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                status = path.stat()
                stamps[path.relative_to(self._folder).as_posix()] = (status.st_mtime_ns, status.st_size)
        return stamps if self._folder.is_dir() else None
