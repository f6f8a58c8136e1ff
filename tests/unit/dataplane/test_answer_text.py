"""Tests of reading long answers a piece at a time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.dataplane.answer_text import AnswerBody, Rows, is_short, size_of, whole_text, written_pieces
from millrace.dataplane.rows import PIECE_BYTES, line_pieces, nonblank_lines


def as_came(text: bytes, how: str) -> AnswerBody:
    """Return a text as one that came in one, in a buffer that is longer, or in parts."""
    if how == "buffer":
        return memoryview(bytearray(text) + b"\nof the answer before\n")[: len(text)]
    return text if how == "one" else [text[at : at + 1000] for at in range(0, len(text), 1000)]


@pytest.mark.parametrize("how", ["one", "buffer", "parts"])
def test_a_text_is_the_same_however_it_came(how: str) -> None:
    """Its size, its whole, and its lines do not depend on whether it is in one."""
    text = b"\n".join(b"%d,%b" % (n, b"x" * (n % 97)) for n in range(30_000))
    body = as_came(text, how)
    assert (size_of(body), whole_text(body)) == (len(text), text)
    pieces = list(line_pieces(body))
    assert b"".join(pieces) == text
    assert all(piece.endswith(b"\n") for piece in pieces[:-1])
    assert max(map(len, pieces)) < PIECE_BYTES + 200


def test_only_what_is_in_one_and_fits_in_a_piece_is_short() -> None:
    """A view or parts are worked on as what is long."""
    assert is_short(b"1\n")
    assert not is_short(b"1" * (PIECE_BYTES + 1))
    assert not is_short(memoryview(b"1\n"))
    assert not is_short([b"1\n"])


@given(
    st.lists(st.sampled_from([0, 1, 5, 400_000, PIECE_BYTES, 3 * PIECE_BYTES // 2]), max_size=6),
    st.lists(st.integers(1, 4), max_size=8),
    st.sampled_from(["one", "buffer"]),
)
def test_rows_are_handed_out_once_in_their_order(sizes: list[int], counts: list[int], how: str) -> None:
    """However many are asked for at a time: none that is blank, and fewer only at the end."""
    text = b"\n".join(b"x" * size for size in sizes)
    rows = Rows(as_came(text, how), nonblank_lines, lambda piece: True)
    expected = nonblank_lines(text)
    for count in counts:
        assert rows.take(count) == expected[:count]
        del expected[:count]
    assert rows.are_used_up() == (not expected)


def test_rows_of_two_pieces_are_plain_only_if_both_are() -> None:
    """What is not plain in a piece may be in a row that was asked for together with those of the next."""
    text = b'"' + b"x" * (PIECE_BYTES - 4) + b"\ny\n" + b"z" * PIECE_BYTES + b"\nz\n"
    rows = Rows(text, nonblank_lines, lambda piece: b'"' not in piece)
    assert (len(rows.take(1)), rows.are_plain) == (1, False)
    assert (len(rows.take(2)), rows.are_plain) == (2, False)
    assert (rows.take(1), rows.are_plain, rows.are_used_up()) == ([b"z"], True, True)


def test_what_is_written_is_in_one_if_it_can_be() -> None:
    """A list of no pieces would say that nothing is written, not even a line's end."""
    assert written_pieces([]) == b""
    assert written_pieces([b"a\n"]) == b"a\n"
    assert written_pieces([b"a\n", b"b\n"]) == [b"a\n", b"b\n"]
