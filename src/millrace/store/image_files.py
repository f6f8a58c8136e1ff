"""Images as files: layers as folders, manifests and tags as JSON documents, all put in place by renaming.

images/layers/<id>/              a layer, never changed
images/manifests/<hex>.json      an image, by its digest
images/tags/<repository>/<tag>   the digest that a tag stands for; / in repositories is written %2F
images/steps/<key>               the layer that an instruction made: the build's cache
images/locks/<key>               held by whoever makes that layer
images/locks/<hex>.image         held, shared, by processes that run that image
images/locks/store               held, shared, by builds; alone by whoever removes layers
images/drafts/<name>/            unfinished layers, and removed ones, each with a lock that ends with its process
"""

import fcntl
import json
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, unquote

from millrace.folder_removal import remove_folder
from millrace.ports.images import ImageConfig, ImageName, ImageStep, Manifest, TaggedImage
from millrace.store.disk_sync import sync_file_system, sync_folder

__all__ = ["ImageFiles", "read_document"]

_held: dict[Path, IO[bytes]] = {}
"""Locks of images that this process runs; never closed, they end with it."""


class ImageFiles:
    """The image store of one data directory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def folder(self) -> Path:
        """Where all of it lies."""
        return self._folder

    def find(self, name: ImageName) -> Manifest | None:
        digest = name.digest
        if digest is None:
            document = read_document(self._tag_file(name))
            if document is None:
                return None
            digest = document["digest"]
        return self.read(digest)

    def read(self, digest: str) -> Manifest | None:
        """Return the image of a digest, or None."""
        document = read_document(self.manifest_file(digest))
        return None if document is None else _manifest(digest, document)

    def layer_folder(self, layer: str) -> Path:
        return self._folder / "layers" / layer

    def list_tags(self, repository: str | None = None) -> Sequence[TaggedImage]:
        tags = self._folder / "tags"
        folders = [tags / quote(repository, safe="")] if repository is not None else _entries(tags)
        found = []
        for folder in folders:
            for file in _entries(folder):
                document = read_document(file)
                if document is not None:
                    found.append(
                        TaggedImage(
                            repository=unquote(folder.name),
                            tag=file.name,
                            digest=document["digest"],
                            pushed_at=datetime.fromtimestamp(document["pushed_at"], UTC),
                        )
                    )
        return sorted(found, key=lambda it: (it.repository, it.tag))

    def tag(self, name: ImageName, digest: str) -> None:
        self._write(self._tag_file(name), {"digest": digest, "pushed_at": datetime.now(UTC).timestamp()})

    def untag(self, name: ImageName) -> bool:
        if name.digest is not None:
            tags = [it.tag for it in self.list_tags(name.repository) if it.digest == name.digest]
            removed = [self.untag(ImageName(repository=name.repository, tag=tag)) for tag in tags]
            return any(removed)
        file = self._tag_file(name)
        try:
            file.unlink()
        except FileNotFoundError:
            return False
        with suppress(OSError):  # other tags are left
            file.parent.rmdir()
        return True

    def add(self, *, base: str, layers: Sequence[str], config: ImageConfig, steps: Sequence[ImageStep]) -> Manifest:
        """Keep an image; the same layers and configuration are the same image, whenever they were built."""
        contents = {"base": base, "layers": list(layers), "config": _plain(config)}
        digest = f"sha256:{sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()}"
        known = self.read(digest)
        if known is not None:
            return known
        created_at = datetime.now(UTC)
        document = {**contents, "steps": [asdict(step) for step in steps], "created_at": created_at.timestamp()}
        self._write(self.manifest_file(digest), document)
        return _manifest(digest, document)

    def find_step(self, key: str) -> tuple[str, int] | None:
        """Return the layer, and its size in bytes, that an instruction made before; None if it is to be run."""
        document = read_document(self._folder / "steps" / key)
        if document is None or not self.layer_folder(document["layer"]).is_dir():
            return None
        return document["layer"], document["size"]

    def hold(self, digest: str) -> bool:
        file = self.image_lock(digest)
        if file not in _held:
            lock = _open_lock(file)
            fcntl.flock(lock, fcntl.LOCK_SH)
            _held[file] = lock
        return self.read(digest) is not None

    @contextmanager
    def building(self) -> Iterator[None]:
        """Keep all layers where they are, from a build's first look into the cache until its tags are written."""
        with _open_lock(self._lock_file("store")) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            yield

    @contextmanager
    def removing(self) -> Iterator[bool]:
        """Keep builds from starting, and yield True; False if one runs."""
        with _open_lock(self._lock_file("store")) as lock:
            yield _lock_at_once(lock)

    @contextmanager
    def making(self, key: str, *, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold the lock of one instruction, so that two builds do not make the same layer twice."""
        with _open_lock(self._lock_file(key)) as lock:
            if not _lock_at_once(lock):
                on_wait()
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """Yield an empty folder for an unfinished layer and what its making needs; gone at the end."""
        drafts = self._folder / "drafts"
        drafts.mkdir(parents=True, exist_ok=True)
        while True:
            folder = drafts / secrets.token_hex(8)
            lock_file = folder.with_suffix(".lock")
            with lock_file.open("wb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not lock_file.exists():  # swept between its making and its locking
                    continue
                folder.mkdir()
                try:
                    yield folder
                finally:
                    remove_folder(folder)
                    lock_file.unlink(missing_ok=True)
                return

    def keep_layer(self, key: str, draft: Path, *, again: bool = False) -> tuple[str, int]:
        """Put a finished layer in its place and return its name and size in bytes.

        Args:
            again: The instruction was run although its layer was known: the new one is another layer.
        """
        size = _size(draft)
        sync_file_system(draft)
        layer = sha256(f"{key} {secrets.token_hex(8)}".encode()).hexdigest() if again else key
        target = self.layer_folder(layer)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            draft.rename(target)
        except OSError:  # left, whole, from a builder that was killed before it noted the step
            if not target.is_dir():
                raise
        sync_folder(target.parent)
        self._write(self._folder / "steps" / key, {"layer": layer, "size": size})
        return layer, size

    def drop_layer(self, layer: str) -> None:
        """Remove a layer. It leaves its place as a whole: what is there is never half a layer."""
        with self.draft() as draft, suppress(FileNotFoundError):
            self.layer_folder(layer).rename(draft / "layer")

    def _tag_file(self, name: ImageName) -> Path:
        return self._folder / "tags" / quote(name.repository, safe="") / name.tag

    def _lock_file(self, name: str) -> Path:
        return self._folder / "locks" / name

    def image_lock(self, digest: str) -> Path:
        """Return the file that is locked, shared, by processes that run an image."""
        return self._lock_file(f"{digest.removeprefix('sha256:')}.image")

    def manifest_file(self, digest: str) -> Path:
        """Return where an image's manifest lies."""
        return self._folder / "manifests" / f"{digest.removeprefix('sha256:')}.json"

    def _write(self, file: Path, document: dict[str, Any]) -> None:
        with self.draft() as folder:
            draft = folder / "document"
            with draft.open("w", encoding="utf-8") as stream:
                json.dump(document, stream)
                stream.flush()
                os.fsync(stream.fileno())
            while True:
                file.parent.mkdir(parents=True, exist_ok=True)
                try:
                    draft.replace(file)
                except FileNotFoundError:  # a repository's last tag was removed meanwhile, and its folder with it
                    continue
                break
        sync_folder(file.parent)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(it for it in folder.iterdir() if not it.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []


def read_document(file: Path) -> dict[str, Any] | None:
    """Return the JSON document in a file, or None if there is no file."""
    try:
        document: dict[str, Any] = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return None
    return document


def _plain(config: ImageConfig) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return document


def _manifest(digest: str, document: dict[str, Any]) -> Manifest:
    return Manifest(
        digest=digest,
        base=document["base"],
        layers=tuple(document["layers"]),
        config=ImageConfig(**document["config"]),
        steps=tuple(ImageStep(**step) for step in document["steps"]),
        created_at=datetime.fromtimestamp(document["created_at"], UTC),
    )


def _open_lock(file: Path) -> IO[bytes]:
    file.parent.mkdir(parents=True, exist_ok=True)
    return file.open("ab")


def _lock_at_once(lock: IO[bytes]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _size(folder: Path) -> int:
    """Return the bytes of a layer's files; links to the same file count once."""
    size = 0
    for _, _, names, descriptor in os.fwalk(folder):
        for name in names:
            status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            if stat.S_ISREG(status.st_mode):
                size += status.st_size if status.st_nlink == 1 else status.st_size // status.st_nlink
    return size
