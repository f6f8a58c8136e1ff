"""Join, filter and tag the rows of answers in CSV. Pure."""

from collections.abc import Callable

from millrace.dataplane.answer_text import AnswerBody, Rows, Written, written_pieces
from millrace.dataplane.csv_records import record_pieces
from millrace.dataplane.csv_text import columns_in_text, select_all
from millrace.dataplane.inference_ids import InferenceIds
from millrace.dataplane.jsonpath import Filter, FilterError
from millrace.dataplane.payload import Payload
from millrace.dataplane.record_errors import RecordError, check_counts, output_filter_error
from millrace.dataplane.rows import PIECE_BYTES, RowError, line_pieces, nonblank_lines, parse_csv, serialize_csv

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

    def complete(self, payload: Payload, answer: AnswerBody) -> Written:
        """Return what is written for an answer. Raises RecordError."""
        return self._join(payload.raw, answer) if self._joins else self._filtered(answer)

    def width(self, answer: AnswerBody) -> int | None:
        """Return how many columns an answer has, by its first row; None if it has no row."""
        first = self._rows(answer).take(1)
        return len(parse_csv(first[0])) if first else None

    def without_answer(self, record: bytes, columns: int) -> bytes:
        """Return the row of a record that has no answer, joined with so many empty fields.

        Raises:
            RecordError, RowError: The record is at fault.
        """
        nothing = [""] * columns
        return b"".join([self._body([self._row(parse_csv(row) + nothing, 0)]) for row in self._split(record)])

    def _join(self, raw: bytes, answer: AnswerBody) -> Written:
        try:
            if isinstance(answer, bytes) and len(answer) <= PIECE_BYTES and len(raw) <= PIECE_BYTES:
                records, rows = self._split(raw), self._split(answer)
                if len(records) == len(rows):
                    return self._joined_rows(records, rows, 0, are_plain=_is_plain(raw) and _is_plain(answer))
            elif (written := self._joined_pieces(raw, answer)) is not None:
                return written
        except RecordError:  # of this row; but what is told first is a row that can't be parsed
            pass
        self._require_pairs(raw, answer)
        written = self._joined_pieces(raw, answer)
        assert written is not None, "there are as many rows as records"
        return written

    def _joined_pieces(self, raw: bytes, answer: AnswerBody) -> Written | None:
        """Return the rows of all records with those of their answers; None if there are not as many. See `_join`."""
        records, rows, done = self._rows(raw), self._rows(answer), 0
        written = list[bytes]()
        while some := records.next_rows():
            answered = rows.take(len(some))
            if len(answered) < len(some):
                return None
            are_plain = records.are_plain and rows.are_plain
            written.append(self._joined_rows(some, answered, done, are_plain=are_plain))
            done += len(some)
        return written_pieces(written) if rows.are_used_up() else None

    def _joined_rows(self, records: list[bytes], rows: list[bytes], first: int, *, are_plain: bool) -> bytes:
        """Return rows of records with those of their answers; `first` is the place of the first record."""

        def joined(i: int) -> bytes:
            one, other = _parsed(records[i], first + i, "input"), _parsed(rows[i], first + i, _ANSWER)
            return self._row(one + other, first + i)

        if self._select is None:
            return self._body(list(map(joined, range(len(records)))))
        is_identity = are_plain and self._filter.is_identity
        if is_identity and len(records) == 1 and self._ids is None:
            return b"%b,%b\n" % (records[0], rows[0])
        pairs = [b"%b,%b" % pair for pair in zip(records, rows, strict=True)]
        if is_identity:
            return self._body(pairs)
        selected = select_all(self._select, pairs, joined, are_plain=are_plain)
        return self._body(list(map(joined, range(len(records)))) if selected is None else selected)

    def _require_pairs(self, raw: bytes, answer: AnswerBody) -> None:
        """Raise RecordError if a record can't be parsed, else if a row can't, else if there are not as many of both."""
        counts = []
        for text, what in ((raw, "input"), (answer, _ANSWER)):
            rows, count = self._rows(text), 0
            while some := rows.next_rows():
                for i, row in enumerate(some, count):
                    _parsed(row, i, what)
                count += len(some)
            counts.append(count)
        check_counts(*counts)

    def _filtered(self, answer: AnswerBody) -> Written:
        if isinstance(answer, bytes) and len(answer) <= PIECE_BYTES:
            return self._filtered_rows(self._split(answer), 0, are_plain=_is_plain(answer))
        rows, done = self._rows(answer), 0
        written = list[bytes]()
        while some := rows.next_rows():
            written.append(self._filtered_rows(some, done, are_plain=rows.are_plain))
            done += len(some)
        return written_pieces(written)

    def _filtered_rows(self, rows: list[bytes], first: int, *, are_plain: bool) -> bytes:
        """Return rows of answers as they are written; `first` is the place of the first one."""
        if self._select is not None:
            if are_plain and self._filter.is_identity:
                return self._body(rows)
            selected = select_all(
                self._select, rows, lambda i: self._row(_parsed(rows[i], first + i, _ANSWER), 0), are_plain=are_plain
            )
            if selected is not None:
                return self._body(selected)
        return self._body([self._row(_parsed(row, i, _ANSWER), 0) for i, row in enumerate(rows, first)])

    def _rows(self, text: AnswerBody) -> Rows:
        pieces = line_pieces if self._split is nonblank_lines else record_pieces
        return Rows(text, self._split, _is_plain, pieces=pieces)

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
