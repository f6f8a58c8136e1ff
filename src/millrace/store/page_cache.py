"""Tell whether a range of a file can be read without waiting for the disk."""

import os

__all__ = ["is_cached"]

_WITHOUT_WAITING = getattr(os, "RWF_NOWAIT", 0)
"""0 where the system can't tell."""


def is_cached(descriptor: int, start: int, size: int) -> bool:
    """Return whether the first and the last byte are in memory, and so most likely what is between.

    A hop to a thread takes about as long as copying a megabyte from the page cache; a wrong guess waits for the disk
    once.
    """
    if not _WITHOUT_WAITING:
        return False
    byte = bytearray(1)
    try:
        return all(os.preadv(descriptor, [byte], place, _WITHOUT_WAITING) for place in (start, start + size - 1))
    except OSError:  # not in memory, or a file system that can't tell
        return False
