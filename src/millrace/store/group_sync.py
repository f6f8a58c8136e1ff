"""Put groups of files on the disk by one call for their whole file system, where that says as much as one for each.

Each sync of a file makes the disk write what the next one has to write again: blocks with inodes of several files, the
map of free ones, the folder. One syncfs(2) writes each once: 12 us for a file was measured in groups of 256, against
140 us for syncs of one file each.

What it promises is as good only where

* it tells of errors. Since Linux 5.8 "syncfs() will fail with EIO if one or more inodes failed to be written since the
  last call" on the same descriptor; so that is opened before the files are written. Which file it was it does not say:
  the whole group counts as not written.
* the file system itself waits until all of it is on the disk. A list says of which we know that.

It also waits for what everybody else has written. If that took long, it isn't used for a while.

Source:
    syncfs(2), section "Errors" and "Versions"; statfs(2), for the numbers of file systems.
"""

# Paths are bytes here, as keys are, and pathlib knows only text.
# ruff: noqa: PTH116

import ctypes
import errno
import os
import platform
import re
import time
from collections.abc import Callable
from functools import partial
from threading import Lock

__all__ = ["GroupSync"]

SLOW_SECONDS = 2.0
"""A call that takes longer waits for others' bytes: our own group has a few megabytes."""
PAUSE_SECONDS = 30.0
"""Time for which it is not used then; about that long the kernel itself keeps bytes back."""

_KNOWN = frozenset({0xEF53, 0x58465342, 0x9123683E, 0x01021994})
"""ext2 to ext4, XFS, Btrfs, and tmpfs, which has nothing to wait for."""
_TELLS_ERRORS = (5, 8)

_libc = ctypes.CDLL(None, use_errno=True)


class GroupSync:
    """Syncs file systems, each by a descriptor that stays open."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._descriptors: dict[int, int | None] = {}
        """By the number of the file system; None of those that need a sync of each file."""
        self._not_before: dict[int, float] = {}
        self._errors: dict[int, int] = {}
        """How many calls have failed: an error is told once, and may be about the files of all who call at the time."""
        self._lock = Lock()

    def begin(self, folder: bytes) -> Callable[[], None] | None:
        """Return what syncs all that is written from now on to a folder's file system; None if each file needs its own.

        It may run in a thread, and raises OSError if anything may not be on the disk.
        """
        device = os.stat(folder).st_dev
        if device not in self._descriptors:
            self._descriptors[device] = _opened(folder)
        descriptor = self._descriptors[device]
        if descriptor is None or self._monotonic() < self._not_before.get(device, 0.0):
            return None
        return partial(self._sync, device, descriptor, self._errors.get(device, 0))

    def close(self) -> None:
        """Close the descriptors."""
        for descriptor in self._descriptors.values():
            if descriptor is not None:
                os.close(descriptor)
        self._descriptors.clear()

    def _sync(self, device: int, descriptor: int, errors: int) -> None:
        with self._lock:
            started = self._monotonic()
            number = ctypes.get_errno() if _libc.syncfs(descriptor) != 0 else 0
            ended = self._monotonic()
            if ended - started > SLOW_SECONDS:
                self._not_before[device] = ended + PAUSE_SECONDS
            if number:
                self._errors[device] = self._errors.get(device, 0) + 1
            elif self._errors.get(device, 0) != errors:
                number = errno.EIO
        if number:
            raise OSError(number, os.strerror(number))


def _opened(folder: bytes) -> int | None:
    """Return a descriptor to sync the file system of a folder by, None if that is not good enough."""
    numbers = re.match(r"(\d+)\.(\d+)", platform.release())
    if platform.system() != "Linux" or not numbers or tuple(map(int, numbers.groups())) < _TELLS_ERRORS:
        return None
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    # struct statfs begins with its number on each 64-bit system, and is shorter than this.
    found = (ctypes.c_long * 64)()
    if _libc.fstatfs(descriptor, found) == 0 and found[0] in _KNOWN:
        return descriptor
    os.close(descriptor)
    return None
