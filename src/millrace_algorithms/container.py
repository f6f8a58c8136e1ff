"""Where a SageMaker container's files are, and what its configuration files say."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from millrace_algorithms.errors import InputError

__all__ = ["ChannelConfig", "ContainerFiles", "Resources"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ChannelConfig:
    """One entry of inputdataconfig.json."""

    name: str
    content_type: str | None
    input_mode: str
    """`File`, `FastFile` or `Pipe`."""
    record_wrapper: str
    """`None` or `RecordIO`; matters in Pipe mode only."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Resources:
    """What resourceconfig.json says."""

    current_host: str
    hosts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ContainerFiles:
    """The paths of the container contract under `root`, which stands for /opt/ml."""

    root: Path

    @classmethod
    def locate(cls, environ: Mapping[str, str]) -> "ContainerFiles":
        """Return the files of this container.

        SAGEMAKER_BASE_DIR names the folder that stands for /opt/ml, as for AWS's training toolkit; a folder that holds
        `opt/ml` is also understood, because launchers that lay out a whole root give that one.
        """
        base = environ.get("SAGEMAKER_BASE_DIR")
        if not base:
            return cls(Path("/opt/ml"))
        nested = Path(base, "opt", "ml")
        return cls(nested if nested.is_dir() else Path(base))

    @property
    def model_dir(self) -> Path:
        return self.root / "model"

    @property
    def data_dir(self) -> Path:
        return self.root / "input" / "data"

    @property
    def failure_file(self) -> Path:
        return self.root / "output" / "failure"

    def read_hyperparameters(self) -> dict[str, Any]:
        """Return hyperparameters.json as it is; no file means none were given."""
        return self._read_object("hyperparameters.json")

    def read_resources(self) -> Resources:
        """Return resourceconfig.json; no file means one host, algo-1."""
        content = self._read_object("resourceconfig.json")
        current = str(content.get("current_host", "algo-1"))
        return Resources(current_host=current, hosts=tuple(content.get("hosts", (current,))))

    def read_channels(self) -> dict[str, ChannelConfig]:
        """Return inputdataconfig.json by channel name."""
        channels = {}
        for name, entry in self._read_object("inputdataconfig.json").items():
            if not isinstance(entry, dict):
                raise InputError(f"inputdataconfig.json: channel {name!r} must be an object, got {entry!r}")
            channels[name] = ChannelConfig(
                name=name,
                content_type=entry.get("ContentType"),
                input_mode=entry.get("TrainingInputMode", "File"),
                record_wrapper=entry.get("RecordWrapperType", "None"),
            )
        return channels

    def _read_object(self, name: str) -> dict[str, Any]:
        path = self.root / "input" / "config" / name
        try:
            content = json.loads(path.read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError as exc:
            raise InputError(f"{name} is not JSON: {exc}") from exc
        if not isinstance(content, dict):
            raise InputError(f"{name} must hold a JSON object, got {type(content).__name__}")
        return content
