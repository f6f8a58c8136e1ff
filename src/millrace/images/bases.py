"""What FROM may name beside images of one's own: the machine itself, with its Python or without."""

import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from millrace.ports.images import BadImageName, ImageConfig, ImageName

__all__ = ["Base", "BaseRefused", "find_base", "release_of"]

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PYTHON_PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
_REPOSITORIES = ("python", "debian", "ubuntu")
_OF_DOCKER = ("", "library", "docker/library")
_ANY_RELEASE = ("latest", "slim", "alpine", "stable", "lts")
OS_RELEASE = Path("/etc/os-release")


class BaseRefused(ValueError):
    """FROM names something that this machine can't stand for; the message says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Base:
    """What an image stands on when it is not another image."""

    name: str
    config: ImageConfig
    has_python: bool
    """Gets a layer with a Python of its own, made from the machine's."""
    warnings: tuple[str, ...] = ()


def find_base(image: str) -> Base | None:
    """Return the base that an image's name means, or None if it is none.

    Raises:
        BaseRefused: This machine can't stand for it.
    """
    if image == "scratch":
        raise BaseRefused(
            "FROM scratch is not supported: images stand on this machine's own root; use debian, ubuntu or python"
        )
    try:
        name = ImageName.parse(image)
    except BadImageName:
        return None
    prefix, _, repository = name.repository.rpartition("/")
    if repository not in _REPOSITORIES or not (prefix in _OF_DOCKER or _names_registry(image)):
        return None
    found = _python(name.tag) if repository == "python" else _system(repository, name.tag)
    if prefix in _OF_DOCKER or prefix.endswith("/library"):
        return found
    stranger = f"{image} is taken for Docker's own {repository}, by its last word"
    return replace(found, warnings=(*found.warnings, stranger))


def _names_registry(image: str) -> bool:
    host, separator, _ = image.partition("/")
    return bool(separator) and (host == "localhost" or "." in host or ":" in host)


def _python(tag: str) -> Base:
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    asked = tag.split("-")[0]
    warnings = []
    if asked[:1].isdecimal():  # others are words, such as slim and bookworm
        major, _, rest = asked.partition(".")
        minor = rest.split(".")[0]
        if major != str(sys.version_info.major):
            raise BaseRefused(f"python:{tag} is asked for, and this machine's is Python {platform.python_version()}")
        if minor and minor != str(sys.version_info.minor):
            warnings.append(f"python:{tag} is asked for; the image gets this machine's Python {ours}")
    if "alpine" in tag:
        warnings.append(f"python:{tag} is asked for; the image gets this machine's root, which is no Alpine: no apk")
    config = ImageConfig(
        environment={"PATH": _PYTHON_PATH, "LANG": "C.UTF-8", "PYTHON_VERSION": platform.python_version()},
        command=("python3",),
    )
    return Base(name=f"python:{platform.python_version()}", config=config, has_python=True, warnings=tuple(warnings))


def _system(repository: str, tag: str) -> Base:
    release = release_of(OS_RELEASE)
    ours, version, code_name = (release.get(key, "") for key in ("ID", "VERSION_ID", "VERSION_CODENAME"))
    asked = tag.split("-")[0]
    is_ours = repository == ours and (asked in (version, code_name, *_ANY_RELEASE) or asked.startswith(f"{version}."))
    warnings = []
    if not is_ours:
        warnings.append(
            f"{repository}:{tag} is asked for; the image gets this machine's root, which is {ours} {version}".strip()
        )
    config = ImageConfig(environment={"PATH": _PATH}, command=("bash",))
    return Base(
        name=f"{ours or repository}:{version or tag}", config=config, has_python=False, warnings=tuple(warnings)
    )


def release_of(file: Path) -> Mapping[str, str]:
    """Return what an os-release file says; nothing if there is none."""
    try:
        lines = file.read_text("utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
    return {name: value.strip("\"'") for name, _, value in pairs}
