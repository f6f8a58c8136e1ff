"""Join, filter and tag the rows of answers in JSON. Pure."""

from collections.abc import Iterable, Iterator
from itertools import chain, count
from typing import Any

from millrace.dataplane.answer_text import AnswerBody, Written, is_short, size_of, whole_text, written_pieces
from millrace.dataplane.inference_ids import InferenceIds
from millrace.dataplane.json_members import JsonMembers
from millrace.dataplane.json_text import is_text, is_worth_searching
from millrace.dataplane.jsonpath import Filter, FilterError
from millrace.dataplane.payload import Payload
from millrace.dataplane.record_errors import RecordError, check_counts, output_filter_error, snippet
from millrace.dataplane.rows import (
    PIECE_BYTES,
    RowError,
    line_pieces,
    nonblank_lines,
    parse_json,
    serialize_json,
    with_member,
)

__all__ = ["JsonAnswers"]

_JOINED_AT_ONCE = 4096
"""Pieces of rows: small ones take several times the memory of their text."""


class JsonAnswers:
    """What is written for answers in JSON: put together from text where that can be, else from what was parsed.

    Args:
        chosen: The output filter.
        ids: What tags rows, if they are tagged.
        joins: Whether records are joined with their answers.
        text: What the filters and the join do to text; None if everything is to be parsed.
        line_end: What ends each row.
        whole_records: Whether a payload is one record, line feeds and all.
        whole_answers: Whether the whole body of an answer may be one document.
    """

    def __init__(
        self,
        chosen: Filter,
        ids: InferenceIds | None,
        *,
        joins: bool,
        text: JsonMembers | None,
        line_end: bytes,
        whole_records: bool,
        whole_answers: bool,
    ) -> None:
        self._filter = chosen
        self._ids = ids
        self._joins = joins
        self._text = text
        self._adds_member = joins and text is not None and chosen.is_identity
        """Whether a row is a record with all of its answer in it."""
        self._line_end = line_end
        self._whole_records = whole_records
        self._whole_answers = whole_answers

    def complete(self, payload: Payload, answer: AnswerBody) -> Written:
        """Return what is written for an answer. Raises RecordError."""
        if payload.records == 1:
            if type(answer) is not bytes:
                answer = whole_text(answer)
            if self._adds_member and not is_worth_searching(payload.raw):
                row = with_member(payload.raw.removesuffix(b"\n"), "SageMakerOutput", answer.removesuffix(b"\n"))
                if row is not None:
                    return b"%b%b" % (row, self._line_end)  # a copy, without the memory that orjson keeps behind it
        if self._text is not None:
            try:
                put_together = self._joined_text if self._joins else self._filtered_text
                written = put_together(self._text, payload, answer)
            except (RecordError, ValueError):  # of a row, but another one may be the first at fault; or of their number
                written = None
            if written is not None:
                return written
        return self._join(payload.raw, answer) if self._joins else self._filtered(answer)

    def without_answer(self, record: bytes) -> bytes:
        """Return the row of a record that has no answer. Raises RecordError if the record is at fault."""
        return self._joined(record, None, 0)

    # -- from text, where the lines of an answer are its rows: where the first of several is a document, all of them
    # together are none. None is returned where text alone can't tell.

    def _filtered_text(self, text: JsonMembers, _: Payload, answer: AnswerBody) -> Written | None:
        if (answered := text.answered) is None:
            return None
        end = self._line_end
        pieces = [
            b"".join(
                [self._row(parse_json(row), 0) if (written := answered(row)) is None else written + end for row in rows]
            )
            for rows in _text_rows(answer)
        ]
        return written_pieces(pieces) if any(pieces) else None

    def _joined_text(self, text: JsonMembers, payload: Payload, answer: AnswerBody) -> Written | None:
        framed, answered, end = text.framed, text.answered, self._line_end
        if framed is None or answered is None:
            return None
        raw, kept = payload.raw, payload.frames
        if type(answer) is bytes and len(answer) <= PIECE_BYTES and len(raw) <= PIECE_BYTES:
            rows: Iterable[bytes] = _rows_of_piece(answer)
            frames = kept or map(framed, _rows_of_piece(raw))
            most = _JOINED_AT_ONCE
        else:
            rows = chain.from_iterable(_text_rows(answer))
            frames = kept or map(framed, chain.from_iterable(_text_rows(raw)))
            most = _pieces_at_once(payload, answer)
        records: Iterator[tuple[int, bytes]] | None = None
        """To look those up that have no frame, in their order."""
        pieces: list[bytes] = []
        parts: list[bytes] = []
        for i, (row, frame) in enumerate(zip(rows, frames, strict=True)):
            written = None if frame is None else answered(row)
            if frame is None or written is None:
                records = records or enumerate(_lines(raw))
                pieces.append(self._joined(next(one for at, one in records if at == i), parse_json(row), i))
            else:
                head, tail = frame
                pieces += (head, end) if tail is None else (head, written, tail, end)
            if len(pieces) > most:
                parts.append(b"".join(pieces))
                pieces.clear()
        if not parts:
            return b"".join(pieces)
        if pieces:
            parts.append(b"".join(pieces))
        return written_pieces(parts)

    # -- from what was parsed

    def _join(self, raw: bytes, answer: AnswerBody) -> Written:
        document = self._document(answer)
        if is_short(answer) and len(raw) <= PIECE_BYTES:
            records = [raw] if self._whole_records else nonblank_lines(raw)
            rows = list(_parsed_lines(answer) if document is None else document)
            if len(records) == 1 and len(rows) == 1:
                return self._joined(records[0], rows[0], 0)
            check_counts(len(records), len(rows))
            return b"".join(list(self._pairs(records, rows)))

        def both() -> tuple[Iterable[bytes], Iterable[Any]]:
            return (raw,) if self._whole_records else _lines(raw), (
                _parsed_lines(answer) if document is None else document
            )

        try:
            return _in_pieces(self._pairs(*both()))
        except (RecordError, ValueError):  # of a pair, or of their number; but what is told first is a row that is none
            check_counts(*[sum(1 for _ in side) for side in both()])
        return _in_pieces(self._pairs(*both()))

    def _pairs(self, records: Iterable[bytes], rows: Iterable[Any]) -> Iterator[bytes]:
        for i, (record, row) in enumerate(zip(records, rows, strict=True)):
            yield self._joined(record, row, i)

    def _filtered(self, answer: AnswerBody) -> Written:
        document = self._document(answer)
        if document is not None:
            return self._row(document[0], 0)
        try:
            return _in_pieces(self._row(row, 0) for row in _parsed_lines(answer))
        except RecordError:  # of a filter, but what is told first is a row that is none
            for _ in _parsed_lines(answer):
                pass
            raise

    def _joined(self, record: bytes, row: Any, position: int) -> bytes:
        try:
            value = parse_json(record)
        except RowError as exc:
            raise RecordError(f"Failed to parse input as JSON: {exc}", position) from exc
        if isinstance(value, dict):
            value["SageMakerOutput"] = row
        else:
            value = {"SageMakerInput": value, "SageMakerOutput": row}
        return self._row(value, position)

    def _document(self, answer: AnswerBody) -> list[Any] | None:
        """Return the one row of an answer of which all is a document, if it may be; None if its lines are rows."""
        if not self._whole_answers or not (text := whole_text(answer)).strip():
            return None
        try:
            return [parse_json(text)]
        except RowError:
            if b"\n" in text.strip():
                return None
            raise RecordError(
                f"Failed to parse output from the algorithm as JSON, found near: {snippet(text)}"
            ) from None

    def _row(self, value: Any, position: int) -> bytes:
        try:
            if not self._filter.is_identity:
                value = self._filter.select(value)
            if self._ids is not None:
                value = self._ids.json_row(value)
            return serialize_json(value) + self._line_end
        except FilterError as exc:
            raise output_filter_error(self._filter, exc, _shown(value), position) from exc
        except RowError as exc:
            raise RecordError(str(exc), position) from exc


