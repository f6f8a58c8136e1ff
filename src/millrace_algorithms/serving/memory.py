"""Keep freed memory for the next payload.

By default the C library gives freed megabytes back to the system, and each payload of some megabytes pays again for
thousands of page faults: measured with 6 MB payloads, 4 of the server's 6 ms a payload, and 1 of a worker's 20.
"""

import ctypes

__all__ = ["keep_freed_memory"]

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # of mallopt(3)

KEPT_BYTES = 64 * 1024 * 1024
"""Free memory at the top of the heap that is kept."""
_MAPPED_FROM_BYTES = 32 * 1024 * 1024
"""Larger blocks come from the system and go back at once; the largest that glibc allows."""
_GROWTH_BYTES = 8 * 1024 * 1024


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory; elsewhere do nothing."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    for parameter, value in (
        (_TRIM_THRESHOLD, KEPT_BYTES),
        (_TOP_PAD, _GROWTH_BYTES),
        (_MMAP_THRESHOLD, _MAPPED_FROM_BYTES),
    ):
        mallopt(parameter, value)
