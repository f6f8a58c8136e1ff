import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn import datasets
from sklearn.preprocessing import StandardScaler

from millrace_algorithms import mxnet_arrays
from millrace_algorithms.errors import ModelError, PayloadError
from millrace_algorithms.pca.decomposition import Components, RandomizedSketch, RegularScatter
from millrace_algorithms.pca.model import FILE_NAME, load, save
from millrace_algorithms.record_tables import write_table
from millrace_algorithms.serving.invocation import Invocation
from millrace_algorithms.tables import Table

Matrix = npt.NDArray[Any]


def features(loader: Callable[[], Any], *, standardized: bool = False) -> Matrix:
    rows: Matrix = loader().data.astype(np.float32)
    return StandardScaler().fit_transform(rows) if standardized else rows


def fit(rows: Matrix, k: int, *, subtract_mean: bool = True, batch: int = 37) -> Components:
    accumulator = RegularScatter(rows.shape[1], subtract_mean=subtract_mean)
    for start in range(0, len(rows), batch):
        accumulator.add(rows[start : start + batch])
    return accumulator.components(k)


def share_captured(rows: Matrix, components: Components) -> float:
    centred = rows - components.mean
    return float(np.square(centred @ components.directions).sum() / np.square(centred).sum())


REFERENCE = [
    (datasets.load_iris, False, True, [25.09996, 6.013147], 0.977685, 0.025341, [2.684126, 0.319397]),
    (datasets.load_iris, False, False, [95.959914, 17.761034], None, 0.025884, [5.912747, 2.302033]),
    (
        datasets.load_wine,
        True,
        True,
        [28.942034, 21.082251, 16.043716],
        0.665300,
        0.334700,
        [3.316751, 1.443462, 0.165739],
    ),
    (datasets.load_breast_cancer, False, True, [15876.6659, 2037.6793], 0.998221, 26.74794, [1160.142573, 293.917543]),
    (
        datasets.load_digits,
        False,
        True,
        [
            567.006567,
            542.251854,
            504.630594,
            426.117676,
            353.335033,
            325.820366,
            305.26158,
            281.160331,
            269.069782,
            257.823951,
        ],
        0.738227,
        4.914296,
        [1.259466, 21.274883, 9.463055],
    ),
    (datasets.load_diabetes, False, True, [2.006044, 1.221605, 1.098165], 0.672250, 0.00074152, None),
]


@pytest.mark.spec("algorithms §10.1")
@pytest.mark.parametrize(("loader", "standardized", "mean", "values", "share", "error", "first"), REFERENCE)
def test_reference_results(
    loader: Callable[[], Any],
    standardized: bool,
    mean: bool,
    values: list[float],
    share: float | None,
    error: float,
    first: list[float] | None,
) -> None:
    """Singular values, captured share, reconstruction error and the first projection, strongest component last."""
    rows = features(loader, standardized=standardized)
    components = fit(rows, len(values), subtract_mean=mean)
    np.testing.assert_allclose(components.singular_values[::-1], values, rtol=1e-4)
    if share is not None:
        assert share_captured(rows, components) == pytest.approx(share, rel=1e-4)
    projected = (rows - components.mean) @ components.directions
    rebuilt = projected @ components.directions.T + components.mean
    assert float(np.square(rows - rebuilt).mean()) == pytest.approx(error, rel=1e-4)
    if first is not None:
        np.testing.assert_allclose(np.abs(projected[0][::-1])[: len(first)], first, rtol=1e-4)


def test_the_result_does_not_depend_on_mini_batches() -> None:
    """Sums are sums."""
    rows = features(datasets.load_iris)
    whole, pieces = fit(rows, 3, batch=1000), fit(rows, 3, batch=1)
    np.testing.assert_allclose(whole.singular_values, pieces.singular_values, rtol=1e-9)
    np.testing.assert_allclose(whole.directions, pieces.directions, atol=1e-9)


def test_a_large_offset_costs_no_digits() -> None:
    """The scatter is summed around the first mini-batch's mean."""
    rows = features(datasets.load_iris).astype(np.float64)
    np.testing.assert_allclose(fit(rows + 1e6, 2).singular_values, fit(rows, 2).singular_values, rtol=1e-6)


def test_signs_are_fixed() -> None:
    """The largest absolute entry of each direction is positive."""
    directions = fit(features(datasets.load_digits), 10).directions
    largest = directions[np.abs(directions).argmax(axis=0), np.arange(10)]
    assert (largest > 0).all()


@pytest.mark.spec("algorithms §10.1")
@pytest.mark.parametrize(("extra", "low", "high"), [(10, 0.55, 0.65), (50, 0.65, 0.72)])
def test_the_sketch_captures_what_the_documented_method_does(extra: int, low: float, high: float) -> None:
    """Randomized mode is an approximation, never better than the best."""
    rows = features(datasets.load_digits)
    shares = []
    for seed in range(5):
        sketch = RandomizedSketch(64, 10 + extra, subtract_mean=True, seed=seed)
        for start in range(0, len(rows), 500):
            sketch.add(rows[start : start + 500])
        shares.append(share_captured(rows, sketch.components(10)))
    assert low < np.mean(shares) < high
    assert max(shares) <= 0.738227


