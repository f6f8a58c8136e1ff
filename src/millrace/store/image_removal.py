"""Remove what no image needs: layers, images without tag, drafts of killed builds.

A layer that a build has just found in its cache belongs to no image yet. So nothing is removed while a build runs.
"""

import fcntl
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from millrace.folder_removal import remove_folder
from millrace.store.image_files import ImageFiles, read_document

__all__ = ["Unused", "find_unused", "remove_unused", "sweep_drafts"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Unused:
    """What may go: digests of images, keys of steps, ids of layers, and the bytes of those layers."""

    images: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    size: int = 0

    def __bool__(self) -> bool:
        return bool(self.images or self.steps or self.layers)


def find_unused(images: ImageFiles, *, in_use: frozenset[str], before: datetime | None = None) -> Unused:
    """Return the images that have no tag, and the layers that no other image has.

    Args:
        in_use: Digests that unfinished jobs and endpoints run. Those that a process holds are never unused.
        before: Only what is older than that; None is all.
    """
    with ExitStack() as locks:
        return _find(images, in_use, before, locks)


def remove_unused(images: ImageFiles, *, in_use: frozenset[str], before: datetime | None = None) -> Unused | None:
    """Remove what `find_unused` finds, and return it; None if a build runs, which may need any of it.

    It may be killed at any instant: an image goes before its layers, a step before its layer.
    """
    with images.removing() as is_alone, ExitStack() as locks:
        if not is_alone:
            return None
        unused = _find(images, in_use, before, locks)
        for digest in unused.images:
            images.manifest_file(digest).unlink(missing_ok=True)
            images.image_lock(digest).unlink(missing_ok=True)
        for key in unused.steps:
            (images.folder / "steps" / key).unlink(missing_ok=True)
            (images.folder / "locks" / key).unlink(missing_ok=True)  # no build runs that could wait for it
        for layer in unused.layers:
            images.drop_layer(layer)
        return unused


def _find(images: ImageFiles, in_use: frozenset[str], before: datetime | None, locks: ExitStack) -> Unused:
    """Find what is unused, and take the locks of images that may go: who wants to run one waits, and finds it gone."""
    needed = in_use | {it.digest for it in images.list_tags()}
    gone: list[str] = []
    layers: set[str] = set()
    for file in _entries(images.folder / "manifests"):
        digest = f"sha256:{file.stem}"
        manifest = images.read(digest)
        if manifest is None:
            continue
        if digest in needed or not _is_older(file, before) or not _claim(images.image_lock(digest), locks):
            layers.update(manifest.layers)
        else:
            gone.append(digest)
    steps: list[str] = []
    known: set[str] = set()
    size = 0
    for file in _entries(images.folder / "steps"):
        document = read_document(file)
        if document is None:
            continue
        layer = document["layer"]
        if layer in layers or not _is_older(file, before):
            known.add(layer)
        else:
            steps.append(file.name)
            size += int(document["size"])
    dropped = [
        folder.name
        for folder in _entries(images.folder / "layers")
        if folder.name not in layers and folder.name not in known and _is_older(folder, before)
    ]
    return Unused(images=tuple(gone), steps=tuple(steps), layers=tuple(dropped), size=size)


def _claim(file: Path, locks: ExitStack) -> bool:
    """Take the lock of an image for as long as `locks` lives; False if a process runs the image."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = locks.enter_context(file.open("ab"))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def sweep_drafts(images: ImageFiles) -> int:
    """Remove what killed builds left; return how many drafts went."""
    swept = 0
    for lock_file in (images.folder / "drafts").glob("*.lock"):
        try:
            with lock_file.open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove_folder(lock_file.with_suffix(""))
                lock_file.unlink(missing_ok=True)
                swept += 1
        except (BlockingIOError, FileNotFoundError):
            continue
    return swept


def _is_older(path: Path, before: datetime | None) -> bool:
    """Whether something has been in its place since before a moment: renaming sets the time of change."""
    return before is None or datetime.fromtimestamp(path.lstat().st_ctime, UTC) < before


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []
