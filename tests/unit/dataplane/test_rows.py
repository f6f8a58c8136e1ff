"""Tests of cutting bodies into lines."""

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.dataplane.rows import PIECE_BYTES, RowError, line_pieces, parse_json


@given(st.lists(st.integers(0, 3 * PIECE_BYTES // 2), max_size=4), st.booleans())
def test_pieces_are_whole_lines_and_all_of_them(sizes: list[int], ends: bool) -> None:
    """None is much longer than it should be, unless a line is."""
    text = b"\n".join(b"x" * size for size in sizes) + b"\n" * ends
    pieces = list(line_pieces(text))
    assert b"".join(pieces) == text
    assert all(piece.endswith(b"\n") for piece in pieces[:-1])
    assert all(len(piece) <= PIECE_BYTES or piece.count(b"\n", 0, -1) == 0 for piece in pieces)


def test_a_byte_order_mark_before_json_is_told() -> None:
    """No text that is shown would let anybody see it."""
    with pytest.raises(RowError, match=r"a byte order mark .* stands before the value"):
        parse_json(codecs.BOM_UTF8 + b'{"a":1}')
