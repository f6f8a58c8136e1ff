"""Open files below a folder that a program may change meanwhile, without being led out of it.

A container shares folders with its agent. Whatever it puts there, a symbolic link in place of a folder or of a file,
must not make the agent read or write elsewhere: links that mean something inside a container mean something else here.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["is_folder", "iter_files", "open_below", "open_folder", "read_head"]

_SAFE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
"""Not to follow a link; and not to wait for the other end of a pipe that stands where a file is expected."""


def open_folder(folder: int | Path, relative: str) -> int:
    """Return a descriptor of a folder below another, no component of its path being a link.

    Args:
        folder: The folder that holds; its own path is trusted.
        relative: Components divided by slashes; "" is the folder itself.

    Raises:
        FileNotFoundError: There is none.
        NotADirectoryError: A component is a link, or no folder.
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
            inner = os.open(part, flags, dir_fd=held)  # of a link with O_DIRECTORY the kernel says ENOTDIR
        finally:
            os.close(held)
        held = inner
    return held


def is_folder(folder: Path, relative: str) -> bool:
    """Return whether there is a folder below another, no component of its path being a link."""
    try:
        os.close(open_folder(folder, relative))
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def open_below(folder: int | Path, relative: str) -> int:
    """Return a descriptor for reading a regular file below a folder, no component of its path being a link.

    Raises:
        FileNotFoundError: There is none, or it is a link or no regular file.
        NotADirectoryError: A component on the way is a link, or no folder.
    """
    parent, _, name = relative.rpartition("/")
    held = open_folder(folder, parent)
    try:
        descriptor = os.open(name, os.O_RDONLY | _SAFE, dir_fd=held)
    except OSError as exc:
        if exc.errno in (errno.ELOOP, errno.ENXIO):  # a link; a socket
            raise FileNotFoundError(f"{relative} is no regular file") from exc
        raise
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


def iter_files(folder: int) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the regular files below a folder, by relative name; links are neither followed nor yielded.

    What vanishes meanwhile is passed over; a folder that can't be read raises, for its files are not gone.
    """
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        try:
            held = open_folder(folder, inside)
        except (FileNotFoundError, NotADirectoryError):
            continue
        try:
            with os.scandir(held) as entries:
                for entry in entries:
                    name = f"{inside}/{entry.name}" if inside else entry.name
                    with suppress(FileNotFoundError):
                        status = entry.stat(follow_symlinks=False)
                        if stat.S_ISDIR(status.st_mode):
                            waiting.append(name)
                        elif stat.S_ISREG(status.st_mode):
                            yield name, status
        finally:
            os.close(held)
