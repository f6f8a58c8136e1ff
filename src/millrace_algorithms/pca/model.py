"""Write, read and serve a PCA model in SageMaker's own artifact format."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from millrace_algorithms import mxnet_arrays
from millrace_algorithms.errors import ModelError
from millrace_algorithms.manifest import Manifest, find_manifest, write_manifest
from millrace_algorithms.media_types import MediaType
from millrace_algorithms.number_text import Column
from millrace_algorithms.pca.decomposition import Components
from millrace_algorithms.serving.tabular import TabularModel
from millrace_algorithms.tables import FloatMatrix

__all__ = ["FILE_NAME", "load", "save"]

FILE_NAME = "model_algo-1"


def save(model_dir: Path, components: Components, hyperparameters: Mapping[str, Any]) -> None:
    """Write the arrays `s`, `v` and `mean`, float32 as SageMaker's, and the manifest."""
    arrays = {
        "s": components.singular_values.astype(np.float32),
        "v": components.directions.astype(np.float32),
        "mean": components.mean[None, :].astype(np.float32),
    }
    (model_dir / FILE_NAME).write_bytes(mxnet_arrays.encode(arrays))
    manifest = Manifest(algorithm="pca", feature_dim=len(components.mean), hyperparameters=hyperparameters)
    write_manifest(model_dir, manifest)


def load(model_dir: Path) -> TabularModel:
    """Read a model of ours or of SageMaker's; raises ModelError."""
    find_manifest(model_dir, "pca")  # refuses another algorithm's model
    path = model_dir / FILE_NAME
    try:
        arrays = mxnet_arrays.decode(path.read_bytes())
    except FileNotFoundError as exc:
        raise ModelError(f"the model directory holds no {FILE_NAME}") from exc
    try:
        directions, mean = arrays["v"].astype(np.float64), arrays["mean"].astype(np.float64).reshape(-1)
    except KeyError as exc:
        raise ModelError(f"{FILE_NAME} must hold arrays s, v and mean, got {sorted(arrays)}") from exc
    if directions.ndim != 2 or len(mean) != len(directions):
        raise ModelError(f"{FILE_NAME}: v has shape {directions.shape}, mean {arrays['mean'].shape}")
    offset = mean @ directions

    def project(rows: FloatMatrix, _: MediaType) -> Sequence[Column]:
        # float64 throughout: with large means float32 would lose digits in the subtraction
        projection = rows.astype(np.float64, copy=False) @ directions
        projection -= offset
        return [Column("projection", projection.astype(np.float32))]

    return TabularModel(feature_dim=len(directions), predict=project, list_name="projections")
