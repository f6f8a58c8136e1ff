"""Remove a folder whose contents others wrote, whatever depth and modes they gave it."""

import os
import shutil
import stat
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["remove_folder"]


def remove_folder(folder: Path) -> None:
    """Remove a folder and all below it, as far as its owner can; what is gone already is no fault.

    Programs of containers, and overlayfs, leave folders that not even their owner may enter or change.
    """
    if not folder.is_symlink():
        try:
            _remove(folder)
        except RecursionError:  # deeper than Python's stack
            for command in (("chmod", "-R", "u+rwX"), ("rm", "-rf")):
                subprocess.run([*command, "--", folder], stdin=subprocess.DEVNULL, capture_output=True, check=False)


def _remove(folder: Path) -> None:
    failed = False

    def note(*_: Any) -> None:
        nonlocal failed
        failed = True

    shutil.rmtree(folder, onerror=note)
    if failed and folder.is_dir():
        _open_up(folder)
        for path, names, _ in os.walk(folder):
            for name in names:  # before the walk goes into them
                _open_up(Path(path, name))
        shutil.rmtree(folder, ignore_errors=True)


def _open_up(folder: Path) -> None:
    with suppress(OSError):
        mode = folder.lstat().st_mode
        if stat.S_ISDIR(mode) and mode & stat.S_IRWXU != stat.S_IRWXU:
            folder.chmod(stat.S_IMODE(mode) | stat.S_IRWXU)
