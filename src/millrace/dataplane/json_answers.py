"""Join, filter and tag the rows of answers in JSON. Pure."""

from itertools import chain
from typing import Any

from millrace.dataplane.inference_ids import InferenceIds
from millrace.dataplane.json_members import JsonMembers
from millrace.dataplane.json_text import is_text, is_worth_searching
from millrace.dataplane.jsonpath import Filter, FilterError
from millrace.dataplane.payload import Payload
from millrace.dataplane.record_errors import RecordError, check_counts, output_filter_error, snippet
from millrace.dataplane.rows import RowError, line_pieces, nonblank_lines, parse_json, serialize_json, with_member

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

    def complete(self, payload: Payload, answer: bytes) -> bytes:
        """Return what is written for an answer. Raises RecordError."""
        if self._adds_member and payload.records == 1 and not is_worth_searching(payload.raw):
            row = with_member(payload.raw.removesuffix(b"\n"), "SageMakerOutput", answer.removesuffix(b"\n"))
            if row is not None:
                return b"%b%b" % (row, self._line_end)  # a copy, without the memory that orjson keeps behind it
        if self._text is not None and is_text(answer):
            try:
                rows = nonblank_lines(answer)
                put_together = self._joined_text if self._joins else self._filtered_text
                written = put_together(self._text, payload, rows)
            except (RecordError, ValueError):  # of a row, but another one may be the first at fault; or of their number
                written = None
            if written is not None:
                return written
        if self._joins:
            return self._join(payload.raw, answer)
        return b"".join([self._row(row, 0) for row in self._documents(answer)])

    def without_answer(self, record: bytes) -> bytes:
        """Return the row of a record that has no answer. Raises RecordError if the record is at fault."""
        return self._joined(record, None, 0)

    # -- from text, where the lines of an answer are its rows: where the first of several is a document, all of them
    # together are none. None is returned where text alone can't tell.

    def _filtered_text(self, text: JsonMembers, _: Payload, rows: list[bytes]) -> bytes | None:
        if text.answered is None or not rows:
            return None
        end = self._line_end
        return b"".join(
            [
                self._row(parse_json(row), i) if (written := text.answered(row)) is None else written + end
                for i, row in enumerate(rows)
            ]
        )

    def _joined_text(self, text: JsonMembers, payload: Payload, rows: list[bytes]) -> bytes | None:
        kept, framed, answered, end = payload.frames, text.framed, text.answered, self._line_end
        if framed is None or answered is None or not (kept or is_text(payload.raw)):
            return None
        frames = kept or map(framed, chain.from_iterable(map(nonblank_lines, line_pieces(payload.raw))))
        records: list[bytes] = []
        pieces: list[bytes] = []
        parts: list[bytes] = []
        for i, (row, frame) in enumerate(zip(rows, frames, strict=True)):
            written = None if frame is None else answered(row)
            if frame is None or written is None:
                records = records or nonblank_lines(payload.raw)
                pieces.append(self._joined(records[i], parse_json(row), i))
                continue
            head, tail = frame
            pieces += (head, end) if tail is None else (head, written, tail, end)
            if len(pieces) > _JOINED_AT_ONCE:
                parts.append(b"".join(pieces))
                pieces.clear()
        return b"".join([*parts, *pieces])

    # -- from what was parsed

    def _join(self, raw: bytes, answer: bytes) -> bytes:
        records = [raw] if self._whole_records else nonblank_lines(raw)
        rows = self._documents(answer)
        if len(records) == 1 and len(rows) == 1:
            return self._joined(records[0], rows[0], 0)
        check_counts(len(records), len(rows))
        pairs = enumerate(zip(records, rows, strict=True))
        return b"".join([self._joined(record, row, i) for i, (record, row) in pairs])

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

    def _documents(self, answer: bytes) -> list[Any]:
        """Return the rows of an answer: one document if all of it may be one and is, else its lines."""
        if self._whole_answers and answer.strip():
            try:
                return [parse_json(answer)]
            except RowError:
                if b"\n" not in answer.strip():
                    raise RecordError(
                        f"Failed to parse output from the algorithm as JSON, found near: {snippet(answer)}"
                    ) from None
        return [_parsed(line, i) for i, line in enumerate(nonblank_lines(answer))]

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
