"""Images as files: layers as folders, manifests and tags as JSON documents, all put in place by renaming.

images/layers/<id>/              a layer, never changed
images/manifests/<hex>.json      an image, by its digest
images/tags/<repository>/<tag>   the digest that a tag stands for; / in repositories is written %2F
images/steps/<key>               the layer that an instruction made: the build's cache
images/locks/<key>               held by whoever makes that layer
images/drafts/<name>/            unfinished layers, each with a lock that ends with its builder
"""

import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from millrace.folder_removal import remove_folder
from millrace.ports.images import ImageConfig, ImageName, ImageStep, Manifest, TaggedImage

__all__ = ["ImageFiles"]


class ImageFiles:
    """The image store of one data directory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def folder(self) -> Path:
        return self._folder

    def find(self, name: ImageName) -> Manifest | None:
        digest = name.digest
        if digest is None:
            document = _read(self._tag_file(name))
            if document is None:
                return None
            digest = document["digest"]
        return self.read(digest)

    def read(self, digest: str) -> Manifest | None:
        """Return the image of a digest, or None."""
        document = _read(self._manifest_file(digest))
        return None if document is None else _manifest(digest, document)

    def layer_folder(self, layer: str) -> Path:
        return self._folder / "layers" / layer

    def list_tags(self, repository: str | None = None) -> Sequence[TaggedImage]:
        tags = self._folder / "tags"
        folders = [tags / quote(repository, safe="")] if repository is not None else _entries(tags)
        found = []
        for folder in folders:
            for file in _entries(folder):
                document = _read(file)
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
        self._write(self._manifest_file(digest), document)
        return _manifest(digest, document)

    def find_step(self, key: str) -> tuple[str, int] | None:
        """Return the layer, and its size in bytes, that an instruction made before; None if it is to be run."""
        document = _read(self._folder / "steps" / key)
        if document is None or not self.layer_folder(document["layer"]).is_dir():
            return None
        return document["layer"], document["size"]

    @contextmanager
    def making(self, key: str) -> Iterator[None]:
        """Hold the lock of one instruction, so that two builds do not make the same layer twice."""
        locks = self._folder / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        with (locks / key).open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """Yield an empty folder for an unfinished layer and what its making needs; gone at the end."""
        drafts = self._folder / "drafts"
        drafts.mkdir(parents=True, exist_ok=True)
        folder = drafts / secrets.token_hex(8)
        with folder.with_suffix(".lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            folder.mkdir()
            try:
                yield folder
            finally:
                remove_folder(folder)
                folder.with_suffix(".lock").unlink(missing_ok=True)

    def keep_layer(self, key: str, draft: Path, *, again: bool = False) -> tuple[str, int]:
        """Put a finished layer in its place and return its name and size in bytes.

        Args:
            again: The instruction was run although its layer was known: the new one is another layer.
        """
        size = _sync(draft)
        layer = sha256(f"{key} {secrets.token_hex(8)}".encode()).hexdigest() if again else key
        target = self.layer_folder(layer)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            draft.rename(target)
        except OSError:  # left from a builder that was killed before it noted the step
            if not target.is_dir():
                raise
        _sync_folder(target.parent)
        self._write(self._folder / "steps" / key, {"layer": layer, "size": size})
        return layer, size

    def sweep_drafts(self) -> int:
        """Remove what killed builds left; return how many drafts went."""
        swept = 0
        for lock_file in (self._folder / "drafts").glob("*.lock"):
            try:
                with lock_file.open("rb") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    remove_folder(lock_file.with_suffix(""))
                    lock_file.unlink(missing_ok=True)
                    swept += 1
            except (BlockingIOError, FileNotFoundError):
                continue
        return swept

    def remove_unused(self, *, in_use: frozenset[str]) -> int:
        """Remove images that have no tag and layers that no image has; return the bytes of those layers.

        Args:
            in_use: Digests that unfinished jobs and endpoints run.
        """
        kept = in_use | {it.digest for it in self.list_tags()}
        layers: set[str] = set()
        for file in _entries(self._folder / "manifests"):
            digest = f"sha256:{file.stem}"
            manifest = self.read(digest)
            if manifest is not None and digest in kept:
                layers.update(manifest.layers)
            elif manifest is not None:
                file.unlink(missing_ok=True)
        freed = 0
        for file in _entries(self._folder / "steps"):
            document = _read(file)
            if document is not None and document["layer"] not in layers and self._drop_step(file):
                freed += int(document["size"])
        known = layers | {
            document["layer"] for file in _entries(self._folder / "steps") if (document := _read(file)) is not None
        }
        for folder in _entries(self._folder / "layers"):
            if folder.name not in known:
                remove_folder(folder)
        return freed

    def _drop_step(self, file: Path) -> bool:
        """Forget a step and its layer, unless a build is about to use it."""
        locks = self._folder / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        with (locks / file.name).open("wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            document = _read(file)
            file.unlink(missing_ok=True)
            if document is not None:
                remove_folder(self.layer_folder(document["layer"]))
            return True

    def _tag_file(self, name: ImageName) -> Path:
        return self._folder / "tags" / quote(name.repository, safe="") / name.tag

    def _manifest_file(self, digest: str) -> Path:
        return self._folder / "manifests" / f"{digest.removeprefix('sha256:')}.json"

    def _write(self, file: Path, document: dict[str, Any]) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
        with draft.open("w", encoding="utf-8") as stream:
            json.dump(document, stream)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(file)
        _sync_folder(file.parent)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(it for it in folder.iterdir() if not it.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _read(file: Path) -> dict[str, Any] | None:
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


def _sync(folder: Path) -> int:
    """Put all files of a layer on disk; return their bytes."""
    size = 0
    for path, _, names in os.walk(folder):
        for name in names:
            file = Path(path, name)
            status = file.lstat()
            if not os.path.isfile(file) or file.is_symlink():
                continue
            size += status.st_size
            descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)
        _sync_folder(Path(path))
    return size


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
