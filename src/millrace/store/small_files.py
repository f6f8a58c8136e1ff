"""Read and write many small objects at a time, with the calls to the kernel that their number needs and no others.

A group of objects is written into drafts, synced together, and then renamed, object by object, as all others are: under
the lock of its key, in one step. So whoever reads finds whole objects, and none of them before all bytes are on the
disk. A folder is opened once for consecutive keys in it.

The work is done on the event loop, a slice at a time: a thread would lose the interpreter's lock with every call to the
kernel, of which there are eight to an object. Only what waits for the disk has a thread.
"""

# Paths are bytes here, as keys are, and pathlib knows only text.
# ruff: noqa: PTH108

import asyncio
import os
import stat as stat_bits
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from millrace.names import ObjectRef
from millrace.ports.objects import NoSuchBucket, ObjectMeta, ObjectStoreError, SmallOutput
from millrace.store.bucket_folder import BucketFolder
from millrace.store.file_writer import output_facts
from millrace.store.group_sync import GroupSync
from millrace.store.key_paths import plain_segments
from millrace.store.uninterrupted import run_uninterrupted

__all__ = ["SmallFiles"]

SLICE = 16
"""Objects that are worked on before the event loop has its turn: about a millisecond."""
FOLDERS = 8
"""Folders of a group that are synced one by one; for more, the file system is synced once more."""
MAX_KEY_BYTES = 1024


class SmallFiles:
    """SmallObjects over files. `find_bucket` raises NoSuchBucket."""

    def __init__(self, find_bucket: Callable[[str], BucketFolder], *, syncs: GroupSync, durable: bool) -> None:
        self._find_bucket = find_bucket
        self._syncs = syncs
        self._durable = durable

    def read(self, refs: Sequence[ObjectRef], *, at_most: int) -> list[bytes | None]:
        """Return the bytes of objects that lie at their plain places; see the port."""
        found: list[bytes | None] = []
        with _Folders(most=1) as folders:
            for ref in refs:
                try:
                    bucket = self._find_bucket(ref.bucket)
                    plain = plain_segments(ref.key.encode(), reserved=bucket.reserved) if ref.key else None
                    body = None if plain is None else _read(bucket, folders.open(bucket, plain), plain[-1], at_most)
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
                group = _Group(self._find_bucket(name), outputs, meta)
            except NoSuchBucket:
                left += indexes
                continue
            left += await self._write(group, indexes)
        return left

    async def _write(self, group: "_Group", indexes: Sequence[int]) -> Sequence[int]:
        sync = None
        if self._durable:
            sync = self._syncs.begin(group.bucket.folder)
            if sync is None:
                return indexes
        try:
            await _in_slices(group.draft, indexes)
            if sync is not None:
                await run_uninterrupted(sync)
            with _Folders(most=FOLDERS) as folders:
                await _in_slices(partial(group.install, folders), range(len(group.drafts)))
                if sync is not None:
                    await run_uninterrupted(partial(_sync_folders, folders, sync))
        except OSError:  # of whatever file: all are written anew, and those at fault tell it
            return indexes
        finally:
            group.close()
        return group.left


async def _in_slices(work: Callable[[int], None], indexes: Iterable[int]) -> None:
    for number, index in enumerate(indexes, 1):
        work(index)
        if number % SLICE == 0:
            await asyncio.sleep(0)


def _read(bucket: BucketFolder, folder: int, name: bytes, at_most: int) -> bytes | None:
    descriptor = os.open(name, bucket.file_flags, dir_fd=folder)
    try:
        stat = os.fstat(descriptor)
        if not stat_bits.S_ISREG(stat.st_mode) or stat.st_size > at_most:
            return None
        body = os.read(descriptor, at_most + 1)
        return body if len(body) == stat.st_size else None
    finally:
        os.close(descriptor)


class _Folders:
    """Folders of keys that come one after the other: each is opened once, and closed at the end.

    Args:
        most: Folders that are open at a time; the earliest ones are closed before.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._place: tuple[BucketFolder, list[bytes]] | None = None
        self.open_ones: list[int] = []
        self.are_closed = False
        """Whether there were more."""

    def __enter__(self) -> "_Folders":
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self.open_ones:
            os.close(descriptor)

    def open(self, bucket: BucketFolder, plain: list[bytes], *, make: bool = False) -> int:
        """Return a descriptor of the folder of a plain place, which is not the caller's."""
        place = bucket, plain[:-1]
        if place != self._place:
            self.open_ones.append(bucket.open_parent(plain, make=make))
            self._place = place
            if len(self.open_ones) > self._most:
                os.close(self.open_ones.pop(0))
                self.are_closed = True
        return self.open_ones[-1]


class _Draft(NamedTuple):
    """A file that is to be an object."""

    position: int
    """Of the output in its group."""
    key: bytes
    plain: list[bytes]
    path: bytes


class _Group:
    """Objects of one bucket that are made durable together."""

    def __init__(self, bucket: BucketFolder, outputs: Sequence[SmallOutput], meta: ObjectMeta) -> None:
        self.bucket = bucket
        self._outputs = outputs
        self._meta = meta
        self.drafts: list[_Draft] = []
        self.left: list[int] = []
        """Indexes of objects that are not as usual."""
        self._installed = 0

    def draft(self, index: int) -> None:
        """Write a draft, its facts attached."""
        ref, body, origin = self._outputs[index]
        key = ref.key.encode()
        plain = plain_segments(key, reserved=self.bucket.reserved) if 1 <= len(key) <= MAX_KEY_BYTES else None
        if plain is None:
            self.left.append(index)
            return
        try:
            descriptor, path = self.bucket.temporary()
        except OSError:
            self.left.append(index)
            return
        try:
            try:
                if os.write(descriptor, body) < len(body):
                    raise OSError(f"{path!r}: there is room for a part of {len(body)} bytes only")
                self.bucket.facts.write_first(descriptor, output_facts(self._meta, origin))
            finally:
                os.close(descriptor)
        except OSError:
            self.left.append(index)
            with suppress(OSError):
                os.unlink(path)
            return
        self.drafts.append(_Draft(index, key, plain, path))

    def install(self, folders: _Folders, number: int) -> None:
        """Make a draft the object of its key."""
        index, key, plain, path = self.drafts[number]
        try:
            folder = folders.open(self.bucket, plain, make=True)
            done = self.bucket.install_into(folder, path, key, plain[-1], guard=_no_guard)
        except (OSError, ObjectStoreError):
            done = None
        if done is None:
            self.left.append(index)
            with suppress(OSError):
                os.unlink(path)
        self._installed = number + 1

    def close(self) -> None:
        """Remove the drafts that did not become objects."""
        for draft in self.drafts[self._installed :]:
            with suppress(OSError):
                os.unlink(draft.path)


def _sync_folders(folders: _Folders, sync: Callable[[], None]) -> None:
    if folders.are_closed:
        sync()
        return
    for descriptor in folders.open_ones:
        os.fsync(descriptor)


def _no_guard() -> None:
    """Let any write pass."""
