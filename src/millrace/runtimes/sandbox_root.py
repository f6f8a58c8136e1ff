"""What a container's root is put together from: overlays of its layers, the skeleton and parts of the machine.

One overlay cannot show what is mounted below its lowest layers, and the skeleton holds no /usr. So each graft gets an
overlay of its own: the layers' folders of that path over the machine's. All overlays of a container share one upper
folder (a graft's is the folder of its path in there), so that what is written is one new layer. All are mounted with
`userxattr`, by names relative to one folder: the kernel takes at most a page of options.
"""

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from millrace.runtimes.syscalls import MountFlag, mount

__all__ = ["Overlay", "RootFolder", "find_link", "find_lower", "lay_out_root"]


_OPEN = 0o755


@dataclass(frozen=True, slots=True)
class Overlay:
    """One overlay mount. All paths but `target` are relative to the folder that it is mounted from."""

    target: str
    """Below the container's root; empty for the root itself."""
    options: str


@dataclass(frozen=True, slots=True)
class RootFolder:
    """A folder with everything that a root's mounts need; `root` is where they go."""

    folder: Path
    overlays: tuple[Overlay, ...]

    @property
    def root(self) -> Path:
        return self.folder / "root"

    def mount(self) -> None:
        """Mount all overlays; in a mount namespace of one's own, with the right to mount. Raises OSError."""
        os.chdir(self.folder)
        for overlay in self.overlays:
            mount("overlay", f"root/{overlay.target}", "overlay", MountFlag.NODEV, overlay.options)


def lay_out_root(
    folder: Path, *, layers: Sequence[Path], skeleton: Path, grafts: Sequence[str], upper: Path | None = None
) -> RootFolder:
    """Make the folders that a root's mounts need, in an empty folder.

    Args:
        folder: On the same file system as `upper`.
        layers: Lowest first.
        grafts: Folders of the machine, relative to its root.
        upper: What is written goes there and stays; None for the life of a container only.
    """
    for name in ("root", "lower", "upper"):
        (folder / name).mkdir(parents=True)
    writes = upper or folder / "upper"
    if upper is not None:
        (folder / "upper").rmdir()
        (folder / "upper").symlink_to(upper)
    overlays = []
    for number, target in enumerate(("", *grafts)):
        below, reaches_machine = find_lower(layers, target)
        machine = skeleton if not target else Path("/", target)
        sources = [*below, machine] if reaches_machine else below
        links = []
        for position, source in enumerate(sources):
            link = f"lower/{number}.{position}"
            (folder / link).symlink_to(source)
            links.append(link)
        (folder / f"work{number}").mkdir()
        _make_open(writes, target)
        # A container is never mounted a second time: what it wrote need not survive the machine.
        volatile = ",volatile" if upper is None else ""
        overlays.append(
            Overlay(
                target,
                f"lowerdir={':'.join(links)},upperdir=upper/{target},workdir=work{number},userxattr{volatile}",
            )
        )
    return RootFolder(folder, tuple(overlays))


def _make_open(writes: Path, target: str) -> None:
    """Make a folder that the merged one takes its mode from: open to the image's users, whatever our umask."""
    place = writes
    place.chmod(_OPEN)
    for part in Path(target).parts:
        place /= part
        if not place.exists():
            place.mkdir()
            place.chmod(_OPEN)


def find_lower(layers: Sequence[Path], path: str) -> tuple[list[Path], bool]:
    """Return a folder's parts in the layers (lowest first there), highest first, and whether the machine's shows too.

    A layer in which the path, or a folder on the way, is removed, opaque or no folder hides all below it.
    """
    found: list[Path] = []
    for layer in reversed(layers):
        place, is_last, exists = layer, False, True
        for part in Path(path).parts:
            place /= part
            try:
                mode = place.lstat().st_mode
            except FileNotFoundError:
                exists = False
                break
            if not stat.S_ISDIR(mode):
                return found, False
            is_last = is_last or _is_opaque(place)
        if exists:
            found.append(place)
        if is_last:
            return found, False
    return found, True


def find_link(layers: Sequence[Path], targets: Iterable[str]) -> str | None:
    """Return the first link that the layers (lowest first) put on the way to a mount's target, or None.

    Bubblewrap follows links when it makes what it mounts on, at a time when the machine's root can still be reached: a
    link of an image could have it make folders there.
    """
    for target in targets:
        path = ""
        for part in Path(target).relative_to("/").parts:
            path = f"{path}/{part}"
            for layer in reversed(layers):
                try:
                    mode = (layer / path[1:]).lstat().st_mode
                except (FileNotFoundError, NotADirectoryError):
                    continue
                if stat.S_ISLNK(mode):
                    return path
                break
    return None


def _is_opaque(folder: Path) -> bool:
    try:
        return os.getxattr(folder, "user.overlay.opaque", follow_symlinks=False) == b"y"
    except OSError:
        return False
