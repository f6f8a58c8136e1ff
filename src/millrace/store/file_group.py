"""Write a group of small objects: into drafts, which are synced together, and then to their places.

The renames are made as all others are: one by one, each under the lock of its key. So whoever reads finds whole
objects, and none of them before all bytes are on the disk. A folder is opened once for consecutive keys in it.
"""

# Paths are bytes here, as keys are, and pathlib knows only text.
# ruff: noqa: PTH108

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from millrace.ports.objects import ObjectMeta, ObjectStoreError, SmallOutput
from millrace.store.bucket_folder import BucketFolder
from millrace.store.file_writer import output_facts
from millrace.store.key_paths import plain_segments

__all__ = ["FileGroup", "OpenFolders"]

SLICE = 16
"""Objects that are worked on in one step: about a millisecond."""
FOLDERS = 8
"""Folders of a group that are synced one by one; for more, the file system is synced once more."""
MAX_KEY_BYTES = 1024


Steps = Generator[Callable[[], None] | None, None, None]
"""Work that is done between its steps: each is what waits for the disk, to be called, or nothing."""


class OpenFolders:
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

    def __enter__(self) -> "OpenFolders":
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


class FileGroup:
    """Objects of one bucket that are made durable together."""

    def __init__(self, bucket: BucketFolder, outputs: Sequence[SmallOutput], meta: ObjectMeta) -> None:
        self._bucket = bucket
        self._outputs = outputs
        self._meta = meta
        self._drafts: list[_Draft] = []
        self.left: list[int] = []
        """Indexes of objects that are not as usual."""
        self._installed = 0

    def steps(
        self, indexes: Sequence[int], sync: Callable[[], None] | None
    ) -> Generator[Callable[[], None] | None, None, None]:
        """Write the objects with these indexes; where nothing waits for the disk, others may have their turn.

        An OSError, also of what is called, says that all are to be written anew.

        Args:
            indexes: Which of the outputs.
            sync: Puts all that was written on the disk; None if nobody waits for that.
        """
        try:
            for number, index in enumerate(indexes, 1):
                self._draft(index)
                if number % SLICE == 0:
                    yield None
            if sync is not None:
                yield sync
            with OpenFolders(most=FOLDERS) as folders:
                for number in range(len(self._drafts)):
                    self._install(folders, number)
                    if number % SLICE == 0:
                        yield None
                if sync is not None:
                    yield partial(_sync_folders, folders, sync)
        finally:
            self._close()

    def _draft(self, index: int) -> None:
        """Write a draft, its facts attached."""
        ref, body, origin = self._outputs[index]
        key = ref.key.encode()
        plain = plain_segments(key, reserved=self._bucket.reserved) if 1 <= len(key) <= MAX_KEY_BYTES else None
        if plain is None:
            self.left.append(index)
            return
        try:
            descriptor, path = self._bucket.temporary()
        except OSError:
            self.left.append(index)
            return
        try:
            try:
                if os.write(descriptor, body) < len(body):
                    raise OSError(f"{path!r}: there is room for a part of {len(body)} bytes only")
                self._bucket.facts.write_first(descriptor, output_facts(self._meta, origin))
            finally:
                os.close(descriptor)
        except OSError:
            self.left.append(index)
            with suppress(OSError):
                os.unlink(path)
            return
        self._drafts.append(_Draft(index, key, plain, path))

    def _install(self, folders: OpenFolders, number: int) -> None:
        """Make a draft the object of its key."""
        index, key, plain, path = self._drafts[number]
        try:
            folder = folders.open(self._bucket, plain, make=True)
            done = self._bucket.install_into(folder, path, key, plain[-1], guard=_no_guard)
        except (OSError, ObjectStoreError):
            done = None
        if done is None:
            self.left.append(index)
            with suppress(OSError):
                os.unlink(path)
        self._installed = number + 1

    def _close(self) -> None:
        """Remove the drafts that did not become objects."""
        for draft in self._drafts[self._installed :]:
            with suppress(OSError):
                os.unlink(draft.path)


def _sync_folders(folders: OpenFolders, sync: Callable[[], None]) -> None:
    if folders.are_closed:
        sync()
        return
    for descriptor in folders.open_ones:
        os.fsync(descriptor)


def _no_guard() -> None:
    """Let any write pass."""
