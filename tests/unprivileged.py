"""Have modes of files count for a test that root runs."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["unprivileged"]

_VERSION_3 = 0x20080522
_OVERRIDES = 1 << 1 | 1 << 2
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: whoever has them may open any file."""

_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Do without root's right to open any file, in this thread and in those that it starts."""
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable ones below 32, then those above
    if _libc.capget(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    effective = sets[0]
    sets[0] = effective & ~_OVERRIDES
    if _libc.capset(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capset")
    try:
        yield
    finally:
        sets[0] = effective
        _libc.capset(header, sets)
