"""How the building user's pip finds packages, for the pip of RUN instructions: variables, its file, local folders."""

import os
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PipSettings", "find_pip_settings"]

_HANDED_ON = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
_MACHINE_FILES = (Path("/etc/pip.conf"), Path("/etc/xdg/pip/pip.conf"))


@dataclass(frozen=True, kw_only=True, slots=True)
class PipSettings:
    """What a RUN gets on top; none of it is part of the image or of the cache's keys."""

    environment: Mapping[str, str]
    read_only: tuple[Path, ...]
    """Files and folders of the machine that these settings name."""


def find_pip_settings(environ: Mapping[str, str], *, home: Path) -> PipSettings:
    """Return the settings of the user whose environment and home these are."""
    environment = {
        name: value
        for name, value in environ.items()
        if name.startswith("PIP_") or name in _HANDED_ON or name.upper() in _PROXIES
    }
    own = [Path(environ["PIP_CONFIG_FILE"])] if environ.get("PIP_CONFIG_FILE") else []
    own += [home / ".config/pip/pip.conf", home / ".pip/pip.conf", Path(sys.base_prefix, "pip.conf")]
    file = next((it for it in own if os.access(it, os.R_OK) and it.is_file()), None)
    texts = [value for name, value in environment.items() if name != "PIP_CONFIG_FILE"]
    for it in (*_MACHINE_FILES, *([file] if file else [])):
        try:
            texts.append(it.read_text("utf-8", "replace"))
        except OSError:
            continue
    read_only = {place for text in texts for place in _local_places(text)}
    if file is not None:
        environment["PIP_CONFIG_FILE"] = str(file)
        read_only.add(file)
    return PipSettings(environment=environment, read_only=tuple(sorted(read_only)))


def _local_places(text: str) -> set[Path]:
    """Return the files and folders of this machine that words of a text name."""
    found = set()
    for line in text.splitlines():
        value = line.partition("=")[2] if re.match(r"\s*[\w.-]+\s*=", line) else line
        try:
            words = shlex.split(value, comments=True)
        except ValueError:
            continue
        for word in words:
            place = Path(word.removeprefix("file://"))
            if place.is_absolute() and len(place.parts) > 2 and os.access(place, os.R_OK):
                # the files that an index names stand beside it
                found.add(place.parent if place.name == "simple" and len(place.parts) > 3 else place)
    return found
