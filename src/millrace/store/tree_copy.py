"""Copy folders of objects, logs and the like while others write there.

Files of Millrace are replaced as a whole or only grow, so each file that is opened can be copied without a lock. One
that is gone when it is opened was deleted since its folder was read, and is left out.
"""

import os
import stat as stat_bits
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CopiedTree", "copy_tree"]

_COPY_BYTES = 1 << 30


@dataclass
class CopiedTree:
    """What was copied so far."""

    files: int = 0
    bytes: int = 0

    def __add__(self, other: "CopiedTree") -> "CopiedTree":
        return CopiedTree(files=self.files + other.files, bytes=self.bytes + other.bytes)


def copy_tree(
    source: Path,
    target: Path,
    *,
    skip: Callable[[Path], bool] = lambda path: False,
    on_file: Callable[[os.stat_result, os.stat_result], None] = lambda old, new: None,
) -> CopiedTree:
    """Copy what is in a folder, with modes, times and extended attributes; links are copied as links.

    Args:
        source: The folder; it may be missing.
        target: The folder to make.
        skip: Says of a path relative to the source whether it is left out.
        on_file: Told of each file as it was and as it is in the copy.
    """
    copied = CopiedTree()
    pending = [Path()]
    while pending:
        relative = pending.pop()
        try:
            entries = list(os.scandir(source / relative))
            mode = stat_bits.S_IMODE((source / relative).stat().st_mode)
        except FileNotFoundError:
            continue
        folder = target / relative
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(mode)
        for entry in entries:
            inner = relative / entry.name
            if skip(inner):
                continue
            with suppress(FileNotFoundError):
                if entry.is_symlink():
                    (target / inner).symlink_to(Path(entry.path).readlink())
                elif entry.is_dir(follow_symlinks=False):
                    pending.append(inner)
                elif entry.is_file(follow_symlinks=False):
                    old, new = _copy_file(Path(entry.path), target / inner)
                    copied.files += 1
                    copied.bytes += new.st_size
                    on_file(old, new)
    return copied


def _copy_file(source: Path, target: Path) -> tuple[os.stat_result, os.stat_result]:
    """Copy the bytes that a file has when it is opened; file systems that can do so share them."""
    with source.open("rb") as reading, target.open("xb") as writing:
        old = os.fstat(reading.fileno())
        position = 0
        while position < old.st_size:
            count = min(_COPY_BYTES, old.st_size - position)
            try:
                done = os.copy_file_range(reading.fileno(), writing.fileno(), count, position, position)
            except OSError:  # between file systems of which one can't
                done = os.sendfile(writing.fileno(), reading.fileno(), position, count)
            if not done:
                break
            position += done
        for name in os.listxattr(reading.fileno()):
            with suppress(OSError):  # of a kind that the other file system, or this user, can't write
                os.setxattr(writing.fileno(), name, os.getxattr(reading.fileno(), name))
        os.fchmod(writing.fileno(), stat_bits.S_IMODE(old.st_mode))
    os.utime(target, ns=(old.st_atime_ns, old.st_mtime_ns))
    return old, target.stat()
