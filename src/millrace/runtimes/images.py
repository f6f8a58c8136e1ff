"""Which image answers to a URI: host images that the operator names in a file, brought images, built-in algorithms.

The file is `host-images.toml` in the data directory:

    [[image]]
    match = "my-model:*"                      # glob on repository:tag, registry host ignored
    command = ["python3", "/srv/model/main.py"]
    environment = { OMP_NUM_THREADS = "1" }

The command gets `train` or `serve` as its last argument. Under the process runtime the program must take its folder
from SAGEMAKER_BASE_DIR and its port from SAGEMAKER_BIND_TO_PORT.
"""

import fnmatch
import re
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from millrace.errors import ImageUnavailable
from millrace.ports.images import BadImageName, ImageName, ImageStore, Manifest
from millrace.ports.runtime import Image, RootFilesystem

__all__ = ["HOST_IMAGES_FILE", "HostImages"]

HOST_IMAGES_FILE = "host-images.toml"

_REGISTRY_HOST = re.compile(r"^[^/]*[.:][^/]*/")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Entry:
    pattern: str
    command: tuple[str, ...]
    environment: Mapping[str, str]


class HostImages:
    """The image catalog of one data directory. The file is read again whenever it has changed."""

    def __init__(
        self,
        file: Path,
        *,
        find_built_in: Callable[[str], str | None],
        brought: ImageStore | None = None,
        holds: bool = False,
    ) -> None:
        """Take the operator's file (it may be missing), the registry of built-in algorithms, and the users' images.

        Args:
            find_built_in: Returns the name of the built-in algorithm behind an image URI, or None.
            holds: Whether this process runs what it resolves: brought images then stay whole until it ends.
        """
        self._file = file
        self._find_built_in = find_built_in
        self._brought = brought
        self._holds = holds
        self._entries: tuple[_Entry, ...] = ()
        self._read_stamp: tuple[int, int] | None = None

    def resolve(self, uri: str) -> Image:
        for entry in self._read():
            if fnmatch.fnmatchcase(_repository_and_tag(uri), entry.pattern):
                return _host_image(uri, entry)
        manifest = self._find_brought(uri)
        if manifest is not None:
            return self._brought_image(uri, manifest)
        name = self._find_built_in(uri)
        if name is not None:
            return _built_in_image(uri, name)
        raise ImageUnavailable(
            f"no image {uri} here: it is no built-in algorithm, and nobody has built it; build it with "
            f"`millrace image build --tag {uri} DIR`, or name a program of this machine in {HOST_IMAGES_FILE} "
            "(see docs/images.md)"
        )

    def _find_brought(self, uri: str) -> Manifest | None:
        if self._brought is None:
            return None
        try:
            manifest = self._brought.find(ImageName.parse(uri))
        except BadImageName:
            return None
        if manifest is None or not self._holds:
            return manifest
        return manifest if self._brought.hold(manifest.digest) else None

    def _brought_image(self, uri: str, manifest: Manifest) -> Image:
        assert self._brought is not None
        layers = [self._brought.layer_folder(layer) for layer in manifest.layers]
        missing = [layer.name[:12] for layer in layers if not layer.is_dir()]
        if missing:
            raise ImageUnavailable(
                f"image {uri}: layers {', '.join(missing)} are gone from this machine; build it again"
            )
        config = manifest.config
        return Image(
            uri=uri,
            name=manifest.digest,
            command=tuple(config.entry_point),
            environment=config.environment,
            root=RootFilesystem(layers=layers),
            default_arguments=tuple(config.command),
            working_directory=config.working_directory,
            user=config.user,
            labels=config.labels,
            digest=manifest.digest,
            honours_base_dir=False,
        )

    def _read(self) -> tuple[_Entry, ...]:
        try:
            status = self._file.stat()
        except FileNotFoundError:
            self._read_stamp, self._entries = None, ()
            return ()
        stamp = (status.st_mtime_ns, status.st_size)
        if stamp != self._read_stamp:
            self._entries = _parse(self._file)
            self._read_stamp = stamp
        return self._entries


def _parse(file: Path) -> tuple[_Entry, ...]:
    try:
        document = tomllib.loads(file.read_text("utf-8"))
        return tuple(_entry(number, table) for number, table in enumerate(document.get("image", [])))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValueError) as exc:
        raise ImageUnavailable(f"{file}: {exc}") from exc


def _entry(number: int, table: Mapping[str, Any]) -> _Entry:
    pattern, command, environment = table.get("match"), table.get("command"), table.get("environment", {})
    if not isinstance(pattern, str) or not pattern:
        raise ValueError(f"image[{number}].match must be a non-empty string, got {pattern!r}")
    if not isinstance(command, list) or not command or not all(isinstance(word, str) for word in command):
        raise ValueError(f"image[{number}].command must be a list of strings, got {command!r}")
    if not isinstance(environment, dict) or not all(isinstance(value, str) for value in environment.values()):
        raise ValueError(f"image[{number}].environment must be a table of strings, got {environment!r}")
    return _Entry(pattern=pattern, command=tuple(command), environment=environment)


def _repository_and_tag(uri: str) -> str:
    """Return the URI without registry host and digest, with `:latest` where there is no tag."""
    name = _REGISTRY_HOST.sub("", uri, count=1).partition("@")[0]
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def _host_image(uri: str, entry: _Entry) -> Image:
    return Image(uri=uri, name=entry.pattern, command=entry.command, environment=entry.environment)


def _built_in_image(uri: str, name: str) -> Image:
    return Image(
        uri=uri,
        name=name,
        command=(
            sys.executable,
            "-P",
            "-m",
            "millrace_algorithms",
            name,
        ),  # -P: nothing of the job's folder is imported
        built_in=name,
        single_host=True,
    )
