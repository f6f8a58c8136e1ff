"""Give rows that stand for bad records as many columns as the answers of their object have. Pure.

Theory. In a join of CSV the row of a record without an answer is the record and empty fields in place of the answer.
How many those are an answer tells, the first one of the object that comes. Results are written in input order, so all
that can stand before the first answer are rows that wait for it. They are held back, up to a bound; where nothing
follows them, or too late, they have one empty field. What is held back is in no part, and neither is what it tells of
bad records: who goes on finds them again.
"""

from collections.abc import Callable, Sequence

from millrace.dataplane.answer_text import AnswerBody, size_of
from millrace.dataplane.bad_records import BadRecord

__all__ = ["HELD_BYTES", "PlaceholderRow", "Widening"]

HELD_BYTES = 1024 * 1024
"""Bytes of rows that wait for the first answer of their object; with more than that they wait no longer."""


class PlaceholderRow(bytes):
    """The row that stands for a bad record, with one empty field; `record` is what it is made of."""

    record: bytes

    @classmethod
    def of(cls, record: bytes, row: bytes) -> "PlaceholderRow":
        made = cls(row)
        made.record = record
        return made


class Widening:
    """Makes the rows of one object, or of a range, as wide as its answers.

    Args:
        row: Makes the row of a record and so many empty fields.
        width: Returns how many columns an answer has; None if it has no row.
        columns: How many it is known to have; None if nobody knows yet.
    """

    def __init__(
        self,
        row: Callable[[bytes, int], bytes],
        width: Callable[[AnswerBody], int | None],
        *,
        columns: int | None,
    ) -> None:
        self.columns = columns
        self._row = row
        self._width = width
        self._answers: list[AnswerBody] = []
        self._bad: list[BadRecord] = []
        self._held = 0

    @property
    def holds(self) -> bool:
        """Whether results wait."""
        return bool(self._answers)

    def learn(self, answer: AnswerBody) -> None:
        """Take note of an answer."""
        if self.columns is None:
            self.columns = self._width(answer)

    def take(self, answers: Sequence[AnswerBody], bad: Sequence[BadRecord]) -> tuple[list[AnswerBody], list[BadRecord]]:
        """Add the next results, and return those that may be written, with what tells of bad records among them."""
        self._answers += answers
        self._bad += bad
        self._held += sum(map(size_of, answers)) + sum(len(it.text) for it in bad)
        if self.columns is None and self._held <= HELD_BYTES:
            return [], []
        return self.finish()

    def finish(self) -> tuple[list[AnswerBody], list[BadRecord]]:
        """Return all results that wait: no answer comes any more, or too late."""
        answers, bad = self._answers, self._bad
        self._answers, self._bad, self._held = [], [], 0
        if (self.columns or 1) > 1:
            answers = [self._widened(answer) for answer in answers]
        return answers, bad

    def _widened(self, answer: AnswerBody) -> AnswerBody:
        if not isinstance(answer, list) or not any(isinstance(piece, PlaceholderRow) for piece in answer):
            return answer
        return [
            self._row(piece.record, self.columns or 1) if isinstance(piece, PlaceholderRow) else piece
            for piece in answer
        ]
