import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn import datasets
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from millrace_algorithms.errors import InputError, ModelError
from millrace_algorithms.hyperparameters import validate
from millrace_algorithms.knn import ALGORITHM
from millrace_algorithms.knn.index import check
from millrace_algorithms.knn.model import KnnModel, load, read, save
from millrace_algorithms.knn.prediction import mean, vote
from millrace_algorithms.knn.projection import ProjectionType, projection_matrix
from millrace_algorithms.knn.train import build
from millrace_algorithms.reservoir import Reservoir
from millrace_algorithms.scores import accuracy, macro_f1, mean_squared_error
from millrace_algorithms.serving.invocation import Invocation

Matrix = npt.NDArray[Any]
Split = tuple[Matrix, Matrix, Matrix, Matrix]


def split(loader: Callable[[], Any], *, standardized: bool = False) -> Split:
    data = loader()
    train, test, train_labels, test_labels = train_test_split(
        data.data.astype(np.float32), data.target, test_size=0.25, random_state=0
    )
    if standardized:
        scaler = StandardScaler().fit(train)
        train, test = scaler.transform(train), scaler.transform(test)
    return train.astype(np.float32), test.astype(np.float32), train_labels.astype(np.float32), test_labels


def settings(**given: object) -> dict[str, Any]:
    texts = {name: str(value) for name, value in given.items()}
    defaults = {"sample_size": "99999", "predictor_type": "classifier", "k": "5"}
    return validate(ALGORITHM.hyperparameters, {**defaults, **texts})


def fit(data: Split, **given: object) -> KnnModel:
    return build(settings(**given), data[0], data[2])


@pytest.mark.spec("algorithms §10.2")
@pytest.mark.parametrize(
    ("loader", "standardized", "k", "expected"),
    [
        (datasets.load_iris, False, 1, 0.973684),
        (datasets.load_iris, False, 5, 0.973684),
        (datasets.load_digits, False, 3, 0.986667),
        (datasets.load_digits, False, 5, 0.980000),
        (datasets.load_wine, False, 5, 0.733333),
        (datasets.load_wine, True, 5, 0.977778),
        (datasets.load_breast_cancer, False, 5, 0.937063),
        (datasets.load_breast_cancer, True, 7, 0.951049),
    ],
)
def test_reference_accuracies(loader: Callable[[], Any], standardized: bool, k: int, expected: float) -> None:
    """Flat, L2, vote, ties to the smallest label."""
    data = split(loader, standardized=standardized)
    model = fit(data, k=k)
    predicted = model.predict(model.search(data[1])[1])
    assert accuracy(data[3], predicted) == pytest.approx(expected, abs=1e-6)
    assert macro_f1(data[3], predicted) == pytest.approx(f1_score(data[3], predicted, average="macro"))


@pytest.mark.spec("algorithms §10.2")
def test_reference_predictions_of_iris() -> None:
    """In test order, with the first row's squared distances."""
    data = split(datasets.load_iris)
    model = fit(data)
    distances, labels = model.search(data[1])
    expected = "2 1 0 2 0 2 0 1 1 1 2 1 1 1 1 0 1 1 0 0 2 1 0 0 2 0 0 1 1 0 2 1 0 2 2 1 0 2"
    assert " ".join(str(int(p)) for p in model.predict(labels)) == expected
    np.testing.assert_allclose(distances[0][:3], [0.26, 0.26, 0.27], rtol=1e-4)


@pytest.mark.spec("algorithms §10.2")
@pytest.mark.parametrize(("k", "expected"), [(1, 7719.4144), (5, 4025.5236), (10, 3651.3740)])
def test_reference_errors_of_the_regressor(k: int, expected: float) -> None:
    """The mean of the neighbours' labels."""
    data = split(datasets.load_diabetes)
    model = fit(data, k=k, predictor_type="regressor")
    assert mean_squared_error(data[3], model.predict(model.search(data[1])[1])) == pytest.approx(expected, abs=1e-3)


@pytest.mark.spec("algorithms §10.2")
@pytest.mark.parametrize(("kind", "target", "low"), [("sign", 16, 0.90), ("sign", 32, 0.95), ("fjlt", 32, 0.965)])
def test_shortened_rows_keep_their_neighbours(kind: str, target: int, low: float) -> None:
    """Random projections lose little accuracy."""
    data = split(datasets.load_digits)
    model = fit(data, dimension_reduction_type=kind, dimension_reduction_target=target)
    assert model.index.d == target
    assert accuracy(data[3], model.predict(model.search(data[1])[1])) > low


