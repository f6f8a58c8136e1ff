"""Join, filter and tag the rows of answers in CSV. Pure."""

from collections.abc import Callable
from functools import partial

from millrace.dataplane.csv_text import Select, columns_in_text, select_all
from millrace.dataplane.inference_ids import InferenceIds
from millrace.dataplane.jsonpath import Filter, FilterError
from millrace.dataplane.payload import Payload
from millrace.dataplane.record_errors import RecordError, check_counts, output_filter_error
from millrace.dataplane.rows import RowError, line_pieces, nonblank_lines, parse_csv, serialize_csv

__all__ = ["CsvAnswers"]

_ANSWER = "output from the algorithm"


class CsvAnswers:
    """What is written for answers in CSV.

    Args:
        chosen: The output filter.
        ids: What tags rows, if they are tagged.
        joins: Whether the columns of a record stand before those of its answer.
        split: Returns the rows of a body that are not blank.
        parses_all: Whether every row is parsed, which is what working on text is held to.
    """

    def __init__(
        self,
        chosen: Filter,
        ids: InferenceIds | None,
        *,
        joins: bool,
        split: Callable[[bytes], list[bytes]],
        parses_all: bool = False,
    ) -> None:
        self._filter = chosen
        self._ids = ids
        self._split = split
        self._joins = joins
        self._select = None if parses_all else columns_in_text(chosen)

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
        rows = self._split(answer)
        if self._select is not None and (written := self._joined_text(self._select, raw, rows, _is_plain(answer))):
            return written
        records = self._split(raw)
        parsed = [_parsed(record, i, "input") for i, record in enumerate(records)]
        answered = [_parsed(row, i, _ANSWER) for i, row in enumerate(rows)]
        check_counts(len(parsed), len(answered))
        both = enumerate(zip(parsed, answered, strict=True))
        return self._body([self._row(one + other, i) for i, (one, other) in both])

    def _joined_text(self, select: Select, raw: bytes, rows: list[bytes], are_plain: bool) -> bytes | None:
        """Return the rows of all records with those of their answers; None if one can't be joined, or is missing."""
        if are_plain and len(rows) == 1 and self._filter.is_identity and self._ids is None and _is_plain(raw):
            records = self._split(raw)
            return b"%b,%b\n" % (records[0], rows[0]) if len(records) == 1 else None
        written, done = list[bytes](), 0
        for piece in line_pieces(raw) if self._split is nonblank_lines else (raw,):
            records = self._split(piece)
            answered = rows[done : done + len(records)]
            if len(answered) < len(records):
                return None
            pairs = [b"%b,%b" % pair for pair in zip(records, answered, strict=True)]
            is_plain = are_plain and _is_plain(piece)
            if not (is_plain and self._filter.is_identity):
                selected = select_all(select, pairs, partial(self._joined, records, answered), are_plain=is_plain)
                if selected is None:
                    return None
                pairs = selected
            written.append(self._body(pairs))
            done += len(records)
        return b"".join(written) if done == len(rows) else None

    def _joined(self, records: list[bytes], rows: list[bytes], position: int) -> bytes:
        one, other = _parsed(records[position], position, "input"), _parsed(rows[position], position, _ANSWER)
        return self._row(one + other, position)

    def _filtered(self, answer: bytes) -> bytes:
        rows = self._split(answer)
        if self._select is not None:
            if (are_plain := _is_plain(answer)) and self._filter.is_identity:
                return self._body(rows)
            selected = select_all(
                self._select, rows, lambda i: self._row(_parsed(rows[i], i, _ANSWER), 0), are_plain=are_plain
            )
            if selected is not None:
                return self._body(selected)
        return self._body([self._row(_parsed(row, i, _ANSWER), 0) for i, row in enumerate(rows)])

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


def _is_plain(text: bytes) -> bool:
    """Return whether a row may be cut at its commas, and is written as it was read."""
    return b'"' not in text and b"\r" not in text


def _parsed(row: bytes, position: int, what: str) -> list[str]:
    try:
        return parse_csv(row)
    except RowError as exc:
        raise RecordError(f"Failed to parse {what} as CSV: {exc}", position) from exc
