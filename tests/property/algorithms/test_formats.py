import contextlib
import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from millrace_algorithms import protobuf
from millrace_algorithms.csv_numbers import CsvReader
from millrace_algorithms.errors import MalformedText, NotFinite
from millrace_algorithms.finite import require_finite
from millrace_algorithms.json_instances import InstanceReader
from millrace_algorithms.lines import line_blocks, with_line_feeds
from millrace_algorithms.number_text import Column, print_csv, print_json_records
from millrace_algorithms.protobuf import Record, Tensor
from millrace_algorithms.record_tables import RecordTableReader, write_table
from millrace_algorithms.recordio import frame, unframe
from millrace_algorithms.tables import SparseRows, Table

Matrix = npt.NDArray[Any]
shapes = st.tuples(st.integers(1, 12), st.integers(1, 6))
finite: dict[str, Any] = {"allow_nan": False, "allow_infinity": False}
float32_matrices = shapes.flatmap(lambda shape: hnp.arrays(np.float32, shape, elements=st.floats(width=32, **finite)))
float64_matrices = shapes.flatmap(lambda shape: hnp.arrays(np.float64, shape, elements=st.floats(**finite)))
matrices = st.one_of(float32_matrices, float64_matrices)
cells = st.sampled_from(
    [
        "1",
        "-2.5",
        "+3",
        ".5",
        "1.",
        "007",
        "1e3",
        "nan",
        "inf",
        '"4"',
        " 6 ",
        "x",
        "",
        "[1]",
        "null",
        "-1.25e77",
        "1_0",
    ]
)
cuts = st.integers(1, 40)


def chunked(text: bytes, size: int) -> list[bytes]:
    return [text[i : i + size] for i in range(0, len(text), size)]


def read_csv(text: bytes, size: int, block_bytes: int) -> list[list[float]]:
    return [row for m in CsvReader().read(chunked(text, size), block_bytes) for row in m.tolist()]


@given(matrices, cuts, cuts)
def test_csv_that_was_printed_reads_back(matrix: Matrix, size: int, block_bytes: int) -> None:
    """The fewest digits are enough, however the text is cut."""
    rows = read_csv(print_csv([Column("x", matrix)]), size, block_bytes)
    np.testing.assert_array_equal(np.array(rows).astype(matrix.dtype), matrix)


@given(matrices, st.booleans())
def test_json_that_was_printed_reads_back(matrix: Matrix, lines: bool) -> None:
    """As a document and as lines, through the compiled and the tolerant reader alike."""
    if lines:
        text = print_json_records([Column("features", matrix)], b"\n") + b"\n"
        tables = list(InstanceReader().read_json_lines([text]))
        spaced = b"\n".join(json.dumps(json.loads(line), indent=None).encode() for line in text.splitlines())
        slow = list(InstanceReader().read_json_lines([b'{"data":' + x + b"}\n" for x in spaced.splitlines()]))
    else:
        text = b'{"instances":[' + print_json_records([Column("features", matrix)], b",") + b"]}"
        tables = list(InstanceReader().read_json(text))
        slow = list(InstanceReader().read_json(json.dumps({**json.loads(text), "configuration": {}}).encode()))
    for found in (tables, slow):
        rows = np.concatenate([table.dense() for table in found])
        np.testing.assert_array_equal(rows.astype(matrix.dtype), matrix)


@given(st.lists(st.lists(cells, min_size=1, max_size=4), min_size=1, max_size=6), cuts, cuts)
def test_blocks_and_readers_do_not_change_what_csv_means(table: list[list[str]], size: int, block_bytes: int) -> None:
    """The fast readers give what the slow one gives, or the same error, wherever the text is cut."""
    text = "\n".join(",".join(row) for row in table).encode()

    def outcome(read: Any) -> object:
        try:
            return repr(read())
        except MalformedText as exc:
            return type(exc), str(exc)

    def cell_by_cell() -> list[list[float]]:
        reader = CsvReader()
        stripped = text.rstrip(b"\n")
        if not stripped:
            return []
        return list(reader.read_cell_by_cell(stripped).tolist())

    assert outcome(lambda: read_csv(text, size, 1 << 20)) == outcome(cell_by_cell)
    assert outcome(lambda: read_csv(text, size, block_bytes)) == outcome(cell_by_cell)