@pytest.mark.parametrize("kind", list(ProjectionType))
def test_projections_repeat_and_keep_lengths(kind: ProjectionType) -> None:
    """The seed is all that a model keeps."""
    matrix = projection_matrix(kind, input_dim=48, target_dim=32, seed=7)
    np.testing.assert_array_equal(matrix, projection_matrix(kind, input_dim=48, target_dim=32, seed=7))
    assert not np.array_equal(matrix, projection_matrix(kind, input_dim=48, target_dim=32, seed=8))
    rows = np.random.default_rng(0).standard_normal((200, 48)).astype(np.float32)
    ratio = np.square(rows @ matrix).sum() / np.square(rows).sum()
    assert 0.8 < ratio < 1.2


@pytest.mark.parametrize(
    ("given", "low"),
    [
        ({"index_type": "faiss.IVFFlat"}, 0.96),
        ({"index_type": "faiss.IVFFlat", "faiss_index_ivf_nlists": "4", "index_metric": "COSINE"}, 0.96),
        ({"index_type": "faiss.IVFPQ", "faiss_index_pq_m": "16"}, 0.95),
        ({"index_type": "faiss.IVFPQ", "faiss_index_pq_m": "12"}, 0.93),
        ({"index_metric": "COSINE"}, 0.97),
        ({"index_metric": "INNER_PRODUCT"}, 0.70),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_every_index_finds_neighbours(given: dict[str, str], low: float) -> None:
    """Inverted and quantized indexes, all metrics, a quantizer that does not divide the width."""
    data = split(datasets.load_digits)
    model = fit(data, **given)
    distances, labels = model.search(data[1])
    assert accuracy(data[3], model.predict(labels)) > low
    assert (np.diff(distances, axis=1) >= 0).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"index_type": "faiss.IVFPQ", "faiss_index_pq_m": "4", "index_metric": "COSINE"}, "index_metric must be L2"),
        ({"index_type": "faiss.IVFPQ"}, "'faiss_index_pq_m' is a required property"),
    ],
)
def test_index_settings_must_go_together(given: dict[str, str], message: str) -> None:
    """Each rule names its hyperparameter."""
    with pytest.raises(InputError, match=message):
        check(settings(**given))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"dimension_reduction_type": "sign"}, "'dimension_reduction_target' is a required property"),
        (
            {"dimension_reduction_type": "sign", "dimension_reduction_target": "4"},
            "dimension_reduction_target must be less than feature_dim=4, got 4",
        ),
        (
            {"index_type": "faiss.IVFFlat", "faiss_index_ivf_nlists": "113"},
            "faiss_index_ivf_nlists must be at most the 112 rows of the sample, got 113",
        ),
        ({"index_type": "faiss.IVFPQ", "faiss_index_pq_m": "2"}, "needs a sample of at least 256 rows, got 112"),
    ],
)
def test_settings_must_fit_the_data(given: dict[str, str], message: str) -> None:
    """Known once the sample is."""
    with pytest.raises(InputError, match=message):
        fit(split(datasets.load_iris), **given)


@pytest.mark.spec("algorithms §6.2")
def test_a_tied_vote_goes_to_the_smallest_label() -> None:
    """Missing neighbours don't vote."""
    nan = np.nan
    labels = np.array([[2, 1, 1, 2], [5, 3, 2, 9], [7, 7, 0, 0], [nan, nan, nan, 3], [nan] * 4], np.float32)
    np.testing.assert_array_equal(vote(labels), [1, 2, 0, 3, nan])
    np.testing.assert_array_equal(mean(labels), [1.5, 4.75, 3.5, 3, nan])
    np.testing.assert_array_equal(vote(np.full((2, 3), nan, np.float32)), [nan, nan])


def test_the_reservoir_keeps_all_rows_of_small_data_in_order() -> None:
    """sample_size may exceed the data."""
    reservoir = Reservoir(100)
    rows = np.arange(20.0).reshape(10, 2)
    for start in (0, 4, 8):
        reservoir.add(rows[start : start + 4], rows[start : start + 4, 0])
    kept, labels = reservoir.sample()
    np.testing.assert_array_equal(kept, rows)
    np.testing.assert_array_equal(labels, rows[:, 0])


