"""Open files below a folder that a program may change meanwhile, without being led out of it.

A container shares folders with its agent. Whatever it puts there, a symbolic link in place of a folder or of a file,
must not make the agent read or write elsewhere: links that mean something inside a container mean something else here.
"""

import os
import stat
from pathlib import Path

__all__ = ["open_below", "open_folder", "read_head"]

_SAFE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
"""Not to follow a link; and not to wait for the other end of a pipe that stands where a file is expected."""


def open_folder(folder: int | Path, relative: str) -> int:
    """Return a descriptor of a folder below another, no component of its path being a link.

    Args:
        folder: The folder that holds; its own path is trusted.
        relative: Components divided by slashes; "" is the folder itself.

    Raises:
        OSError: There is none, or a component is a link or no folder (ELOOP, ENOTDIR).
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | _SAFE
    held = os.open(folder, flags) if isinstance(folder, Path) else os.open(".", flags, dir_fd=folder)
    for part in relative.split("/"):
        if part in ("", "."):
            continue
        if part == "..":
            os.close(held)
            raise ValueError(f"{relative!r} has a '..'")
        try:
            inner = os.open(part, flags, dir_fd=held)
        finally:
            os.close(held)
        held = inner
    return held


def open_below(folder: int | Path, relative: str) -> int:
    """Return a descriptor for reading a regular file below a folder, no component of its path being a link.

    Raises:
        OSError: There is none, or it is no regular file, or a component is a link.
    """
    parent, _, name = relative.rpartition("/")
    held = open_folder(folder, parent)
    try:
        descriptor = os.open(name, os.O_RDONLY | _SAFE, dir_fd=held)
    finally:
        os.close(held)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError(f"{relative} is no regular file")
    return descriptor


def read_head(folder: Path, relative: str, limit: int) -> bytes:
    """Return the first bytes of a file that a program may have left, b"" if there is none."""
    try:
        with os.fdopen(open_below(folder, relative), "rb") as file:
            return file.read(limit)
    except OSError:
        return b""
