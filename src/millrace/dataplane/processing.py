"""Filter records on their way to the container; join, filter and tag its answers on the way back. Pure.

    records --InputFilter--> body --> answer --> rows --join--> OutputFilter --> inference ids --> rows of the output

The join sees the original records, not the filtered ones. Blank lines are no records here. Answers that were
rewritten are rows that each end with one line feed. Inference ids alone leave the records as they are.

Source:
    batch-transform.md 6.
"""

from datetime import datetime

from millrace.dataplane.answer_text import AnswerBody, Written, size_of, written_pieces
from millrace.dataplane.batch import Payload
from millrace.dataplane.csv_answers import CsvAnswers
from millrace.dataplane.csv_records import csv_records, nonblank_csv_records, record_pieces
from millrace.dataplane.csv_text import columns_in_text, select_all
from millrace.dataplane.inference_ids import InferenceIds
from millrace.dataplane.job_filters import input_filter, output_filter
from millrace.dataplane.json_answers import JsonAnswers
from millrace.dataplane.json_members import Frame, JsonMembers
from millrace.dataplane.json_text import is_text
from millrace.dataplane.jsonpath import FilterError, Format, format_of
from millrace.dataplane.record_errors import RecordError, snippet
from millrace.dataplane.rows import (
    RowError,
    line_pieces,
    nonblank_lines,
    parse_csv,
    parse_json,
    serialize_csv,
    serialize_json,
)
from millrace.jobs.transform import AssembleWith, JoinSource, SplitType, TransformSpec

__all__ = ["Processing", "RecordError", "locate", "processing_of"]

KEPT_RECORD_BYTES, KEPT_SHARE = 256, 4
"""What an answer is joined with is kept from the time its record was filtered, where records are about as long at least
and what is kept takes no more than that part of the payload; else the record is read again when the answer is there."""

_BLANK = (b"\n", b"\r\n", b"\r")