def test_the_reservoir_is_a_uniform_sample_of_large_data() -> None:
    """Rows keep their labels, and early and late rows are alike likely."""
    reservoir = Reservoir(5000)
    numbers = np.arange(50_000.0)
    for part in np.array_split(numbers, 37):
        reservoir.add(part[:, None], part)
    kept, labels = reservoir.sample()
    np.testing.assert_array_equal(kept[:, 0], labels)
    assert (len(np.unique(labels)), reservoir.seen) == (5000, 50_000)
    quarters = np.bincount((labels // 12_500).astype(int), minlength=4)
    assert (np.abs(quarters - 1250) < 150).all()


@pytest.mark.spec("algorithms §6.2")
def test_the_artifact_is_sagemakers_three_files(tmp_path: Path) -> None:
    """A faiss index, float32 labels, and settings in JSON."""
    import faiss

    data = split(datasets.load_iris)
    save(tmp_path, fit(data, dimension_reduction_type="sign", dimension_reduction_target=3), {})
    assert faiss.read_index(str(tmp_path / "model_algo-1")).ntotal == 112
    np.testing.assert_array_equal(np.fromfile(tmp_path / "model_algo-1.labels", "<f4"), data[2])
    assert json.loads((tmp_path / "model_algo-1.json").read_text()) == {
        "k": 5,
        "predictor_type": "classifier",
        "dimension_reduction": {"type": "sign", "seed": 0, "input_dim": 4, "target_dim": 3},
        "normalize": False,
        "version": "1.0",
    }
    np.testing.assert_array_equal(
        read(tmp_path).search(data[1])[1],
        fit(data, dimension_reduction_type="sign", dimension_reduction_target=3).search(data[1])[1],
    )


@pytest.mark.spec("algorithms §6.2")
def test_edited_settings_are_honoured_in_either_spelling(tmp_path: Path) -> None:
    """Users may change k and predictor_type; the guide's example is a Python literal."""
    save(tmp_path, fit(split(datasets.load_iris)), {})
    (tmp_path / "model_algo-1.json").write_text(
        "{'k': 2, 'predictor_type': 'regressor', 'normalize': False, 'version': '1.0'}"
    )
    model = read(tmp_path)
    assert (model.k, model.predictor_type.value, model.normalize) == (2, "regressor", False)
    (tmp_path / "millrace.json").unlink()
    assert read(tmp_path).feature_dim == 4


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model_algo-1", b"nonsense", "model_algo-1 is no faiss index"),
        ("model_algo-1.labels", b"\0" * 8, "model_algo-1.labels must hold 112 labels, got 2"),
        ("model_algo-1.json", b"{]", "model_algo-1.json is not JSON"),
        ("model_algo-1.json", b"[]", "model_algo-1.json must hold an object, got list"),
        ("model_algo-1.json", b"{}", "model_algo-1.json: KeyError"),
        ("model_algo-1.json", b'{"k": 0, "predictor_type": "regressor"}', "k must be at least 1, got 0"),
        ("model_algo-1.json", b'{"k": 1, "predictor_type": "judge"}', "'judge' is not a valid"),
    ],
)
def test_a_damaged_artifact_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    """The message names the file."""
    save(tmp_path, fit(split(datasets.load_iris)), {})
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=message):
        read(tmp_path)


def test_a_reduced_model_from_elsewhere_is_refused(tmp_path: Path) -> None:
    """AWS's random projection is not known, so its distances could not be repeated."""
    save(tmp_path, fit(split(datasets.load_iris), dimension_reduction_type="sign", dimension_reduction_target=2), {})
    (tmp_path / "millrace.json").unlink()
    with pytest.raises(ModelError, match="its projection is not known"):
        read(tmp_path)


@pytest.mark.spec("algorithms §6.2")
def test_answers_are_short_or_verbose(tmp_path: Path) -> None:
    """verbose=true adds distances, ascending, and labels of the neighbours."""
    save(tmp_path, fit(split(datasets.load_iris), k=3), {})
    model = load(tmp_path)

    def ask(accept: str) -> bytes:
        row = b"5.8,2.8,5.1,2.4\n"
        return model.invoke(Invocation(chunks=[row], content_type="text/csv", accept=accept)).body

    assert ask("application/json") == b'{"predictions":[{"predicted_label":2.0}]}'
    (record,) = json.loads(ask("application/json; verbose=true"))["predictions"]
    assert list(record) == ["predicted_label", "distances", "labels"]
    assert record["distances"] == sorted(record["distances"])
    assert len(record["labels"]) == 3
    assert json.loads(ask("application/jsonlines;verbose=True")) == record
    assert ask("text/csv") == b"2.0\n"


def test_k_may_exceed_the_sample() -> None:
    """All rows are neighbours then."""
    rows = np.eye(3, dtype=np.float32)
    model = build(settings(k=10), rows, np.array([0, 1, 1], np.float32))
    distances, labels = model.search(rows)
    assert distances.shape == (3, 3)
    assert model.predict(labels).tolist() == [1, 1, 1]
