"""Images that users brought: what they are made of, and where they are kept."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from millrace.errors import UsageError

__all__ = ["BadImageName", "ImageConfig", "ImageName", "ImageStep", "ImageStore", "Manifest", "TaggedImage"]

_REGISTRY_HOST = re.compile(r"(?:localhost|[^/]*[.:][^/]*)/")
_REPOSITORY = re.compile(r"(?:[a-z0-9]+(?:[._-]+[a-z0-9]+)*/)*[a-z0-9]+(?:[._-]+[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MAX_REPOSITORY = 256


class BadImageName(UsageError):
    """A name that no image can have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageName:
    """A repository with a tag or a digest. Registry, account and region are not part of it: there is one registry."""

    repository: str
    tag: str = "latest"
    digest: str | None = None
    """Where it is given, it says which image, and the tag says nothing."""

    def __str__(self) -> str:
        return f"{self.repository}@{self.digest}" if self.digest else f"{self.repository}:{self.tag}"

    @classmethod
    def parse(cls, uri: str) -> "ImageName":
        """Read `[registry/]repository[:tag][@digest]`.

        Raises:
            BadImageName: It is none.

        Source:
            The distribution project's reference grammar; containers.md 10.1.
        """
        rest, _, digest = _REGISTRY_HOST.sub("", uri, count=1).partition("@") if "/" in uri else uri.partition("@")
        head, separator, last = rest.rpartition("/")
        name, _, tag = last.partition(":")
        repository = f"{head}{separator}{name}"
        if not _REPOSITORY.fullmatch(repository) or len(repository) > _MAX_REPOSITORY:
            raise BadImageName(
                f"image name {uri!r}: the repository must be small letters and digits, with . _ - or / between them, "
                f"at most {_MAX_REPOSITORY} characters, got {repository!r}"
            )
        if ":" in last and not _TAG.fullmatch(tag):
            raise BadImageName(
                f"image name {uri!r}: the tag must be 1 to 128 letters, digits, _ . or -, not beginning with . or -, "
                f"got {tag!r}"
            )
        if "@" in rest or ("@" in uri and not _DIGEST.fullmatch(digest)):
            raise BadImageName(f"image name {uri!r}: the digest must be sha256: and 64 hexadecimal digits")
        return cls(repository=repository, tag=tag or "latest", digest=digest or None)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageConfig:
    """How containers of an image run."""

    environment: Mapping[str, str] = field(default_factory=dict)
    entry_point: Sequence[str] = ()
    command: Sequence[str] = ()
    working_directory: str | None = None
    user: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    exposed_ports: Sequence[str] = ()
    volumes: Sequence[str] = ()
    stop_signal: str | None = None
    shell: Sequence[str] = ("/bin/sh", "-c")


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageStep:
    """What one instruction did."""

    text: str
    layer: str | None = None
    """The layer that it made, if it changed files."""
    size: int = 0
    """Bytes in that layer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """One image: its layers, lowest first, and its configuration. The digest is that of both."""

    digest: str
    base: str
    """What it stands on: the machine, as `FROM` called it."""
    layers: Sequence[str]
    config: ImageConfig
    steps: Sequence[ImageStep]
    created_at: datetime

    @property
    def size(self) -> int:
        """Bytes in all layers."""
        return sum(step.size for step in self.steps)


@dataclass(frozen=True, kw_only=True, slots=True)
class TaggedImage:
    """A tag and what it stands for."""

    repository: str
    tag: str
    digest: str
    pushed_at: datetime


class ImageStore(Protocol):
    """Keeps images. Safe for several processes; an image that has a tag or is held stays whole."""

    def find(self, name: ImageName) -> Manifest | None:
        """Return the image of a tag or digest, or None."""
        ...

    def layer_folder(self, layer: str) -> Path:
        """Return the folder of a layer."""
        ...

    def hold(self, digest: str) -> bool:
        """Keep an image and its layers until this process ends; False if there is no such image (any more)."""
        ...

    def list_tags(self, repository: str | None = None) -> Sequence[TaggedImage]:
        """Return all tags, by repository and tag."""
        ...

    def tag(self, name: ImageName, digest: str) -> None:
        """Let a tag stand for an image from now on."""
        ...

    def untag(self, name: ImageName) -> bool:
        """Remove a tag, or with a digest all tags of that image in its repository; False if there was none."""
        ...
