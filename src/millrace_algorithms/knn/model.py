"""Write, read and serve a k-NN model in SageMaker's own three files."""

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace_algorithms.errors import ModelError
from millrace_algorithms.knn.prediction import mean, vote
from millrace_algorithms.knn.projection import ProjectionType, projection_matrix
from millrace_algorithms.manifest import Manifest, find_manifest, write_manifest
from millrace_algorithms.media_types import MediaType
from millrace_algorithms.number_text import Column
from millrace_algorithms.serving.tabular import TabularModel
from millrace_algorithms.tables import FloatMatrix

__all__ = ["INDEX_FILE", "KnnModel", "PredictorType", "Reduction", "load", "read", "save"]

INDEX_FILE = "model_algo-1"
LABELS_FILE = "model_algo-1.labels"
SETTINGS_FILE = "model_algo-1.json"
VERSION = "1.0"


class PredictorType(Enum):
    """As the hyperparameter predictor_type names them."""

    CLASSIFIER = "classifier"
    REGRESSOR = "regressor"


@dataclass(frozen=True, kw_only=True, slots=True)
class Reduction:
    """A random projection before the index."""

    kind: ProjectionType
    seed: int
    input_dim: int
    target_dim: int

    def matrix(self) -> npt.NDArray[np.float32]:
        return projection_matrix(self.kind, input_dim=self.input_dim, target_dim=self.target_dim, seed=self.seed)


@dataclass(frozen=True, kw_only=True, slots=True)
class KnnModel:
    """A searchable sample of labelled rows."""

    index: Any
    """A faiss index of len(labels) vectors; as wide as the reduction's target, padded with zeros if wider."""
    labels: npt.NDArray[np.float32]
    feature_dim: int
    k: int
    predictor_type: PredictorType
    reduction: Reduction | None
    normalize: bool
    """Vectors are scaled to length one, so that their inner product is the cosine."""
    projection: npt.NDArray[np.float32] | None = None
    """The reduction's matrix, if there is one."""

    def vectors(self, rows: FloatMatrix) -> npt.NDArray[np.float32]:
        """Return the rows as the index holds them."""
        return to_vectors(rows, self.projection, width=self.index.d, normalize=self.normalize)

    def search(self, rows: FloatMatrix) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return distances and labels of the k nearest rows, nearest first, each of shape (rows, k).

        Distances are squared for L2 and negative similarities otherwise, so that they always ascend. NaN stands for
        neighbours that an inverted index did not find in the lists it looked into.
        """
        distances, found = self.index.search(self.vectors(rows), min(self.k, len(self.labels)))
        labels = self.labels[found]
        if self.index.metric_type == _INNER_PRODUCT:
            np.negative(distances, out=distances)
        missing = found < 0
        if missing.any():
            labels[missing] = distances[missing] = np.nan
        return distances, labels

    def predict(self, neighbour_labels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return a prediction for each row of neighbours' labels."""
        return (vote if self.predictor_type is PredictorType.CLASSIFIER else mean)(neighbour_labels)


_INNER_PRODUCT = 0
"""faiss.METRIC_INNER_PRODUCT, spelled out so that this module does not import faiss."""


def to_vectors(
    rows: FloatMatrix, projection: npt.NDArray[np.float32] | None, *, width: int, normalize: bool
) -> npt.NDArray[np.float32]:
    """Return float32 of shape (rows, width): projected, scaled to length one, padded with zeros."""
    vectors: npt.NDArray[np.float32] = np.ascontiguousarray(rows, np.float32)
    if projection is not None:
        vectors = vectors @ projection
    if normalize:
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    if vectors.shape[1] < width:
        vectors = np.pad(vectors, ((0, 0), (0, width - vectors.shape[1])))
    return np.ascontiguousarray(vectors)


