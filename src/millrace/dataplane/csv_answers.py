"""Join, filter and tag the rows of answers in CSV. Pure."""

from collections.abc import Callable

from millrace.dataplane.inference_ids import InferenceIds
from millrace.dataplane.jsonpath import Filter, FilterError
from millrace.dataplane.payload import Payload
from millrace.dataplane.record_errors import RecordError, check_counts, output_filter_error
from millrace.dataplane.rows import RowError, parse_csv, serialize_csv

__all__ = ["CsvAnswers"]


class CsvAnswers:
    """What is written for answers in CSV.

    Args:
        chosen: The output filter.
        ids: What tags rows, if they are tagged.
        joins: Whether the columns of a record stand before those of its answer.
        split: Returns the rows of a body that are not blank.
    """

    def __init__(
        self, chosen: Filter, ids: InferenceIds | None, *, joins: bool, split: Callable[[bytes], list[bytes]]
    ) -> None:
        self._filter = chosen
        self._ids = ids
        self._split = split
        self._joins = joins

    def complete(self, payload: Payload, answer: bytes) -> bytes:
        """Return what is written for an answer. Raises RecordError."""
        return self._join(payload.raw, answer) if self._joins else self._filtered(answer)

    def width(self, answer: bytes) -> int | None:
        """Return how many columns an answer has, by its first row; None if it has no row."""
        rows = self._split(answer)
        return len(parse_csv(rows[0])) if rows else None

    def without_answer(self, record: bytes, columns: int) -> bytes:
        """Return the row of a record that has no answer, joined with so many empty fields.

        Raises:
            RecordError, RowError: The record is at fault.
        """
        nothing = [""] * columns
        return b"".join([self._body([self._row(parse_csv(row) + nothing, 0)]) for row in self._split(record)])

    def _join(self, raw: bytes, answer: bytes) -> bytes:
        records, rows = self._split(raw), self._split(answer)
        plain = b'"' not in raw and b'"' not in answer and b"\r" not in raw and b"\r" not in answer
        if plain and self._filter.is_identity and len(records) == len(rows):
            if len(rows) == 1 and self._ids is None:
                return b"%b,%b\n" % (records[0], rows[0])
            return self._body([b"%b,%b" % pair for pair in zip(records, rows, strict=True)])
        parsed = [_parsed(record, i, "input") for i, record in enumerate(records)]
        answered = [_parsed(row, i, "output from the algorithm") for i, row in enumerate(rows)]
        check_counts(len(parsed), len(answered))
        pairs = enumerate(zip(parsed, answered, strict=True))
        return self._body([self._row(one + other, i) for i, (one, other) in pairs])

    def _filtered(self, answer: bytes) -> bytes:
        rows = self._split(answer)
        if self._filter.is_identity and b'"' not in answer and b"\r" not in answer:
            return self._body(rows)
        return self._body([self._row(_parsed(row, i, "output from the algorithm"), 0) for i, row in enumerate(rows)])

    def _body(self, rows: list[bytes]) -> bytes:
        if self._ids is not None:
            rows = self._ids.csv_rows(rows)
        return b"\n".join([*rows, b""])

    def _row(self, fields: list[str], position: int) -> bytes:
        if not self._filter.is_identity:
            try:
                fields = self._filter.columns(fields)
            except FilterError as exc:
                raise output_filter_error(self._filter, exc, serialize_csv(fields), position) from exc
        return serialize_csv(fields)


def _parsed(row: bytes, position: int, what: str) -> list[str]:
    try:
        return parse_csv(row)
    except RowError as exc:
        raise RecordError(f"Failed to parse {what} as CSV: {exc}", position) from exc
