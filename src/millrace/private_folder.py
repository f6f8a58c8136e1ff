"""Keep a data directory to its owner."""

import stat
from pathlib import Path

from millrace.errors import UsageError

__all__ = ["make_private_folder"]


def make_private_folder(folder: Path, *, known_by: str) -> None:
    """Make a folder that only its owner may enter; an existing one is closed to others if it is ours.

    It is ours if it is empty or holds a file called `known_by`. One that held other things before us keeps its mode.

    Raises:
        UsageError: The folder is one that all users share, such as /tmp, or can't be made or read.
    """
    try:
        is_ours = not folder.exists() or (folder / known_by).exists() or not any(folder.iterdir())
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        mode = folder.stat().st_mode
        if mode & stat.S_ISVTX:
            raise UsageError(f"{folder} is shared by all users of this machine: name a folder of its own")
        if is_ours and mode & 0o077:
            folder.chmod(stat.S_IMODE(mode) & 0o700)
    except OSError as exc:
        raise UsageError(f"data directory {folder}: {exc.strerror}") from exc
