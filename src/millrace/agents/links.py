"""Where a symbolic link leads, as the program that made it saw it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

__all__ = ["Follow", "follow_here", "follow_in_container"]

MAX_HOPS = 40
"""As many links on one way as Linux follows."""

_OPT_ML = "/opt/ml/"

Follow = Callable[[Path], Path | None]
"""Returns the file or folder that a link leads to in the end, None if that is not to be had."""


def follow_here(link: Path) -> Path | None:
    """Follow a link of a program that sees this machine's own files."""
    try:
        return link.resolve(strict=True)
    except (OSError, RuntimeError):  # a loop
        return None


def follow_in_container(opt_ml: Path) -> Follow:
    """Return how to follow the links of a container that sees a folder of ours as /opt/ml, and else files of its own.

    What leads out of /opt/ml is not to be had: its root is gone, and here the same name is another file.
    """
    return partial(_follow_below, opt_ml)


def _follow_below(opt_ml: Path, link: Path) -> Path | None:
    waiting = list(reversed(link.relative_to(opt_ml).parts))
    reached: list[str] = []
    hops = 0
    while waiting:
        part = waiting.pop()
        if part in ("", "."):
            continue
        if part == "..":
            if not reached:
                return None
            reached.pop()
            continue
        path = opt_ml.joinpath(*reached, part)
        if not path.is_symlink():
            reached.append(part)
            continue
        hops += 1
        text = str(path.readlink())
        if hops > MAX_HOPS or (text.startswith("/") and not text.startswith(_OPT_ML)):
            return None
        if text.startswith("/"):
            reached.clear()
        waiting += reversed(text.removeprefix(_OPT_ML).split("/"))
    target = opt_ml.joinpath(*reached)
    return target if target.exists() else None
