"""See a pile of layers as the one file system that a container gets, without mounting it.

Paths are relative to the image's root, with parts between slashes and neither `.` nor `..`; "" is the root itself.
Links are followed as inside the image: an absolute target begins at its root, and `..` never leads out.
"""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from millrace.runtimes.sandbox_root import find_lower

__all__ = ["TooManyLinks", "View", "clean_path"]

MAX_LINKS = 40


class TooManyLinks(OSError):
    """Links lead in a circle."""


def clean_path(path: str, *, below: str = "") -> str:
    """Return an absolute or relative path as one relative to the root; `..` stops there."""
    parts: list[str] = [] if path.startswith("/") else [part for part in below.split("/") if part]
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


class View:
    """Layers, lowest first, over the machine's skeleton and grafts; or a single folder by itself."""

    def __init__(self, layers: Sequence[Path], *, skeleton: Path | None = None, grafts: Sequence[str] = ()) -> None:
        self._lowest_first = tuple(layers)
        self._layers = self._lowest_first[::-1]
        self._has_marks = skeleton is not None
        """Whether whiteouts are such; in a single folder they are devices."""
        self._skeleton = skeleton
        self._grafts = tuple(grafts)

    def find(self, path: str) -> Path | None:
        """Return where an entry really lies, its last part not followed if it is a link; None if there is none."""
        parts = path.split("/") if path else []
        for layer in self._layers:
            place, reached, is_last = layer, True, False
            for number, part in enumerate(parts):
                place = place / part
                status = _lstat(place)
                if status is None:
                    reached = False
                    break
                if self._has_marks and _is_whiteout(place, status):
                    return None
                if number + 1 < len(parts) and not stat.S_ISDIR(status.st_mode):
                    return None
                is_last = is_last or (self._has_marks and _is_opaque(place, status))
            if reached:
                return place
            if is_last:
                return None
        machine = self._machine(path)
        return machine if machine is not None and _lstat(machine) is not None else None

    def lstat(self, path: str) -> os.stat_result | None:
        """Return what an entry is, or None."""
        place = self.find(path)
        return None if place is None else _lstat(place)

    def resolve(self, path: str) -> str:
        """Return the path with all links followed, as far as there is something.

        Raises:
            TooManyLinks: Links lead in a circle.
        """
        todo = list(reversed(path.split("/"))) if path else []
        done = ""
        links = 0
        while todo:
            part = todo.pop()
            if part in ("", "."):
                continue
            if part == "..":
                done = done.rpartition("/")[0]
                continue
            here = f"{done}/{part}" if done else part
            place = self.find(here)
            status = None if place is None else _lstat(place)
            if place is None or status is None or not stat.S_ISLNK(status.st_mode):
                done = here
                continue
            links += 1
            if links > MAX_LINKS:
                raise TooManyLinks(f"{path}: more than {MAX_LINKS} links on the way")
            target = str(place.readlink())
            if target.startswith("/"):
                done = ""
            todo += reversed(target.split("/"))
        return done

    def is_folder(self, path: str) -> bool:
        """Whether a path, links followed, is a folder."""
        status = self.lstat(self.resolve(path))
        return status is not None and stat.S_ISDIR(status.st_mode)

    def list(self, path: str) -> Sequence[str]:
        """Return the names in a folder (a resolved path), sorted."""
        return [name for name, _ in self.scan(path)]

    def scan(self, path: str) -> Sequence[tuple[str, Path]]:
        """Return the names in a folder (a resolved path), sorted, and where each entry really lies."""
        found: dict[str, Path] = {}
        hidden: set[str] = set()
        folders, reaches_machine = find_lower(self._lowest_first, path)
        for folder in folders:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name in found or entry.name in hidden:
                        continue
                    here = folder / entry.name
                    if self._has_marks and _is_whiteout(here, entry.stat(follow_symlinks=False)):
                        hidden.add(entry.name)
                    else:
                        found[entry.name] = here
        machine = self._machine(path) if reaches_machine else None
        if machine is not None and machine.is_dir() and not machine.is_symlink():
            for here in machine.iterdir():
                if here.name not in hidden:
                    found.setdefault(here.name, here)
        return sorted(found.items())

    def _machine(self, path: str) -> Path | None:
        if self._skeleton is None:
            return None
        if any(path == graft or path.startswith(f"{graft}/") for graft in self._grafts):
            return Path("/", path)
        return self._skeleton / path


def _lstat(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _is_whiteout(path: Path, status: os.stat_result) -> bool:
    if stat.S_ISCHR(status.st_mode):
        return status.st_rdev == 0
    return stat.S_ISREG(status.st_mode) and status.st_size == 0 and _has_mark(path, "user.overlay.whiteout")


def _is_opaque(path: Path, status: os.stat_result) -> bool:
    if not stat.S_ISDIR(status.st_mode):
        return False
    try:
        return os.getxattr(path, "user.overlay.opaque", follow_symlinks=False) == b"y"
    except OSError:
        return False


def _has_mark(path: Path, name: str) -> bool:
    try:
        os.getxattr(path, name, follow_symlinks=False)
    except OSError:
        return False
    return True
