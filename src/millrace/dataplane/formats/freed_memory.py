"""Give memory that was freed back to the system."""

import ctypes
from collections.abc import Callable
from functools import cache

import pyarrow as pa

__all__ = ["release_freed"]


def release_freed() -> None:
    """Give back what pyarrow's pool keeps for this thread, and the C library for all of them.

    pyarrow keeps what it frees, 64 KiB and more at a time, in case that it is wanted again, and the C library what
    lies between objects that live: for a job's records, then for its answers, then for its table, one beside the other.
    """
    pa.default_memory_pool().release_unused()
    _trim()(0)


@cache
def _trim() -> Callable[[int], object]:
    """Return malloc_trim(3), or what does nothing where the C library has none."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return lambda _: None
