"""Give a transform without a server a folder of its own, and remove those of transforms that were killed.

Who has a folder holds a lock on it, which goes with the process however that ends: a folder without one is nobody's. A
folder gets its name once it is locked, so that there is no moment at which another process takes a new one for such.
"""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from millrace.folder_removal import remove_folder

__all__ = ["scratch_folder"]

_PREFIX = "millrace-scratch-"
_UNNAMED = "millrace-new-"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield an empty folder below that of temporary files, which is removed at the end, or by the next transform."""
    parent = Path(tempfile.gettempdir())
    _remove_left_over(parent)
    folder = Path(tempfile.mkdtemp(prefix=_UNNAMED, dir=parent))
    lock = _locked(folder)
    assert lock is not None, "nobody else knows of it"
    try:
        folder = folder.rename(parent / folder.name.replace(_UNNAMED, _PREFIX, 1))
        yield folder
    finally:
        remove_folder(folder)
        os.close(lock)


def _remove_left_over(parent: Path) -> None:
    """Remove folders of this user's transforms that nobody holds."""
    with suppress(OSError), os.scandir(parent) as entries:
        found = [Path(entry.path) for entry in entries if entry.name.startswith(_PREFIX)]
        for folder in found:
            if (lock := _locked(folder)) is not None:
                remove_folder(folder)
                os.close(lock)


def _locked(folder: Path) -> int | None:
    """Return the lock on a folder of this user's; None where it is somebody's, or gone."""
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if os.fstat(lock).st_uid != os.geteuid():
            raise PermissionError(folder)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock
