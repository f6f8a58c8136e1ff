"""Read and write many small objects at a time, with the calls to the kernel that their number needs and no others.

Reading is done on the event loop, for a thread would lose the interpreter's lock with every call to the kernel. So is
writing, a slice at a time and with a thread only for what waits for the disk, until there is so much of it that another
process is worth its start: then that one writes on another core (group_process).
"""

import asyncio
import os
import stat as stat_bits
import sys
from collections.abc import Callable, Sequence
from contextlib import closing, suppress

from millrace.names import ObjectRef
from millrace.ports.objects import NoSuchBucket, ObjectMeta, SmallOutput
from millrace.store.bucket_folder import BucketFolder
from millrace.store.file_group import FileGroup, GroupEntry, OpenFolders
from millrace.store.group_process import GroupProcess
from millrace.store.group_sync import GroupSync
from millrace.store.key_paths import plain_segments
from millrace.store.uninterrupted import run_uninterrupted

__all__ = ["SmallFiles"]


class SmallFiles:
    """SmallObjects over files.

    Args:
        find_bucket: Raises NoSuchBucket.
        syncs: Syncs what is written here.
        durable: Whether anything is synced.
        apart_after: Objects that are written before another process is started to write the next ones; 0 starts none.
        apart_at_a_time: Groups that the other process has at a time.
    """

    def __init__(
        self,
        find_bucket: Callable[[str], BucketFolder],
        *,
        syncs: GroupSync,
        durable: bool,
        apart_after: int,
        apart_at_a_time: int,
    ) -> None:
        self._find_bucket = find_bucket
        self._syncs = syncs
        self._durable = durable
        has_cores = sys.platform == "linux" and len(os.sched_getaffinity(0)) > 1
        self._left_here = apart_after if has_cores else 0
        self._apart_at_a_time = apart_at_a_time
        self._apart: GroupProcess | None = None

    def close(self) -> None:
        """End the other process, if there is one."""
        if self._apart is not None:
            self._apart.close()

    def read(self, refs: Sequence[ObjectRef], *, at_most: int) -> list[bytes | None]:
        """Return the bytes of objects that lie at their plain places; see the port."""
        found: list[bytes | None] = []
        bucket: BucketFolder | None = None
        with OpenFolders(most=1) as folders:
            for ref in refs:
                try:
                    if bucket is None or bucket.name != ref.bucket:
                        bucket = self._find_bucket(ref.bucket)
                    plain = plain_segments(ref.key.encode(), reserved=bucket.reserved) if ref.key else None
                    body = None if plain is None else _read(bucket, folders, plain, at_most)
                except (OSError, NoSuchBucket):
                    body = None
                found.append(body or None)
        return found

    async def write(self, outputs: Sequence[SmallOutput], meta: ObjectMeta) -> Sequence[int]:
        """Write objects that have plain places; see the port."""
        by_bucket: dict[str, list[int]] = {}
        for index, output in enumerate(outputs):
            by_bucket.setdefault(output.ref.bucket, []).append(index)
        left: list[int] = []
        for name, indexes in by_bucket.items():
            try:
                bucket = self._find_bucket(name)
            except NoSuchBucket:
                left += indexes
                continue
            entries = [GroupEntry(ref.key, body, origin) for ref, body, origin in map(outputs.__getitem__, indexes)]
            left += [indexes[index] for index in await self._write(bucket, entries, meta)]
        return left

    async def _write(self, bucket: BucketFolder, entries: Sequence[GroupEntry], meta: ObjectMeta) -> Sequence[int]:
        everything = range(len(entries))
        sync = None
        if self._durable:
            sync = self._syncs.begin(bucket.folder)
            if sync is None:
                return everything
        if self._apart is not None and self._apart.is_ready:
            left = await self._apart.write(bucket, entries, meta)
            if left is not None:
                return left
        group = FileGroup(bucket, entries, meta)
        try:
            with closing(group.steps(sync)) as steps:
                for step in steps:
                    await (asyncio.sleep(0) if step is None else run_uninterrupted(step))
        except OSError:
            return everything
        if self._left_here > 0:
            self._left_here -= len(entries)
            if self._left_here <= 0:
                with suppress(OSError):  # no more processes, or descriptors: then all is written here
                    self._apart = GroupProcess(groups=self._apart_at_a_time)
        return group.left


def _read(bucket: BucketFolder, folders: OpenFolders, plain: list[bytes], at_most: int) -> bytes | None:
    name = plain.pop()
    descriptor = os.open(name, bucket.file_flags, dir_fd=folders.open(bucket, plain))
    try:
        stat = os.fstat(descriptor)
        if not stat_bits.S_ISREG(stat.st_mode) or stat.st_size > at_most:
            return None
        body = os.read(descriptor, stat.st_size + 1)
        return body if len(body) == stat.st_size else None
    finally:
        os.close(descriptor)
