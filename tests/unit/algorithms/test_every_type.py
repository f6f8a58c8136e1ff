"""Every content type with every Accept, for both built-in algorithms, through the container contract."""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from tests.unit.algorithms.job_folder import JobFolder, Served, serve

from millrace_algorithms.protobuf import decode
from millrace_algorithms.record_tables import write_table
from millrace_algorithms.recordio import unframe
from millrace_algorithms.tables import SparseRows, Table

ROWS = np.array([[0.5, 0.0, 2.0], [4.0, 0.0, 0.25], [4.0, 1.0, 0.5]], np.float64)
TRAINING = np.array([[0, 0, 0], [1, 0, 2], [4, 0, 0], [5, 1, 0], [0, 9, 1], [0, 8, 3]], np.float64)
LABELS = np.array([0, 0, 1, 1, 2, 2], np.float32)
RECORDIO = "application/x-recordio-protobuf"

HYPERPARAMETERS: Mapping[str, Mapping[str, str]] = {
    "pca": {"feature_dim": "3", "num_components": "2", "mini_batch_size": "10"},
    "knn": {"k": "2", "predictor_type": "classifier", "sample_size": "6"},
}


def csv(rows: Any) -> str:
    return "".join(",".join(map(str, row)) + "\n" for row in rows.tolist())


def sparse(rows: Any) -> bytes:
    """The rows as records that hold their numbers other than 0."""
    where = [np.flatnonzero(row) for row in rows]
    offsets = np.cumsum([0, *map(len, where)])
    values = np.concatenate([row[keys] for row, keys in zip(rows, where, strict=True)]).astype(np.float32)
    return write_table(Table(features=SparseRows(offsets=offsets, keys=np.concatenate(where), values=values, width=3)))


def long_form(row: list[float]) -> dict[str, Any]:
    return {"data": {"features": {"values": row}}}


def sparse_form(row: list[float]) -> dict[str, Any]:
    keys = [n for n, value in enumerate(row) if value]
    return {"data": {"features": {"keys": keys, "shape": [3], "values": [row[n] for n in keys]}}}


LISTED = ROWS.tolist()
SHORT = [{"features": row} for row in LISTED]
BODIES: Mapping[str, tuple[str | None, bytes | str]] = {
    "csv": ("text/csv", csv(ROWS)),
    "csv in capitals": ("Text/CSV; Label_Size=0", csv(ROWS)),
    "csv with labels": ("text/csv;label_size=1", "".join("7," + line + "\n" for line in csv(ROWS).splitlines())),
    "json": ("application/json", json.dumps({"instances": SHORT})),
    "json, long form": ("application/json", json.dumps({"instances": [long_form(row) for row in LISTED]})),
    "json, sparse": ("application/json", json.dumps({"instances": [sparse_form(row) for row in LISTED]})),
    "lines": ("application/jsonlines", "".join(json.dumps(it) + "\n" for it in SHORT)),
    "lines, long form": ("application/x-jsonlines", "\n".join(json.dumps(long_form(row)) for row in LISTED)),
    "lines, sparse": ("application/jsonl", "\n".join(json.dumps(sparse_form(row)) for row in LISTED)),
    "records": (RECORDIO, write_table(Table(features=ROWS.astype(np.float32)))),
    "records of doubles": (RECORDIO, write_table(Table(features=ROWS))),
    "records with labels": (RECORDIO, write_table(Table(features=ROWS, labels=LABELS[:3]))),
    "sparse records": (RECORDIO, sparse(ROWS)),
    "csv, type not named": (None, csv(ROWS)),
    "json, type not named": (None, json.dumps({"instances": SHORT})),
    "lines, type not named": (None, "".join(json.dumps(it) + "\n" for it in SHORT)),
    "records, type not named": (None, write_table(Table(features=ROWS))),
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Served]]:
    """Both algorithms, trained from RecordIO-protobuf and served."""
    with ExitStack() as stack:
        running = {}
        for algorithm, hyperparameters in HYPERPARAMETERS.items():
            folder = JobFolder(tmp_path_factory.mktemp(algorithm)).configure(hyperparameters, {"train": RECORDIO})
            folder.put("train", "a", write_table(Table(features=TRAINING, labels=LABELS)))
            code, log = folder.train(algorithm)
            assert code == 0, log
            running[algorithm] = stack.enter_context(serve(folder, algorithm, SAGEMAKER_MODEL_SERVER_WORKERS="1"))
        yield running


