"""Values of columns that are made out of bytes."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.dataplane.formats.raw_values import byte_scalar, byte_values, list_edges, truth_values


@given(st.lists(st.none() | st.binary(max_size=5)), st.integers(0, 9))
def test_bytes_are_those_of_pyarrow(values: list[bytes | None], start: int) -> None:
    """An array that is made of bytes equals pyarrow's own, its nulls are those of another one, wherever that begins."""
    like = pa.array(values, pa.binary()).slice(start)
    found = byte_values([value or b"" for value in values[start:]], like=like)
    found.validate(full=True)
    assert found.to_pylist() == like.to_pylist()


def test_values_have_a_bound() -> None:
    """More bytes than an array can hold are refused, and told as what is too long."""
    long = bytes(2**28)
    with pytest.raises(OverflowError):
        byte_values([long] * 8)


def test_one_value_of_bytes() -> None:
    """A scalar is what pyarrow makes of the value."""
    assert byte_scalar(b"a,b").equals(pa.scalar(b"a,b", pa.binary()))


@given(st.lists(st.booleans()))
def test_truth_values(values: list[bool]) -> None:
    """Truth values are those that were given."""
    assert truth_values(values).to_pylist() == values


@pytest.mark.parametrize("kind", [pa.list_(pa.int8()), pa.large_list(pa.int8()), pa.list_(pa.int8(), 2)])
def test_edges_of_lists(kind: pa.DataType) -> None:
    """Lists of every kind begin where the one before ends; a null has no values."""
    lists = pa.array([[1, 2], [3, 4]] if kind.num_fields and "[2]" in str(kind) else [[1, 2], None, [], [3]], kind)
    assert list_edges(lists).to_pylist() == ([0, 2, 4] if len(lists) == 2 else [0, 2, 2, 2, 3])
