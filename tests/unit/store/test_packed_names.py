"""Tests of very many names."""

from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.store.packed_names import PackedNames

PIECES = st.lists(st.lists(st.binary(min_size=1, max_size=5), max_size=50), max_size=5)


@given(PIECES, st.binary(max_size=3))
def test_packed_names_are_a_sorted_sequence(pieces: list[list[bytes]], sought: bytes) -> None:
    """Of all names of all pieces, in which others can be sought."""
    packed = PackedNames()
    for piece in pieces:
        packed.add(piece)
    packed.sort()
    names = sorted(name for piece in pieces for name in piece)
    assert (len(packed), list(packed)) == (len(names), names)
    assert [packed[index] for index in range(-len(names), len(names))] == names + names
    assert packed[1:7:2] == names[1:7:2]
    assert bisect_left(packed, sought) == bisect_left(names, sought)
    with pytest.raises(IndexError):
        packed[len(names)]
