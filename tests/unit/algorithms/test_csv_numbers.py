from collections.abc import Sequence

import numpy as np
import pytest

from millrace_algorithms.csv_numbers import CsvReader
from millrace_algorithms.errors import BadCell, BadLine, BadRowWidth


def read(*chunks: bytes, width: int | None = None, ignored: int = 0, block_bytes: int = 1 << 18) -> Sequence[object]:
    reader = CsvReader(width=width, ignored_columns=ignored)
    return [row for matrix in reader.read(chunks, block_bytes) for row in matrix.tolist()]


@pytest.mark.parametrize(
    "text",
    [
        b"1,2\n3,4",
        b"1,2\n3,4\n",
        b"1,2\r\n3,4\r\n",
        b"1,2\n3,4\n\n\n",
        b"1 , 2\n 3,\t4 \n",
        b"+1,2.\n03,.4e1\n",
        b'"1","2"\n3,"4"\n',
        b"\xef\xbb\xbf1,2\n3,4\n",
        b"1e0,20e-1\n3.0,4.000\n",
    ],
)
def test_all_ways_to_write_numbers_are_read(text: bytes) -> None:
    """What JSON refuses takes a slower way to the same numbers."""
    assert read(text) == [[1, 2], [3, 4]]


def test_what_is_not_finite_is_read() -> None:
    """nan and inf have no JSON form."""
    (row,) = read(b"nan,inf,-Infinity,1\n")
    np.testing.assert_array_equal(row, [np.nan, np.inf, -np.inf, 1])


def test_integers_beyond_64_bits_and_tiny_numbers_are_read() -> None:
    """They leave the compiled parser but not the reader."""
    assert read(b"123456789012345678901234567890,1e-400\n") == [[123456789012345678901234567890.0, 0.0]]


def test_the_separators_own_number_may_occur_in_data() -> None:
    """The sentinel of the compiled parser is an ordinary number, alone and among numbers that float32 cannot hold."""
    assert read(b"-1.25e77,1\n-1.25e77,-1.25e77\n") == [[-1.25e77, 1], [-1.25e77, -1.25e77]]
    assert read(b"1e300,-12.5e76\n1,2\n") == [[1e300, -1.25e77], [1, 2]]


def test_a_row_that_ends_like_the_separator_is_as_wide_as_it_is() -> None:
    """Rows of one, three and two cells, whose numbers would fill rows of two."""
    with pytest.raises(BadRowWidth) as caught:
        read(b"1\n-1.25e77,2,3\n4,5\n")
    assert str(caught.value) == "expected 1 features, got 3 in row 2"


def test_enormous_numbers_are_read_beside_ordinary_ones() -> None:
    """What float32 cannot hold is for the reader of the rows to refuse."""
    assert read(b"1e300,1\n2,3\n") == [[1e300, 1], [2, 3]]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 100])
@pytest.mark.parametrize("block_bytes", [1, 4, 1 << 18])
def test_chunks_may_be_cut_anywhere(size: int, block_bytes: int) -> None:
    """Rows are whole however the stream arrives."""
    text = b"1,2\r\n3,4\r\n5,6\r\n"
    chunks = [text[i : i + size] for i in range(0, len(text), size)]
    assert read(*chunks, block_bytes=block_bytes) == [[1, 2], [3, 4], [5, 6]]


@pytest.mark.parametrize(
    ("text", "row", "column"),
    [
        (b"sepal,petal\n1,2\n", 1, 1),
        (b"1,2\n3,x\n", 2, 2),
        (b"1,\n", 1, 2),
        (b"1,[2]\n", 1, 2),
        (b"1,{}\n", 1, 2),
        (b"1,true\n", 1, 2),
        (b"1,null\n", 1, 2),
        (b"1_0,2\n", 1, 1),
        (b"1 2,3\n", 1, 1),
        (b"1,\xff\n", 1, 2),
    ],
)
def test_a_cell_that_is_no_number_is_named(text: bytes, row: int, column: int) -> None:
    """Row and column count from 1."""
    with pytest.raises(BadCell, match=rf"in row {row}, column {column}$"):
        read(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"1,2\n\n3,4\n", r"^blank line in row 2$"),
        (b"1,2\n  \n3,4\n", r"^blank line in row 2$"),
        (b"\r\n1,2\n", r"^blank line in row 1$"),
        (b"1,2\r3,4\r", r"^carriage return without a line feed in row 1$"),
        (b"1,2\n" + b"x" * 200_000, r"^not CSV: field larger than field limit \(131072\) in row 2$"),
    ],
)
def test_a_line_that_is_no_row_is_named(text: bytes, message: str) -> None:
    """Blank lines are harmless at the end only; binary data are no cells."""
    with pytest.raises(BadLine, match=message):
        read(text)


@pytest.mark.parametrize("block_bytes", [1, 1 << 18])
def test_a_row_of_another_width_is_named(block_bytes: int) -> None:
    """Two faults that cancel in the total are found as well."""
    with pytest.raises(BadRowWidth, match="expected 2 features, got 3 in row 2"):
        read(b"1,2\n3,4,5\n6\n", block_bytes=block_bytes)
    with pytest.raises(BadRowWidth, match="expected 2 features, got 3 in row 3"):
        read(b"1,2\n3,4\n5,6,7\n", block_bytes=block_bytes)


def test_the_width_may_be_known_beforehand() -> None:
    """Label columns are not counted as features in the message."""
    with pytest.raises(BadRowWidth, match="expected 4 features, got 5 in row 1"):
        read(b"0,1,2,3,4,5\n", width=5, ignored=1)


def test_rows_are_counted_over_blocks() -> None:
    """A fault in a later block has the row number of the whole stream."""
    rows = b"1,2\n" * 1000
    with pytest.raises(BadCell, match="in row 1001, column 1"):
        read(rows, b"x,2\n", block_bytes=64)


def test_nothing_gives_no_rows() -> None:
    """An empty stream and one of newlines are the same."""
    assert read(b"") == read(b"\n\n\r\n") == read(*[b"\n"] * 50, block_bytes=2) == []
