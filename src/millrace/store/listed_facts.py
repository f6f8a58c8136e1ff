"""Remember what has been read about files, for as long as the files are what they were.

Listings ask for the facts of a thousand files at a time, and clients list the same keys again and again. The time of
the last change of a file's inode changes with its bytes and with its attributes, so one stat tells whether what is
remembered still holds. A change that is so young that another one might have the same time is not remembered.
"""

import os
from time import time_ns

from millrace.ports.objects import ObjectInfo

__all__ = ["ListedFacts"]

_STILL_NS = 50_000_000
"""Longer than the coarsest tick of a file system's clock in use (10 ms), several times over."""

Version = tuple[int, int, int]


class ListedFacts:
    """Facts of listed files by path.

    Args:
        max_files: Files that are remembered; all are forgotten when there are more.
    """

    def __init__(self, max_files: int) -> None:
        self._max_files = max_files
        self._kept: dict[bytes, tuple[Version, ObjectInfo]] = {}

    def find(self, bucket: str, path: bytes, stat: os.stat_result) -> ObjectInfo | None:
        """Return what is remembered of a file, if it still holds; of another bucket's that the file is in, nothing."""
        kept = self._kept.get(path)
        if kept is None:
            return None
        version, info = kept
        # A user's folder may be a bucket, and a folder within it another one.
        same = version == (stat.st_ino, stat.st_ctime_ns, stat.st_size) and info.ref.bucket == bucket
        return info if same else None

    def keep(self, path: bytes, stat: os.stat_result, info: ObjectInfo) -> None:
        """Remember a file, unless it has changed just now."""
        if time_ns() - stat.st_ctime_ns < _STILL_NS:
            return
        if len(self._kept) >= self._max_files:
            self._kept.clear()
        self._kept[path] = ((stat.st_ino, stat.st_ctime_ns, stat.st_size), info)