def _lines(text: AnswerBody) -> Iterator[bytes]:
    """Return the lines of a text that are not empty, of which only some are held at a time."""
    return chain.from_iterable(map(nonblank_lines, line_pieces(text)))


def _text_rows(text: AnswerBody) -> Iterator[list[bytes]]:
    """Return the lines of a text as `_lines`, piece by piece; they raise ValueError where it is no UTF-8."""
    return map(_rows_of_piece, line_pieces(text))


def _rows_of_piece(piece: bytes) -> list[bytes]:
    if not is_text(piece):
        raise ValueError("the text of a row must be UTF-8")
    return nonblank_lines(piece)


def _parsed_lines(text: AnswerBody) -> Iterator[Any]:
    return map(_parsed, _lines(text), count())


def _pieces_at_once(payload: Payload, answer: AnswerBody) -> int:
    """Return of how many pieces of rows a piece of what is written is put together."""
    row_bytes = (len(payload.raw) + size_of(answer)) // (payload.records or 1) + 1
    return min(_JOINED_AT_ONCE, 1 + 4 * PIECE_BYTES // row_bytes)


def _in_pieces(rows: Iterable[bytes]) -> Written:
    """Return rows put together to pieces."""
    pieces: list[bytes] = []
    some: list[bytes] = []
    size = 0
    for row in rows:
        some.append(row)
        size += len(row)
        if size >= PIECE_BYTES:
            pieces.append(b"".join(some))
            some, size = [], 0
    if some:
        pieces.append(b"".join(some))
    return written_pieces(pieces)


def _parsed(row: bytes, position: int) -> Any:
    try:
        return parse_json(row)
    except RowError as exc:
        raise RecordError(f"Failed to parse output from the algorithm as JSON: {exc}", position) from exc


def _shown(value: Any) -> bytes:
    try:
        return serialize_json(value)
    except RowError as exc:  # a join nests a level deeper than what was read
        return str(exc).encode()