class Processing:
    """What DataProcessing and GenerateInferenceId ask for, decided once per job; `ids` is None without the latter.

    `no_row` stands for a row of CSV that there is not. With `parses_all`, every record is parsed, which is what
    working on its text is held to.
    """

    def __init__(
        self,
        spec: TransformSpec,
        ids: InferenceIds | None = None,
        *,
        quoted_newlines: bool = False,
        parses_all: bool = False,
        no_row: bytes = b"\n",
    ) -> None:
        self._no_row = no_row
        self._csv_rows = nonblank_csv_records if quoted_newlines else nonblank_lines
        self._records = csv_records if quoted_newlines else _lines
        processing = spec.processing
        self._untouched_input = processing.is_identity
        self._input_format = format_of(spec.content_type)
        self._writes_csv = format_of(spec.accept) == Format.CSV
        self._input_filter = input_filter(spec)
        selected = output_filter(spec)
        self._joins = processing.join_source is JoinSource.INPUT
        self._split = spec.split
        self.rewrites_answers = self._joins or not selected.is_identity or ids is not None
        whole_records = self._split is SplitType.NONE and self._input_format == Format.JSON
        self._text: JsonMembers | None = None
        if not (parses_all or whole_records or ids is not None):
            self._text = JsonMembers(self._input_filter, selected, joins=self._joins)
        self._line_end = _line_end(spec.split, spec.assemble_with, format_of(spec.accept))
        self._columns = None if parses_all else columns_in_text(self._input_filter)
        self._csv = CsvAnswers(selected, ids, joins=self._joins, split=self._csv_rows, parses_all=parses_all)
        self._json = JsonAnswers(
            selected,
            ids,
            joins=self._joins,
            text=self._text,
            line_end=self._line_end,
            whole_records=whole_records,
            whole_answers=format_of(spec.accept) == Format.JSON,
        )
        self._answers = self._csv if self._writes_csv else self._json

    def prepare(self, payload: Payload) -> bool:
        """Drop blank lines and apply the input filter; False if nothing is left to send. Raises RecordError."""
        if self._untouched_input:
            return True
        splits = self._split is not SplitType.NONE
        if self._input_filter.is_identity:
            if self._joins:
                payload.raw = payload.body = payload.joined()  # both, or its text would be held twice
            if splits:
                self._drop_blank_lines(payload)
            return payload.sent_size > 0
        raw = payload.joined()
        payload.raw = raw
        if not splits and self._input_format == Format.JSON:
            body: Written = self._filtered(raw, 0)
        else:
            body = self._filtered_lines(payload, raw)
            if not body:
                return False
        payload.body = body
        payload.sent_size = len(body) if type(body) is bytes else size_of(body)
        return True

    def _drop_blank_lines(self, payload: Payload) -> None:
        body = payload.joined()
        if 1 < body.find(b"\n") == len(body) - 1:  # one line, and more than a carriage return in it
            return
        starts_blank = body.startswith((b"\n", b"\r\n")) or body == b"\r"
        if not starts_blank and b"\n\n" not in body and b"\n\r\n" not in body:
            return
        kept, count = list[bytes](), 0
        for piece in line_pieces(body) if self._records is _lines else record_pieces(body):
            lines = [line for line in self._records(piece) if line not in _BLANK]
            kept.append(b"".join(lines))
            count += len(lines)
        payload.body = written_pieces(kept)
        payload.sent_size = sum(map(len, kept))
        payload.dropped = payload.records - count

    def _filtered_lines(self, payload: Payload, raw: bytes) -> Written:
        """Return what is sent of the lines of a payload; nothing if all are blank."""
        split = self._csv_rows if self._input_format == Format.CSV else nonblank_lines
        body, count, frames = list[bytes](), 0, list[Frame]()
        for piece in line_pieces(raw) if split is nonblank_lines else record_pieces(raw):
            records = split(piece)
            if records:
                body.append(self._filtered_rows(piece, records, count, frames))
            count += len(records)
        if self._split is not SplitType.NONE:
            payload.dropped = payload.records - count
        if len(frames) == count and KEPT_SHARE * sum([len(head) + len(tail or b"") for head, tail in frames]) <= len(
            raw
        ):
            payload.frames = frames
        return body[0] if len(body) == 1 else written_pieces(body)

    def _filtered_rows(self, raw: bytes, records: list[bytes], first: int, frames: list[Frame]) -> bytes:
        """Return lines of what is sent of records, the first of which has that place; add their frames, if known."""
        if self._input_format == Format.CSV:
            return b"\n".join([*self._selected_columns(raw, records, first), b""])
        text = self._text
        if text is None or text.sent is None or not is_text(raw):
            return b"\n".join([*(self._filtered(record, i) for i, record in enumerate(records, first)), b""])
        keeps = self._joins and len(raw) >= KEPT_RECORD_BYTES * len(records)
        if text.all_sent is not None and (sent := text.all_sent(records, keeps)) is not None:
            frames += sent[1]
            return sent[0]
        rows = [text.sent(record) or self._filtered(record, i) for i, record in enumerate(records, first)]
        return b"\n".join([*rows, b""])

    def _selected_columns(self, raw: bytes, records: list[bytes], first: int) -> list[bytes]:
        rows = None
        if self._columns is not None:
            are_plain = b'"' not in raw and b"\r" not in raw
            rows = select_all(
                self._columns, records, lambda i: self._filtered(records[i], first + i), are_plain=are_plain
            )
        return [self._filtered(record, i) for i, record in enumerate(records, first)] if rows is None else rows

    def _filtered(self, record: bytes, position: int) -> bytes:
        selected = self._input_filter
        try:
            if self._input_format == Format.CSV:
                return serialize_csv(selected.columns(parse_csv(record)))
            return serialize_json(selected.select(parse_json(record)))
        except RowError as exc:
            kind = "CSV" if self._input_format == Format.CSV else "JSON"
            raise RecordError(f"Failed to parse line: '{snippet(record)}' as {kind}: {exc}", position) from exc
        except FilterError as exc:
            raise RecordError(
                f"Failed to apply InputFilter {selected.text} to '{snippet(record)}': {exc}", position
            ) from exc

    def complete(self, payload: Payload, answer: AnswerBody) -> Written:
        """Return what is written for an answer; raises RecordError. Only for jobs that rewrite answers."""
        return self._answers.complete(payload, answer)

    @property
    def joins_csv(self) -> bool:
        """Whether columns of answers stand behind those of records."""
        return self._joins and self._writes_csv

    def width(self, answer: AnswerBody) -> int | None:
        """Return how many columns an answer of CSV has, by its first row; None if it has no row."""
        return self._csv.width(answer)

    def placeholder(self, record: bytes | None, columns: int = 1) -> bytes:
        """Return what is written for a record that has no answer, so that rows still match.

        It is joined with `null`, or in CSV with so many empty fields; where the record is at fault, or not held, it is
        such a row itself.
        """
        no_row = self._no_row if self._writes_csv else b"null" + self._line_end
        if not self._joins or record is None:
            return no_row
        try:
            if self._writes_csv:
                return self._csv.without_answer(record, columns)
            return self._json.without_answer(record)
        except (RecordError, RowError):
            return no_row


def processing_of(
    spec: TransformSpec, job_start: datetime, *, quoted_newlines: bool = False, no_row: bytes = b"\n"
) -> Processing | None:
    """Return what DataProcessing and GenerateInferenceId ask for, or None if bytes pass through untouched.

    `quoted_newlines` tells that rows of CSV may hold line feeds between quotes, `no_row` is what stands for one that
    there is not.
    """
    if spec.processing.is_identity and not spec.tags_rows:
        return None
    ids = InferenceIds(job_start) if spec.tags_rows else None
    return Processing(spec, ids, quoted_newlines=quoted_newlines, no_row=no_row)


def _line_end(split: SplitType, assemble_with: AssembleWith, accept: str | None) -> bytes:
    bare = accept == Format.JSON and split is SplitType.NONE and assemble_with is AssembleWith.NONE
    return b"" if bare else b"\n"


def _lines(body: bytes) -> list[bytes]:
    lines = [line + b"\n" for line in body.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return [line for line in lines if line]


def locate(raw: bytes, position: int, *, quoted_newlines: bool = False) -> tuple[int, int]:
    """Return how many records and bytes stand before the `position`-th non-blank line of a payload's text."""
    offset = number = seen = 0
    for line in csv_records(raw) if quoted_newlines else _lines(raw):
        if line not in _BLANK:
            if seen == position:
                break
            seen += 1
        number += 1
        offset += len(line)
    return number, offset
