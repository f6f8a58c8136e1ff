"""Make new files where the file system finds room for them at once.

ext4 looks for a new file's inode in the group of inodes that the file's folder is in, from its first one on. Without a
journal, as in many virtual machines, it passes over those that were freed in the last minutes, one by one: 0.2 to 1 ms
of processor time for each new file was measured where files come and go, 0.02 ms elsewhere. New folders are usually put
into the group of the one that they are in. In one that is marked as the top of a hierarchy they are spread over all
groups instead, to the ones with the fewest folders. So drafts take turns in folders within one that is so marked.

They stay, as the folders that locks are in do. A file system that does not take the mark gets no folders.

Source:
    chattr(1), T: "the directory will be deemed to be the top of directory hierarchies for the purposes of the Orlov
    block allocator". ext4: fs/ext4/ialloc.c, recently_deleted() and find_group_orlov().
"""

# Paths are bytes here, as keys are, and pathlib knows only text.
# ruff: noqa: PTH102, PTH103, PTH112

import array
import fcntl
import os
import secrets
from contextlib import suppress

__all__ = ["DRAFT_FOLDERS", "DraftFolders", "spreads_folders"]

DRAFT_FOLDERS = 64
_DRAFTS_IN_TURN = 1024
"""Files that are made in one folder before the next one's turn; shorter turns were slower."""

_GET_FLAGS, _SET_FLAGS = 0x80086601, 0x40086602
"""FS_IOC_GETFLAGS and FS_IOC_SETFLAGS on 64-bit systems; others refuse them."""
_TOP_OF_HIERARCHY = 0x00020000
"""FS_TOPDIR_FL."""

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


class DraftFolders:
    """New files with names of their own in `top`, or in folders within it. It is made when first needed.

    Threads may ask at the same time: at worst, one of them begins a turn early.
    """

    def __init__(self, top: bytes) -> None:
        self._top = top
        self._folder: bytes | None = None
        self._left = 0
        self._spreads = False

    def make(self) -> tuple[int, bytes]:
        """Make a file, open to be read and written; return descriptor and path."""
        folder = self._folder
        if folder is None or self._left <= 0:
            folder = self._next()
        self._left -= 1
        name = secrets.token_hex(12).encode()
        path = b"%b/%b" % (folder, name)
        try:
            return os.open(path, _NEW, 0o666), path
        except FileNotFoundError:  # its bucket was removed, and perhaps made again
            path = b"%b/%b" % (self._next(), name)
            return os.open(path, _NEW, 0o666), path

    def open(self, count: int) -> int:
        """Open the folder whose turn it is, for some number of files that the caller makes in it; return it."""
        folder = self._folder
        if folder is None or self._left <= 0:
            folder = self._next()
        self._left -= count
        try:
            return os.open(folder, _FOLDER)
        except FileNotFoundError:  # as above
            return os.open(self._next(), _FOLDER)

    def _next(self) -> bytes:
        """Return the folder whose turn begins."""
        self._left = _DRAFTS_IN_TURN
        if self._folder is None or not os.path.isdir(self._top):
            os.makedirs(self._top, exist_ok=True)
            self._spreads = spreads_folders(self._top)
        folder = self._top
        if self._spreads:
            folder = b"%b/%02x" % (self._top, secrets.randbelow(DRAFT_FOLDERS))
            with suppress(FileExistsError):
                os.mkdir(folder)
        self._folder = folder
        return folder


def spreads_folders(path: bytes) -> bool:
    """Have folders that are made in this one spread over the disk, where that can be; tell whether they are."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        flags = array.array("l", [0])
        fcntl.ioctl(descriptor, _GET_FLAGS, flags)
        if flags[0] & _TOP_OF_HIERARCHY:
            return True
        flags[0] |= _TOP_OF_HIERARCHY
        fcntl.ioctl(descriptor, _SET_FLAGS, flags)
        fcntl.ioctl(descriptor, _GET_FLAGS, flags)
        return bool(flags[0] & _TOP_OF_HIERARCHY)
    except OSError:  # another file system, or another person's folder
        return False
    finally:
        os.close(descriptor)
