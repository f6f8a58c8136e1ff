"""Write new objects into the files that replaced ones have left, rather than into new files.

A file system may take long to find an inode for a new file: ext4 passes over those that were freed in the last minutes,
one by one, so that storing over the same keys again and again took 0.22 ms of processor time for creating each file,
and 0.015 where little was deleted. What is neither freed nor made costs nothing.

A replaced object's file is used again only if nobody can tell: it is small, has no other link, nobody has it open, and
its owner, mode and attributes are those of a new file of ours. Whether it is open is asked by a write lease, which the
kernel grants only to who alone has a file open; mapped files count as open. It is cut to nothing at once: nobody finds
old bytes there, and pages that are still on their way to somebody's socket stay what they are.

Source:
    fcntl(2), F_SETLEASE: "A write lease may be placed on a file only if there are no other open file descriptors for
    the file."
"""

# Paths are bytes here, as keys are, and pathlib knows only text.
# ruff: noqa: PTH103, PTH104, PTH108

import fcntl
import os
from contextlib import suppress

from millrace.store.facts import ATTRIBUTE

__all__ = ["RECYCLED_BYTES", "RecycledFiles"]

RECYCLED_BYTES = 64 * 1024
"""Larger files are not worth keeping: their room on the disk would be missed, and what they cost is writing them."""

_OURS: tuple[list[str], ...] = ([], [ATTRIBUTE])


class RecycledFiles:
    """Files without a place among the objects, open, and locked as drafts are.

    Args:
        max_files: Files that are kept at most, over all folders; 0 keeps none.
    """

    def __init__(self, max_files: int) -> None:
        self._max_files = max_files
        self._count = 0
        self._kept: dict[bytes, list[tuple[int, bytes]]] = {}

    @property
    def wants_more(self) -> bool:
        """Whether `give` would keep a file."""
        return self._count < self._max_files

    def take(self, folder: bytes) -> tuple[int, bytes] | None:
        """Return descriptor and path of an empty file in a folder, which is the caller's from now on; None if none."""
        kept = self._kept.get(folder)
        while kept:
            descriptor, path = kept.pop()
            self._count -= 1
            try:
                if os.fstat(descriptor).st_nlink:  # else a person has removed it, or its whole folder
                    return descriptor, path
            except OSError:
                pass
            os.close(descriptor)
        return None

    def give(self, folder: bytes, path: bytes, like: os.stat_result) -> None:
        """Keep a file that has lost its place in a folder, or remove it.

        Args:
            folder: Where it is kept; on the same file system, made if it is missing.
            path: The file.
            like: The stat of a file that was just made.
        """
        descriptor = _claimed(path, like) if self.wants_more else None
        if descriptor is None:
            with suppress(FileNotFoundError):
                os.unlink(path)
            return
        self._count += 1
        self._kept.setdefault(folder, []).append((descriptor, _moved(path, folder)))

    def close(self) -> None:
        """Remove what is kept."""
        for descriptor, path in (file for files in self._kept.values() for file in files):
            with suppress(OSError):
                os.unlink(path)
            os.close(descriptor)
        self._kept.clear()
        self._count = 0


def _moved(path: bytes, folder: bytes) -> bytes:
    """Move a file to a folder, where it is not there already, and return its path."""
    parent, name = os.path.split(path)
    if parent == folder:
        return path
    place = b"%b/%b" % (folder, name)
    try:
        os.rename(path, place)
    except FileNotFoundError:
        os.makedirs(folder, exist_ok=True)
        os.rename(path, place)
    return place


def _claimed(path: bytes, like: os.stat_result) -> int | None:
    """Return a locked descriptor of a file that nobody else has anything of, or None."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        stat = os.fstat(descriptor)
        is_plain = (
            stat.st_nlink == 1
            and stat.st_size <= RECYCLED_BYTES
            and (stat.st_mode, stat.st_uid, stat.st_gid) == (like.st_mode, like.st_uid, like.st_gid)
            and os.listxattr(descriptor) in _OURS
        )
        if is_plain:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            os.ftruncate(descriptor, 0)
            return descriptor
    except OSError:  # somebody has it open, or the file system can't tell
        pass
    os.close(descriptor)
    return None
