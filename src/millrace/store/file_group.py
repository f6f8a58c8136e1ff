"""Write a group of small objects: into drafts, which are synced together, and then to their places.

The renames are made as all others are: one by one, each under the lock of its key. So whoever reads finds whole
objects, and none of them before all bytes are on the disk. What several objects have in common is done once for them:
keys are taken folder by folder, and in each of these lock by lock.
"""

# Paths are bytes here, as keys are, and pathlib knows only text.

import os
import secrets
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from millrace.ports.objects import ObjectMeta, ObjectStoreError
from millrace.store.bucket_folder import BucketFolder
from millrace.store.facts import GroupFacts
from millrace.store.file_writer import output_etags
from millrace.store.key_paths import plain_segments

__all__ = ["FileGroup", "GroupEntry", "OpenFolders"]

SLICE = 16
"""Objects that are worked on in one step: about a millisecond."""
FOLDERS = 8
"""Folders of a group that are synced one by one; for more, the file system is synced once more."""
MAX_KEY_BYTES = 1024

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW

Steps = Generator[Callable[[], None] | None, None, None]
"""Work that is done between its steps: each is what waits for the disk, to be called, or nothing."""


class GroupEntry(NamedTuple):
    """A small object to write: its key, all of its bytes, and its origin, if it has one."""

    key: str
    body: bytes | memoryview
    origin: str


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

    def open(self, bucket: BucketFolder, above: list[bytes], *, make: bool = False) -> int:
        """Return a descriptor of the folder of plain places below folders of these names, which is not the caller's."""
        place = bucket, above
        if place != self._place:
            self.open_ones.append(bucket.open_parent(above, make=make))
            self._place = place
            if len(self.open_ones) > self._most:
                os.close(self.open_ones.pop(0))
                self.are_closed = True
        return self.open_ones[-1]


class _Draft(NamedTuple):
    """A file that is to be an object."""

    position: int
    """Of the entry in its group."""
    key: bytes
    folder: list[bytes]
    """The names of the folders above its place."""
    lock: int
    name: bytes
    """Its last name."""
    draft: bytes
    """Its name in the folder of drafts."""


_BY_PLACE = attrgetter("folder", "lock")


class FileGroup:
    """Objects of one bucket that are made durable together."""

    def __init__(self, bucket: BucketFolder, entries: Sequence[GroupEntry], meta: ObjectMeta) -> None:
        self._bucket = bucket
        self._entries = entries
        self._facts = GroupFacts(meta)
        self._drafts: list[_Draft] = []
        self._in_drafts: int | None = None
        """The folder of drafts."""
        self._remaining: set[bytes] = set()
        """Names of drafts that are not objects yet."""
        self.left: list[int] = []
        """Indexes of objects that are not as usual."""

    def steps(self, sync: Callable[[], None] | None) -> Steps:
        """Write the objects; where nothing waits for the disk, others may have their turn.

        An OSError, also of what is called, says that all are to be written anew.

        Args:
            sync: Puts all that was written on the disk; None if nobody waits for that.
        """
        try:
            self._in_drafts = self._bucket.open_drafts(len(self._entries))
            prefix, etags = secrets.token_hex(8).encode(), output_etags(len(self._entries))
            for index, etag in enumerate(etags):
                self._write_draft(index, b"%b%x" % (prefix, index), etag)
                if index % SLICE == SLICE - 1:
                    yield None
            if sync is not None:
                yield sync
            with OpenFolders(most=FOLDERS) as folders:
                for drafts in _slices(sorted(self._drafts, key=_BY_PLACE)):
                    self._install(folders, drafts)
                    yield None
                if sync is not None:
                    yield partial(_sync_folders, folders, sync)
        finally:
            self._close()

    def _write_draft(self, index: int, name: bytes, etag: str) -> None:
        """Write a draft, its facts attached."""
        bucket = self._bucket
        entry = self._entries[index]
        key = entry.key.encode()
        plain = plain_segments(key, reserved=bucket.reserved) if 1 <= len(key) <= MAX_KEY_BYTES else None
        if plain is None:
            self.left.append(index)
            return
        body = entry.body
        try:
            descriptor = os.open(name, _NEW, 0o666, dir_fd=self._in_drafts)
        except OSError:
            self.left.append(index)
            return
        self._remaining.add(name)
        try:
            if os.write(descriptor, body) < len(body):
                raise OSError(f"{name!r}: there is room for a part of {len(body)} bytes only")
            stat = os.fstat(descriptor)
            bucket.facts.write_encoded(descriptor, stat, self._facts.encode(stat, etag, entry.origin))
        except OSError:
            self.left.append(index)
            self._remove(name)
        else:
            last = plain.pop()
            self._drafts.append(_Draft(index, key, plain, bucket.lock_group(key), last, name))
        finally:
            os.close(descriptor)

    def _install(self, folders: OpenFolders, drafts: Iterable[_Draft]) -> None:
        """Make drafts the objects of their keys."""
        bucket = self._bucket
        assert self._in_drafts is not None, "there are drafts"
        for _, together in groupby(drafts, key=_BY_PLACE):
            waiting = list(together)
            with suppress(OSError, ObjectStoreError):
                folder = folders.open(bucket, waiting[0].folder, make=True)
                with bucket.lock_at_once(waiting[0].key) as is_locked:
                    has_alternates = is_locked and bucket.has_alternates()
                    while is_locked and waiting:
                        one = waiting.pop()
                        if bucket.install_locked(
                            folder, self._in_drafts, one.draft, one.key, one.name, has_alternates=has_alternates
                        ):
                            self._remaining.discard(one.draft)
                        else:
                            self._leave(one)
            for one in waiting:
                self._leave(one)

    def _leave(self, one: _Draft) -> None:
        """Leave an object to the usual way."""
        self.left.append(one.position)
        self._remove(one.draft)

    def _remove(self, draft: bytes) -> None:
        self._remaining.discard(draft)
        with suppress(OSError):
            os.unlink(draft, dir_fd=self._in_drafts)

    def _close(self) -> None:
        """Remove the drafts that did not become objects."""
        if self._in_drafts is None:
            return
        for draft in list(self._remaining):
            self._remove(draft)
        os.close(self._in_drafts)


def _slices(drafts: Sequence[_Draft]) -> Iterator[Sequence[_Draft]]:
    for start in range(0, len(drafts), SLICE):
        yield drafts[start : start + SLICE]


def _sync_folders(folders: OpenFolders, sync: Callable[[], None]) -> None:
    if folders.are_closed:
        sync()
        return
    for descriptor in folders.open_ones:
        os.fsync(descriptor)
