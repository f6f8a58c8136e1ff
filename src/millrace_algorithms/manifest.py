"""Write and read millrace.json, which says what an artifact is."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from millrace_algorithms.errors import ModelError

__all__ = ["Manifest", "find_manifest", "write_manifest"]

FILE_NAME = "millrace.json"
FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What stands beside the payload of every artifact of ours."""

    algorithm: str
    feature_dim: int
    hyperparameters: Mapping[str, Any]


def write_manifest(model_dir: Path, manifest: Manifest) -> None:
    """Write the manifest into a model directory."""
    content = {
        "algorithm": manifest.algorithm,
        "format_version": FORMAT_VERSION,
        "feature_dim": manifest.feature_dim,
        "hyperparameters": dict(manifest.hyperparameters),
    }
    (model_dir / FILE_NAME).write_text(json.dumps(content, indent=2) + "\n")


def find_manifest(model_dir: Path, algorithm: str) -> Manifest | None:
    """Return the manifest; None for an artifact made elsewhere. Raises ModelError for another algorithm's."""
    path = model_dir / FILE_NAME
    try:
        content = json.loads(path.read_bytes())
        manifest = Manifest(
            algorithm=content["algorithm"],
            feature_dim=int(content["feature_dim"]),
            hyperparameters=content.get("hyperparameters", {}),
        )
        version = int(content["format_version"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as exc:
        raise ModelError(f"{FILE_NAME}: {exc!r}") from exc
    if manifest.algorithm != algorithm:
        raise ModelError(f"the model was trained by {manifest.algorithm!r}, this image serves {algorithm!r}")
    if version > FORMAT_VERSION:
        raise ModelError(f"{FILE_NAME}: format_version must be at most {FORMAT_VERSION}, got {version}")
    return manifest
