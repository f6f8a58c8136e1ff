"""Outputs of a transform as one table."""

import io

import pyarrow as pa
import pytest
from pyarrow import ipc, parquet

from millrace.dataplane.formats.options import TableForm
from millrace.errors import UsageError
from millrace.jobs.transform import TransformSpec
from millrace.names import ObjectPrefix
from millrace.notebook.outputs import OutputForm, frame_of, read_table


def _form(accept: str | None = "text/csv", **environment: str) -> OutputForm:
    place = ObjectPrefix("shop", "x")
    return OutputForm.of(TransformSpec(model="m", source=place, output=place, accept=accept, environment=environment))


def test_rows_of_csv_come_in_the_order_of_the_outputs() -> None:
    """An output without a row has none; types may differ from one to the next."""
    table = read_table([("a", b"1,x\n2,y\n"), ("b", b""), ("c", b'3.5,"z\nz"\n')], _form())
    assert table.to_pydict() == {"f0": [1.0, 2.0, 3.5], "f1": ["x", "y", "z\nz"]}


def test_the_last_row_tells_what_a_column_of_csv_is() -> None:
    """However far behind it stands, and in whichever output."""
    long = b"1\n" * (1 << 20)
    assert read_table([("a", long + b"0.5\n")], _form()).column("f0").to_pylist()[-2:] == [1.0, 0.5]
    assert read_table([("a", long + b"x\n")], _form()).column("f0").to_pylist()[-2:] == ["1", "x"]
    mixed = read_table([("a", b"1,01\n"), ("b", b"x,2\n"), ("c", b"true,\n")], _form())
    assert mixed.to_pydict() == {"f0": ["1", "x", "true"], "f1": [1, 2, None]}


def test_columns_that_are_no_one_column_are_named() -> None:
    """With the outputs that differ: values of JSON, and columns of tables, are not made others."""
    with pytest.raises(UsageError, match='column "y" is int64 in a and string in c, which make no one table'):
        read_table([("a", b'{"y":1}'), ("b", b'{"y":null}'), ("c", b'{"y":"z"}')], _form("application/jsonlines"))


def test_columns_have_the_names_of_the_output() -> None:
    """Where it begins with them."""
    assert read_table([("a", b"score\n1\n")], _form(MILLRACE_OUTPUT_COLUMNS="score")).to_pydict() == {"score": [1]}


def test_placeholders_are_rows_of_nulls() -> None:
    """So that rows still match the input."""
    form = _form(MILLRACE_ON_ERROR="skip")
    assert read_table([("a", b"1,2\n\n3,4\n")], form).to_pydict() == {"f0": [1, None, 3], "f1": [2, None, 4]}
    assert read_table([("a", b"\n1\n")], form).to_pydict() == {"f0": [None, 1]}


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        (b'{"y":1}\n{"y":2,"z":"a"}\n', [{"y": 1, "z": None}, {"y": 2, "z": "a"}]),
        (b"[1,2]\n\n[3]\n", [{"f0": [1, 2]}, {"f0": [3]}]),
        (b'[{"y":1}]', [{"y": 1}]),
        (b'{"y":1}\nnull\n', [{"y": 1}, {"y": None}]),
        (b"null\n1\n", [{"f0": None}, {"f0": 1}]),
        (b'{"y":[{"z":1}]}\n', [{"y": [{"z": 1}]}]),
    ],
)
def test_json_is_rows(body: bytes, rows: list[object]) -> None:
    """Lines, or one document; what is no object is a column of its own."""
    assert read_table([("a", body)], _form("application/jsonlines")).to_pylist() == rows


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        (b'{"predictions":[{"y":1},{"y":2}]}', [{"y": 1}, {"y": 2}]),
        (b'{"predictions":[{"y":1}]}{"predictions":[{"y":2}]}', [{"y": 1}, {"y": 2}]),
        (b'{"predictions":[{"y":1}]}\n\n{"predictions":[{"y":2}]}\n', [{"y": 1}, {"y": 2}]),
        (b'{"y":[1,2]}{"y":[3]}', [{"y": [1, 2]}, {"y": [3]}]),
        (b'{"SageMakerOutput":{"y":1},"id":7}', [{"SageMakerOutput": {"y": 1}, "id": 7}]),
    ],
)
def test_documents_of_json_are_rows(body: bytes, rows: list[object]) -> None:
    """One for each request, with nothing between; what built-in algorithms answer has its predictions as rows."""
    assert read_table([("a", body)], _form("application/json")).to_pylist() == rows


def test_tables_are_read_as_they_are() -> None:
    """Parquet and Arrow."""
    table = pa.table({"y": [1, 2]})
    sink = io.BytesIO()
    parquet.write_table(table, sink)
    assert read_table([("a", sink.getvalue())], OutputForm(table=TableForm.PARQUET)) == table
    sink = io.BytesIO()
    with ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    assert read_table([("a", sink.getvalue())], OutputForm(table=TableForm.ARROW)) == table


def test_what_cannot_be_read_is_named() -> None:
    """The output, or the option that says how outputs are read."""
    with pytest.raises(UsageError, match=r"out/a\.csv\.out can't be read"):
        read_table([("out/a.csv.out", b"1,2\n3\n")], _form())
    with pytest.raises(UsageError, match="accept must be text/csv"):
        read_table([("a", b"1")], _form(None))


def test_frames_are_tables_of_pandas() -> None:
    """If it is there."""
    pytest.importorskip("pandas")
    assert frame_of(pa.table({"y": [1, 2]}))["y"].tolist() == [1, 2]
