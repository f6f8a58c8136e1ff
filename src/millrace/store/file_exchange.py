"""Let two files change places at once: the new one is where the old one was, and the old one is not gone."""

import ctypes

__all__ = ["exchange"]

_HERE = -100
"""AT_FDCWD."""
_EXCHANGE = 2
"""RENAME_EXCHANGE."""

_libc = ctypes.CDLL(None, use_errno=True)
_renameat2 = getattr(_libc, "renameat2", None)
if _renameat2 is not None:
    _renameat2.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)


def exchange(path: bytes, folder: int, name: bytes) -> bool:
    """Exchange the file at `path` and the one with a name in an open folder; return False where that can't be done.

    Source:
        rename(2), RENAME_EXCHANGE: "Atomically exchange oldpath and newpath. Both pathnames must exist".
    """
    return _renameat2 is not None and bool(_renameat2(_HERE, path, folder, name, _EXCHANGE) == 0)
