"""Write a file that outlives its writer, so that another one may go on with it.

It lies under a name of its own in the `drafts` folder of the bucket's private folder. Its writer holds a lock on it for
as long as it lives, and only who holds the lock may write to the file, give it its place among the objects, or remove
it. A process that is killed gives the lock free with its descriptors; one that merely lost its claim to the work keeps
its successor out until it ends. Whoever gets the lock looks whether the name is still that of the file: the one before
may have installed or removed it meanwhile, and what is an object now must not be written to.
"""

# Paths are bytes here, as keys are, and pathlib knows only text.
# ruff: noqa: PTH102, PTH108, PTH112, PTH116, PTH119, PTH120

import fcntl
import os
from collections.abc import Sequence
from contextlib import suppress
from threading import Lock

from millrace.ports.objects import DraftHeld, DraftLost, check_draft
from millrace.store.batched_append import Buffer
from millrace.store.draft_folders import spreads_folders
from millrace.store.large_file import LargeFile
from millrace.store.recycled_files import RecycledFiles

__all__ = ["KeptDraft", "discard_kept", "lock_kept", "open_kept"]

_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK


class KeptDraft:
    """A locked draft, cut to `at` bytes and gone on with there; written past the page cache from `cached_bytes` on.

    Raises:
        DraftLost: It has fewer bytes.
    """

    recycled: RecycledFiles | None = None
    """Not from there, nor for it: the name is the next writer's as soon as the file has left it."""

    def __init__(self, descriptor: int, path: bytes, *, at: int, cached_bytes: int, block_bytes: int) -> None:
        size = os.fstat(descriptor).st_size
        if size < at:
            raise DraftLost(_name(path), f"{at} bytes are to be kept, and it has {size}")
        os.ftruncate(descriptor, at)  # which sets its time, even where it cuts off nothing: it is of use again
        self.descriptor = descriptor
        self.path = path
        self.size = at
        self._large = LargeFile(descriptor, cached_bytes=cached_bytes, at=at, block_bytes=block_bytes)
        self._lock = Lock()
        self._open = True
        self._is_installed = False

    @property
    def is_open(self) -> bool:
        return self._open

    @property
    def holds_back(self) -> bool:
        """Whether `flush` or `finish` may have bytes to write."""
        return self._large.held > 0

    def append(self, chunks: Sequence[Buffer]) -> None:
        """Write chunks. May run in a thread; what comes after `close` is dropped."""
        with self._lock:
            if not self._open:
                return
            for chunk in chunks:
                view = memoryview(chunk)
                self._large.append(view)
                self.size += len(view)

    def flush(self) -> int:
        """Have all that was appended in the file, for a sync; return its size. May run in a thread."""
        with self._lock:
            if self._open:
                self._large.flush()
            return self.size

    def finish(self) -> None:
        """Write what is held back; nothing is appended any more. May run in a thread."""
        with self._lock:
            if self._open:
                self._large.finish()

    def installed(self) -> None:
        """Take note that the file has its place among the objects, and its name no longer."""
        self._is_installed = True

    def close(self, *, keep: bool) -> None:
        """Close the file, give its lock free, and remove it unless it is installed or to be kept. Harmless twice."""
        with self._lock:  # a thread of a cancelled task may still be writing
            if not self._open:
                return
            self._open = False
            self._large.forget()
            try:
                if not (keep or self._is_installed) and _has_name(self.descriptor, self.path):
                    os.unlink(self.path)
            finally:
                os.close(self.descriptor)


def lock_kept(path: bytes, *, make: bool) -> int:
    """Open a draft by its path and lock it; return its descriptor.

    Raises:
        DraftLost: It is not there, and not to be made.
        DraftHeld: Another writer has it now.
    """
    while True:
        try:
            descriptor = os.open(path, _FLAGS | os.O_CREAT if make else _FLAGS, 0o666)
        except FileNotFoundError:
            if not make:
                raise DraftLost(_name(path), "it is not there") from None
            _make_folder(os.path.dirname(path))
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _has_name(descriptor, path):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            raise DraftHeld(_name(path), "another writer holds it") from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def open_kept(folder: bytes, draft: str, length: int) -> int:
    """Open a draft to read its first bytes, locked by somebody or not; raises DraftLost if it has not as many."""
    check_draft(draft, length)
    try:
        descriptor = os.open(b"%b/%b" % (folder, draft.encode()), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise DraftLost(draft, "it is not there") from None
    size = os.fstat(descriptor).st_size
    if size < length:
        os.close(descriptor)
        raise DraftLost(draft, f"{length} bytes are wanted of {size}")
    return descriptor


def discard_kept(path: bytes) -> None:
    """Remove a draft if it is there; raises DraftHeld."""
    try:
        descriptor = lock_kept(path, make=False)
    except DraftHeld:
        raise
    except DraftLost:
        return
    try:
        os.unlink(path)
    finally:
        os.close(descriptor)


def _make_folder(folder: bytes) -> None:
    """Make a folder and those that it is in, so that their names are on the disk."""
    if os.path.isdir(folder):
        return
    above = os.path.dirname(folder)
    _make_folder(above)
    spreads_folders(above)
    with suppress(FileExistsError):
        os.mkdir(folder)
    descriptor = os.open(above, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _has_name(descriptor: int, path: bytes) -> bool:
    """Tell whether the open file is the one that the path names."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _name(path: bytes) -> str:
    return os.fsdecode(os.path.basename(path))