@given(st.text("a\r\n", max_size=60), cuts, cuts)
def test_no_line_is_lost_between_blocks(text: str, size: int, block_bytes: int) -> None:
    """Rows and the first blank line before a row keep their place; blank lines at the end go."""
    given_lines = text.encode().replace(b"\r\n", b"\n").rstrip(b"\r\n").split(b"\n")
    if b"\r" in b"".join(given_lines):  # a lone CR is part of a row and of nobody's interest
        return
    blocks = line_blocks(chunked(text.encode(), size), block_bytes)
    found = with_line_feeds(b"\n".join(blocks)).split(b"\n")
    assert [line for line in found if line] == [line for line in given_lines if line]
    whole = with_line_feeds(b"\n".join(line_blocks([text.encode()], 1 << 20))).split(b"\n")
    assert whole == given_lines


@given(matrices, st.booleans(), st.integers(1, 200), cuts)
def test_dense_records_that_were_written_read_back(matrix: Matrix, labelled: bool, size: int, block_bytes: int) -> None:
    """Bit for bit, with and without labels, however the bytes are cut."""
    labels = matrix[:, 0].astype(np.float32) if labelled and matrix.dtype == np.float32 else None
    framed = write_table(Table(features=matrix, labels=labels))
    tables = list(RecordTableReader().read(chunked(framed, size), block_bytes))
    np.testing.assert_array_equal(np.concatenate([t.dense() for t in tables]), matrix)
    if labels is not None:
        np.testing.assert_array_equal(np.concatenate([t.label_column() for t in tables]), labels)


@given(float32_matrices, st.data())
def test_sparse_records_that_were_written_read_back(matrix: Matrix, data: st.DataObject) -> None:
    """Whichever positions are kept."""
    kept = data.draw(hnp.arrays(np.bool_, matrix.shape))
    kept[:, 0] = True
    rows, keys = np.nonzero(kept)
    sparse = SparseRows(
        offsets=np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(matrix)))]).astype(np.int64),
        keys=keys.astype(np.int64),
        values=matrix[kept],
        width=matrix.shape[1],
    )
    (table,) = RecordTableReader().read([write_table(Table(features=sparse))])
    np.testing.assert_array_equal(table.dense(), np.where(kept, matrix, 0))


@given(hnp.arrays(np.int32, st.integers(0, 8)), st.dictionaries(st.text(max_size=3), st.integers(0, 3), max_size=3))
def test_any_record_that_was_encoded_decodes(values: npt.NDArray[np.int32], label: dict[str, int]) -> None:
    """Names are any text, values any int32."""
    record = Record(
        features={"values": Tensor(values=values, shape=(8,))},
        label={name: Tensor(values=np.full(size, 1.5)) for name, size in label.items()},
    )
    decoded = protobuf.decode(protobuf.encode(record))
    np.testing.assert_array_equal(decoded.features["values"].values, values)
    assert {name: len(tensor.values) for name, tensor in decoded.label.items()} == label


@given(
    shapes.flatmap(
        lambda shape: hnp.arrays(
            np.float64, shape, elements=st.sampled_from([0, 1, -3e38, 1e39, -1e300, np.nan, np.inf])
        )
    )
)
def test_the_first_number_that_is_not_finite_as_float32_is_found(matrix: Matrix) -> None:
    """Numbers that are too large for their squares to be summed are no reason to refuse a table."""
    wrong = np.argwhere(~(np.abs(matrix) <= np.finfo(np.float32).max))
    if not len(wrong):
        require_finite(Table(features=matrix), labels=False)
        return
    with pytest.raises(NotFinite) as caught:
        require_finite(Table(features=matrix, first_row=7, first_column=1), labels=False)
    assert (caught.value.row - 8, (caught.value.column or 0) - 2) == tuple(wrong[0])


@given(st.binary(max_size=60))
def test_no_bytes_break_the_decoder(payload: bytes) -> None:
    """Damage is a ValueError and nothing else."""
    with contextlib.suppress(ValueError):
        protobuf.decode(payload)


@given(st.binary(max_size=200), cuts)
def test_no_bytes_break_the_csv_reader(text: bytes, block_bytes: int) -> None:
    """What is no table of numbers is MalformedText and nothing else."""
    with contextlib.suppress(MalformedText):
        list(CsvReader().read([text], block_bytes))


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_frames_give_back_their_payloads(payloads: list[bytes]) -> None:
    """Payloads may hold the magic itself."""
    assert list(unframe(b"".join(map(frame, payloads)))) == payloads
