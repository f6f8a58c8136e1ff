"""Tests of very many names."""

from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.store.packed_names import PACKED_AT_A_TIME, PackedNames, merged

NAMES = st.lists(st.binary(min_size=1, max_size=5), max_size=50).map(sorted)


@given(NAMES, st.binary(max_size=3))
def test_packed_names_are_a_sequence(names: list[bytes], sought: bytes) -> None:
    """Of the very names, in which others can be sought."""
    packed = PackedNames(names)
    assert (len(packed), list(packed)) == (len(names), names)
    assert [packed[index] for index in range(len(names))] == names
    assert packed[1:7:2] == names[1:7:2]
    assert bisect_left(packed, sought) == bisect_left(names, sought)
    for index in (len(names), -1):
        with pytest.raises(IndexError):
            packed[index]


@given(st.lists(NAMES, max_size=5))
def test_sorted_pieces_are_merged(pieces: list[list[bytes]]) -> None:
    """All names are there, in order."""
    assert list(merged([PackedNames(piece) for piece in pieces])) == sorted(name for it in pieces for name in it)


def test_more_names_than_are_packed_at_a_time() -> None:
    """They are gone over in runs of which nobody sees the ends."""
    names = [b"%06d" % number for number in range(2 * PACKED_AT_A_TIME + 3)]
    packed = PackedNames(names)
    assert list(packed) == names
    assert packed[PACKED_AT_A_TIME] == names[PACKED_AT_A_TIME]
