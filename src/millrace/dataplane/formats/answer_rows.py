"""Put the answers of a job whose output becomes a table in form: rows, each with one line feed. Pure.

It stands where `Processing` stands, and for a join of tables it checks what that checks: a payload of n records has to
come back as n rows, or rows would be joined with other rows than their own.
"""

from collections.abc import Iterable
from contextlib import suppress

from millrace.dataplane.answer_text import AnswerBody, Written, whole_text, written_pieces
from millrace.dataplane.batch import Payload
from millrace.dataplane.csv_records import PLACEHOLDER_ROW, nonblank_csv_records, record_pieces
from millrace.dataplane.jsonpath import Format
from millrace.dataplane.processing import Processing, RecordError
from millrace.dataplane.rows import RowError, line_pieces, nonblank_lines, parse_json, serialize_json

__all__ = ["AnswerRows"]


class AnswerRows:
    """Completes answers without a look at their values.

    Args:
        media_type: Of the answers.
        counts: Whether an answer must have as many rows as its payload has records.
        processing: What filters records before they are sent, if anything.
    """

    rewrites_answers = True

    def __init__(self, media_type: str, *, counts: bool, processing: Processing | None) -> None:
        self._media_type = media_type
        self._counts = counts
        self._processing = processing

    def prepare(self, payload: Payload) -> bool:
        """Apply the input filter; False if nothing is left to send. Raises RecordError."""
        return self._processing is None or self._processing.prepare(payload)

    def complete(self, payload: Payload, answer: AnswerBody) -> Written:
        """Return an answer as rows; raises RecordError if they are not one for each record where they must be."""
        written, count = list[bytes](), 0
        for rows in self._rows(answer):
            written.append(b"\n".join([*rows, b""]))
            count += len(rows)
        if self._counts and count != payload.records:
            raise RecordError(
                "Fail to join data: mismatched row count between the input and the output: "
                f"{_many(payload.records, 'record')}, {_many(count, 'row')}"
            )
        return written_pieces(written)

    def placeholder(self, record: bytes | None) -> bytes:
        """Return what is written for a record that has no answer: a row whose columns are all null."""
        del record  # what it holds is in the input's table, or nowhere
        return PLACEHOLDER_ROW + b"\n" if self._media_type == Format.CSV else b"null\n"

    def _rows(self, answer: AnswerBody) -> Iterable[list[bytes]]:
        """Return the rows of an answer, a piece of it at a time where its lines are rows."""
        if self._media_type == Format.CSV:
            if quotes := sum(piece.count(b'"') for piece in line_pieces(answer)):
                if quotes % 2:
                    raise RecordError(
                        "Failed to parse output from the algorithm as CSV: a quoted field has no closing quote"
                    )
                return map(nonblank_csv_records, record_pieces(answer))
        elif self._media_type == Format.JSON:
            text = whole_text(answer)
            rows = nonblank_lines(text)
            if len(rows) > 1:
                with suppress(RowError):
                    return ([serialize_json(parse_json(text))],)  # one document that was printed over several lines
            return (rows,)
        return map(nonblank_lines, line_pieces(answer))


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"
