"""Count the bytes of a folder."""

from pathlib import Path

__all__ = ["folder_size"]


def folder_size(folder: Path) -> int:
    """Return the bytes of a folder's files, as far as they can be seen."""
    total = 0
    for path in folder.rglob("*"):
        try:
            if path.is_file() and not path.is_symlink():
                total += path.stat().st_size
        except OSError:
            continue
    return total