def save(model_dir: Path, model: KnnModel, hyperparameters: Mapping[str, Any]) -> None:
    """Write index, labels, settings and the manifest."""
    import faiss

    faiss.write_index(model.index, str(model_dir / INDEX_FILE))
    (model_dir / LABELS_FILE).write_bytes(model.labels.astype("<f4").tobytes())
    reduction = None
    if model.reduction is not None:
        reduction = {
            "type": model.reduction.kind.value,
            "seed": model.reduction.seed,
            "input_dim": model.reduction.input_dim,
            "target_dim": model.reduction.target_dim,
        }
    settings = {
        "k": model.k,
        "predictor_type": model.predictor_type.value,
        "dimension_reduction": reduction,
        "normalize": model.normalize,
        "version": VERSION,
    }
    (model_dir / SETTINGS_FILE).write_text(json.dumps(settings) + "\n")
    write_manifest(model_dir, Manifest(algorithm="knn", feature_dim=model.feature_dim, hyperparameters=hyperparameters))


def read(model_dir: Path) -> KnnModel:
    """Read a model of ours or of SageMaker's, with what its user edited in the settings; raises ModelError."""
    manifest = find_manifest(model_dir, "knn")
    for name in (INDEX_FILE, LABELS_FILE, SETTINGS_FILE):
        if not (model_dir / name).is_file():
            raise ModelError(f"the model directory holds no {name}")
    settings = _read_settings(model_dir / SETTINGS_FILE)
    try:
        k, predictor_type = int(settings["k"]), PredictorType(settings["predictor_type"])
        reduction = _reduction(settings.get("dimension_reduction"))
        normalize = bool(settings.get("normalize", False))
    except (KeyError, ValueError, TypeError) as exc:
        raise ModelError(f"{SETTINGS_FILE}: {exc!r}") from exc
    if k < 1:
        raise ModelError(f"{SETTINGS_FILE}: k must be at least 1, got {k}")
    if reduction is not None and manifest is None:
        raise ModelError("a model with dimension reduction that was not trained here: its projection is not known")
    index = _read_index(model_dir / INDEX_FILE)
    labels = np.fromfile(model_dir / LABELS_FILE, "<f4")
    if len(labels) != index.ntotal:
        raise ModelError(f"{LABELS_FILE} must hold {index.ntotal} labels, got {len(labels)}")
    dimension = reduction.input_dim if reduction is not None else index.d
    return KnnModel(
        index=index,
        labels=labels,
        feature_dim=manifest.feature_dim if manifest is not None else dimension,
        k=k,
        predictor_type=predictor_type,
        reduction=reduction,
        normalize=normalize,
        projection=None if reduction is None else reduction.matrix(),
    )


def _read_index(path: Path) -> Any:
    import faiss

    try:
        return faiss.read_index(str(path))
    except RuntimeError as exc:
        raise ModelError(f"{path.name} is no faiss index: {exc}") from exc


def _read_settings(path: Path) -> dict[str, Any]:
    """Return the settings; SageMaker's page shows them as a Python literal, so that is read as well."""
    text = path.read_text()
    try:
        content = json.loads(text)
    except ValueError:
        try:
            content = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError) as exc:
            raise ModelError(f"{path.name} is not JSON: {exc}") from exc
    if not isinstance(content, dict):
        raise ModelError(f"{path.name} must hold an object, got {type(content).__name__}")
    return content


def _reduction(settings: Mapping[str, Any] | None) -> Reduction | None:
    if not settings or not settings.get("type"):
        return None
    return Reduction(
        kind=ProjectionType(settings["type"]),
        seed=int(settings["seed"]),
        input_dim=int(settings["input_dim"]),
        target_dim=int(settings["target_dim"]),
    )


def load(model_dir: Path) -> TabularModel:
    """Read a model for serving; raises ModelError."""
    model = read(model_dir)

    def answer(rows: FloatMatrix, media_type: MediaType) -> Sequence[Column]:
        distances, labels = model.search(rows)
        predicted = Column("predicted_label", model.predict(labels))
        if not media_type.verbose:
            return [predicted]
        return [predicted, Column("distances", distances), Column("labels", labels)]

    return TabularModel(feature_dim=model.feature_dim, predict=answer)