def test_the_sketchs_singular_values_are_on_the_exact_scale() -> None:
    """With a sketch far larger than the rank both modes agree."""
    rows = features(datasets.load_iris)
    sketch = RandomizedSketch(4, 4000, subtract_mean=True)
    sketch.add(rows)
    components = sketch.components(2)
    np.testing.assert_allclose(components.singular_values, fit(rows, 2).singular_values, rtol=0.05)
    assert components.singular_values[0] < components.singular_values[1]


def saved(tmp_path: Path, hyperparameters: Mapping[str, Any] | None = None) -> Path:
    save(tmp_path, fit(features(datasets.load_iris), 2), hyperparameters or {})
    return tmp_path


@pytest.mark.spec("algorithms §6.1")
def test_the_artifact_is_sagemakers(tmp_path: Path) -> None:
    """model_algo-1 holds s, v and mean; s ascends."""
    arrays = mxnet_arrays.decode((saved(tmp_path) / FILE_NAME).read_bytes())
    assert {name: array.shape for name, array in arrays.items()} == {"s": (2,), "v": (4, 2), "mean": (1, 4)}
    np.testing.assert_allclose(arrays["s"], [6.013147, 25.09996], rtol=1e-4)
    np.testing.assert_allclose(arrays["mean"], [[5.843333, 3.057333, 3.758, 1.199333]], rtol=1e-5)
    assert all(array.dtype == np.float32 for array in arrays.values())


def test_a_model_trained_on_aws_is_served(tmp_path: Path) -> None:
    """An artifact without our manifest is a model like any other."""
    (saved(tmp_path) / "millrace.json").unlink()
    answer = load(tmp_path).invoke(Invocation(chunks=[b"5.1,3.5,1.4,0.2"], content_type="text/csv", accept="text/csv"))
    np.testing.assert_allclose([abs(float(x)) for x in answer.body.split(b",")], [0.319397, 2.684126], rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (FILE_NAME, b"", "damaged MXNet array file"),
        (FILE_NAME, mxnet_arrays.encode({"w": np.ones(1)}), "must hold arrays s, v and mean, got"),
        (FILE_NAME, mxnet_arrays.encode({"v": np.ones((2, 1)), "mean": np.ones(3)}), "v has shape"),
        ("millrace.json", b"{}", "millrace.json: KeyError"),
        (
            "millrace.json",
            b'{"algorithm":"knn","feature_dim":4,"format_version":1}',
            "the model was trained by 'knn', this image serves 'pca'",
        ),
        (
            "millrace.json",
            b'{"algorithm":"pca","feature_dim":4,"format_version":9}',
            "format_version must be at most 1",
        ),
    ],
)
def test_a_damaged_artifact_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    """The message names the file."""
    (saved(tmp_path) / name).write_bytes(content)
    with pytest.raises(ModelError, match=message):
        load(tmp_path)


def test_an_empty_model_directory_is_refused(tmp_path: Path) -> None:
    """The missing file is named."""
    with pytest.raises(ModelError, match="the model directory holds no model_algo-1"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/csv", b""),
        ("text/csv", b"\n"),
        ("application/jsonlines", b"\r\n\n"),
        ("application/json", b'{"instances":[]}'),
        ("application/x-recordio-protobuf", b""),
    ],
)
def test_a_request_without_rows_is_told_why(tmp_path: Path, content_type: str, body: bytes) -> None:
    """In every format alike; with SingleRecord a blank line of the input is such a request."""
    text = "expected at least one row, got none: an empty body, a blank line or an empty list"
    with pytest.raises(PayloadError, match=f"{text}$"):
        load(saved(tmp_path)).invoke(Invocation(chunks=[body], content_type=content_type))


@pytest.mark.parametrize(
    ("content_type", "body", "place"),
    [
        ("text/csv", b"1,2,3,4\n1,2,1e400,4\n", "'inf' is not finite in row 2, column 3"),
        ("text/csv;label_size=1", b"nan,1,2,3,-inf\n", "'-inf' is not finite in row 1, column 5"),
        ("application/json", b'{"instances":[{"features":[1,2,3,1e39]}]}', "'1e+39' is not finite as float32 in row 1"),
        ("application/jsonlines", b'{"data":{"features":{"values":[1,2,3,-1e39]}}}', "'-1e+39' is not finite as"),
        ("application/x-recordio-protobuf", write_table(Table(features=np.full((1, 4), np.nan))), "'nan' is not"),
    ],
)
def test_numbers_that_are_not_finite_are_refused_in_a_request(
    tmp_path: Path, content_type: str, body: bytes, place: str
) -> None:
    """Rather than answered with nulls; columns that are ignored may hold anything."""
    with pytest.raises(PayloadError, match=f"^unable to evaluate payload provided: {re.escape(place)}"):
        load(saved(tmp_path)).invoke(Invocation(chunks=[body], content_type=content_type))
