"""Read the text of an answer, which may be long, a piece at a time; gather what is written for it in pieces, too. Pure.

As objects of their own, lines take several times the memory of their text. So of an answer of many megabytes only some
rows are ever at hand, and what is written for it is never put together: it leaves in pieces, as it was made.
"""

from collections.abc import Callable, Iterable, Iterator

from millrace.dataplane.rows import PIECE_BYTES, line_pieces

__all__ = ["AnswerBody", "Rows", "Written", "is_short", "size_of", "whole_text", "written_pieces"]

AnswerBody = bytes | memoryview | list[bytes]
"""The body of an answer: in one, a view on a buffer that its pool gets back, or the parts in which it came."""

Written = bytes | list[bytes]
"""What is written for an answer: in one if it is short, else in pieces, at least one of them."""


def is_short(text: AnswerBody) -> bool:
    """Return whether a text need not be cut into pieces."""
    return type(text) is bytes and len(text) <= PIECE_BYTES


def size_of(text: AnswerBody) -> int:
    """Return the length of a text."""
    return sum(map(len, text)) if isinstance(text, list) else len(text)


def whole_text(text: AnswerBody) -> bytes:
    """Return a text in one."""
    if isinstance(text, bytes):
        return text
    return b"".join(text) if isinstance(text, list) else bytes(text)


def written_pieces(pieces: list[bytes]) -> Written:
    """Return pieces as what is written: one is none, and so is nothing."""
    if len(pieces) < 2:
        return pieces[0] if pieces else b""
    return pieces


class Rows:
    """Hands out the rows of a text, as many at a time as are asked for.

    Args:
        text: What has them.
        split: Returns the rows of a piece.
        is_plain: Tells of a piece whether nothing in it needs a closer look.
        pieces: Cuts the text between rows.
    """

    def __init__(
        self,
        text: AnswerBody,
        split: Callable[[bytes], list[bytes]],
        is_plain: Callable[[bytes], bool],
        *,
        pieces: Callable[[AnswerBody], Iterable[bytes]] = line_pieces,
    ) -> None:
        self._pieces: Iterator[bytes] = iter(pieces(text))
        self._split = split
        self._is_plain = is_plain
        self._rows: list[bytes] = []
        self._used = 0
        self.are_plain = True
        """Whether the rows that were handed out last stand in pieces that are plain."""
        self._piece_is_plain = True

    def next_rows(self) -> list[bytes]:
        """Return the rows of the next piece that has any; none if there are no more. Not to be mixed with `take`."""
        for piece in self._pieces:
            if rows := self._split(piece):
                self.are_plain = self._is_plain(piece)
                return rows
        return []

    def take(self, count: int) -> list[bytes]:
        """Return the next rows; fewer if there are no more."""
        used, rows = self._used, self._rows
        self._used = used + count
        taken = rows[used : used + count]
        self.are_plain = self._piece_is_plain
        while len(taken) < count and (piece := next(self._pieces, None)) is not None:
            self._rows = rows = self._split(piece)
            self._piece_is_plain = self._is_plain(piece)
            self.are_plain = self.are_plain and self._piece_is_plain
            self._used = count - len(taken)
            taken += rows[: self._used]
        return taken

    def are_used_up(self) -> bool:
        """Return whether all rows were handed out; to be asked last, for it may hand out one more."""
        return not self.take(1)