def records_of(accept: str, body: bytes) -> list[dict[str, list[float]]]:
    """Return the records of an answer, every member as a list of numbers."""
    name, _, _ = accept.partition(";")
    if name == RECORDIO:
        decoded = [decode(payload) for payload in unframe(body)]
        assert not any(record.features for record in decoded)
        return [{key: tensor.values.tolist() for key, tensor in record.label.items()} for record in decoded]
    if name == "application/json":
        (found,) = json.loads(body).values()
    else:
        assert body.endswith(b"\n")
        found = [json.loads(line) for line in body.splitlines()]
    return [{key: value if isinstance(value, list) else [value] for key, value in one.items()} for one in found]


ANSWERS = [
    ("pca", "application/json", {"projection": 2}),
    ("pca", "application/jsonlines", {"projection": 2}),
    ("pca", RECORDIO, {"projection": 2}),
    ("knn", "application/json", {"predicted_label": 1}),
    ("knn", "application/jsonlines", {"predicted_label": 1}),
    ("knn", RECORDIO, {"predicted_label": 1}),
    ("knn", "application/json; verbose=true", {"predicted_label": 1, "distances": 2, "labels": 2}),
    ("knn", "application/jsonlines;Verbose=True", {"predicted_label": 1, "distances": 2, "labels": 2}),
    ("knn", f"{RECORDIO}; verbose=true", {"predicted_label": 1, "distances": 2, "labels": 2}),
]


@pytest.mark.spec("algorithms §6.1")
@pytest.mark.spec("algorithms §6.2")
@pytest.mark.parametrize("given", BODIES)
@pytest.mark.parametrize(("algorithm", "accept", "members"), ANSWERS)
def test_every_type_is_read_and_answered(
    served: Mapping[str, Served], algorithm: str, accept: str, members: dict[str, int], given: str
) -> None:
    """However rows are sent and answers asked for, there is one record for each row, with the same numbers."""
    content_type, body = BODIES[given]
    status, answered, content = served[algorithm].invoke(body, content_type, accept)
    assert (status, answered) == (200, accept.partition(";")[0])
    found = records_of(accept, content)
    assert [{name: len(values) for name, values in record.items()} for record in found] == [members] * 3
    expected = records_of("application/json", served[algorithm].invoke(csv(ROWS), "text/csv", accept_json(accept))[2])
    for one, other in zip(found, expected, strict=True):
        for name in members:
            np.testing.assert_allclose(one[name], other[name], rtol=1e-5, atol=1e-5)
    if "predicted_label" in members:
        assert [record["predicted_label"] for record in found] == [[0.0], [1.0], [1.0]]


def accept_json(accept: str) -> str:
    return "application/json;" + accept.partition(";")[2]


@pytest.mark.parametrize("given", BODIES)
@pytest.mark.parametrize("algorithm", HYPERPARAMETERS)
def test_csv_is_answered_to_every_type(served: Mapping[str, Served], algorithm: str, given: str) -> None:
    """CSV answers hold the members of a record in one line."""
    content_type, body = BODIES[given]
    status, answered, content = served[algorithm].invoke(body, content_type, "text/csv")
    assert (status, answered) == (200, "text/csv")
    lines = content.decode().splitlines()
    assert [len(line.split(",")) for line in lines] == [2 if algorithm == "pca" else 1] * 3


@pytest.mark.parametrize("algorithm", HYPERPARAMETERS)
def test_a_single_record_needs_no_frame(served: Mapping[str, Served], algorithm: str) -> None:
    """A batch job with SingleRecord sends a record's bytes alone, without RecordIO's framing; they are read as well."""
    framed = served[algorithm].invoke(write_table(Table(features=ROWS)), RECORDIO, "application/jsonlines")[2]
    for row, line in zip(ROWS, framed.splitlines(keepends=True), strict=True):
        (bare,) = unframe(write_table(Table(features=row[None, :])))
        assert served[algorithm].invoke(bare, RECORDIO, "application/jsonlines") == (200, "application/jsonlines", line)
    status, _, text = served[algorithm].invoke(b"no record", RECORDIO)
    assert status == 400
    assert text.startswith(b"unable to evaluate payload provided: ")
