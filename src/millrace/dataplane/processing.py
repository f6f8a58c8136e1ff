"""Filter records on their way to the container; join, filter and tag its answers on the way back. Pure.

    records --InputFilter--> body --> answer --> rows --join--> OutputFilter --> inference ids --> rows of the output

The join sees the original records, not the filtered ones. Blank lines are no records here. Answers that were
rewritten are rows that each end with one line feed. Inference ids alone leave the records as they are.

Source:
    batch-transform.md 6.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from millrace.dataplane.batch import Payload
from millrace.dataplane.csv_records import csv_records, nonblank_csv_records
from millrace.dataplane.inference_ids import InferenceIds
from millrace.dataplane.json_members import Frame, JsonMembers
from millrace.dataplane.json_text import is_text
from millrace.dataplane.jsonpath import FilterError, Format, format_of, parse_filter
from millrace.dataplane.rows import RowError, nonblank_lines, parse_csv, parse_json, serialize_csv, serialize_json
from millrace.jobs.transform import AssembleWith, JoinSource, SplitType, TransformSpec

__all__ = ["Processing", "RecordError", "locate", "processing_of"]

SNIPPET = 200

KEPT_RECORD_BYTES, KEPT_SHARE = 256, 4
"""What an answer is joined with is kept from the time its record was filtered, where records are about as long at least
and what is kept takes no more than that part of the payload; else the record is read again when the answer is there."""

_BLANK = (b"\n", b"\r\n", b"\r")


class RecordError(Exception):
    """A record cannot be filtered or joined. `position` counts the payload's non-blank records from 0."""

    def __init__(self, message: str, position: int = 0) -> None:
        super().__init__(message)
        self.position = position


class Processing:
    """What DataProcessing and GenerateInferenceId ask for, decided once per job; `ids` is None without the latter.

    `no_row` stands for a row of CSV that there is not. With `parses_all`, every record of JSON is parsed, which is what
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
        self._ids = ids
        self._untouched_input = processing.is_identity
        self._input_format = format_of(spec.content_type)
        self._output_format = format_of(spec.accept)
        self._input_filter = parse_filter(processing.input_filter, spec.content_type or "", member="InputFilter")
        self._output_filter = parse_filter(processing.output_filter, spec.accept or "", member="OutputFilter")
        self._joins = processing.join_source is JoinSource.INPUT
        self._split = spec.split
        self._line_end = _line_end(spec.split, spec.assemble_with, self._output_format)
        self.rewrites_answers = self._joins or not self._output_filter.is_identity or ids is not None
        self._text: JsonMembers | None = None
        if not (parses_all or self._whole_documents or ids is not None):
            self._text = JsonMembers(self._input_filter, self._output_filter, joins=self._joins)
        self._complete = self._choose()

    def _choose(self) -> Callable[[bytes, bytes], bytes]:
        if self._joins and self._output_format == Format.CSV:
            return self._join_csv
        if self._joins:
            return self._join_json
        if self._output_format == Format.CSV:
            return self._filter_csv
        return self._filter_json

    def prepare(self, payload: Payload) -> bool:
        """Drop blank lines and apply the input filter; False if nothing is left to send. Raises RecordError."""
        if self._untouched_input:
            return True
        splits = self._split is not SplitType.NONE
        if self._input_filter.is_identity:
            if self._joins:
                payload.raw = payload.joined()
            if splits:
                self._drop_blank_lines(payload)
            return payload.sent_size > 0
        raw = payload.joined()
        payload.raw = raw
        if not splits and self._input_format == Format.JSON:
            body = self._filtered(raw, 0)
        else:
            split = self._csv_rows if self._input_format == Format.CSV else nonblank_lines
            records = split(raw)
            payload.dropped = payload.records - len(records) if splits else 0
            if not records:
                return False
            body = self._filtered_rows(payload, records)
        payload.body = body
        payload.sent_size = len(body)
        return True

    def _drop_blank_lines(self, payload: Payload) -> None:
        body = payload.joined()
        if 1 < body.find(b"\n") == len(body) - 1:  # one line, and more than a carriage return in it
            return
        starts_blank = body.startswith((b"\n", b"\r\n")) or body == b"\r"
        if not starts_blank and b"\n\n" not in body and b"\n\r\n" not in body:
            return
        kept = [line for line in self._records(body) if line not in _BLANK]
        payload.body = b"".join(kept)
        payload.sent_size = len(payload.body)
        payload.dropped = payload.records - len(kept)

    def _filtered_rows(self, payload: Payload, records: list[bytes]) -> bytes:
        text = self._text
        if text is None or self._input_format == Format.CSV or text.sent is None or not is_text(payload.raw):
            return b"\n".join([*(self._filtered(record, i) for i, record in enumerate(records)), b""])
        if text.all_sent is not None and (sent := text.all_sent(records)) is not None:
            body, frames = sent
            if frames is not None and len(payload.raw) >= KEPT_RECORD_BYTES * len(records):
                self._keep(payload, frames)
            return body
        rows = [text.sent(record) or self._filtered(record, i) for i, record in enumerate(records)]
        return b"\n".join([*rows, b""])

    def _keep(self, payload: Payload, frames: list[Frame]) -> None:
        if KEPT_SHARE * sum([len(head) + len(tail or b"") for head, tail in frames]) <= len(payload.raw):
            payload.frames = frames

    def _filtered(self, record: bytes, position: int) -> bytes:
        selected = self._input_filter
        try:
            if self._input_format == Format.CSV:
                return serialize_csv(selected.columns(parse_csv(record)))
            return serialize_json(selected.select(parse_json(record)))
        except RowError as exc:
            kind = "CSV" if self._input_format == Format.CSV else "JSON"
            raise RecordError(f"Failed to parse line: '{_snippet(record)}' as {kind}: {exc}", position) from exc
        except FilterError as exc:
            raise RecordError(
                f"Failed to apply InputFilter {selected.text} to '{_snippet(record)}': {exc}", position
            ) from exc

    def complete(self, payload: Payload, answer: bytes) -> bytes:
        """Return what is written for an answer; raises RecordError. Only for jobs that rewrite answers."""
        if self._output_format != Format.CSV and self._text is not None:
            try:
                written = self._completed_text(self._text, payload, answer)
            except (RecordError, RowError):  # of a row; another one may be the first at fault
                written = None
            if written is not None:
                return written
        return self._complete(payload.raw, answer)

    def _completed_text(self, text: JsonMembers, payload: Payload, answer: bytes) -> bytes | None:
        """Return the rows for an answer whose lines are rows; None if that is not so, or can't be told by text alone.

        Where the first of several lines is a document, all of them together are none.
        """
        if text.answered is None or not is_text(answer):
            return None
        rows = nonblank_lines(answer)
        if not self._joins:
            written = [text.answered(row) or self._json_row_of(row, i) for i, row in enumerate(rows)]
            return self._line_end.join([*written, b""]) if rows else None
        if text.framed is None or not (payload.frames or is_text(payload.raw)):
            return None
        return self._joined_text(text.framed, text.answered, payload, rows)

    def _joined_text(
        self,
        framed: Callable[[bytes], Frame | None],
        answered: Callable[[bytes], bytes | None],
        payload: Payload,
        rows: list[bytes],
    ) -> bytes | None:
        kept = payload.frames
        records = nonblank_lines(payload.raw) if kept is None else []
        if len(kept or records) != len(rows):
            return None
        pieces: list[bytes] = []
        for i, row in enumerate(rows):
            frame = kept[i] if kept else framed(records[i])
            written = None if frame is None else answered(row)
            if frame is None or written is None:
                records = records or nonblank_lines(payload.raw)
                pieces.append(self._joined_json(records[i], parse_json(row), i))
                continue
            head, tail = frame
            pieces += (head, self._line_end) if tail is None else (head, written, tail, self._line_end)
        return b"".join(pieces)

    @property
    def joins_csv(self) -> bool:
        """Whether columns of answers stand behind those of records."""
        return self._joins and self._output_format == Format.CSV

    def width(self, answer: bytes) -> int | None:
        """Return how many columns an answer of CSV has, by its first row; None if it has no row."""
        rows = self._csv_rows(answer)
        return len(parse_csv(rows[0])) if rows else None

    def placeholder(self, record: bytes | None, columns: int = 1) -> bytes:
        """Return what is written for a record that has no answer, so that rows still match.

        It is joined with `null`, or in CSV with so many empty fields; where the record is at fault, or not held, it is
        such a row itself.
        """
        if not self._joins or record is None:
            return self._no_row if self._output_format == Format.CSV else b"null" + self._line_end
        try:
            if self._output_format == Format.CSV:
                nothing = [""] * columns
                rows = self._csv_rows(record)
                return b"".join([self._csv_body([self._csv_row(parse_csv(row) + nothing, 0)]) for row in rows])
            return self._joined_json(record, None, 0)
        except (RecordError, RowError):
            return self._no_row if self._output_format == Format.CSV else b"null" + self._line_end

    # -- CSV

    def _join_csv(self, raw: bytes, answer: bytes) -> bytes:
        records, rows = self._csv_rows(raw), self._csv_rows(answer)
        plain = b'"' not in raw and b'"' not in answer and b"\r" not in raw and b"\r" not in answer
        if plain and self._output_filter.is_identity and len(records) == len(rows):
            if len(rows) == 1 and self._ids is None:
                return b"%b,%b\n" % (records[0], rows[0])
            return self._csv_body([b"%b,%b" % pair for pair in zip(records, rows, strict=True)])
        parsed = [_csv_record(record, i) for i, record in enumerate(records)]
        answered = [_csv_answer(row, i) for i, row in enumerate(rows)]
        _check_counts(len(parsed), len(answered))
        pairs = enumerate(zip(parsed, answered, strict=True))
        return self._csv_body([self._csv_row(one + other, i) for i, (one, other) in pairs])

    def _filter_csv(self, _: bytes, answer: bytes) -> bytes:
        rows = self._csv_rows(answer)
        if self._output_filter.is_identity and b'"' not in answer and b"\r" not in answer:
            return self._csv_body(rows)
        return self._csv_body([self._csv_row(_csv_answer(row, i), 0) for i, row in enumerate(rows)])

    def _csv_body(self, rows: list[bytes]) -> bytes:
        if self._ids is not None:
            rows = self._ids.csv_rows(rows)
        return b"\n".join([*rows, b""])

    def _csv_row(self, fields: list[str], position: int) -> bytes:
        if not self._output_filter.is_identity:
            try:
                fields = self._output_filter.columns(fields)
            except FilterError as exc:
                raise self._output_error(exc, serialize_csv(fields), position) from exc
        return serialize_csv(fields)

    # -- JSON

    def _join_json(self, raw: bytes, answer: bytes) -> bytes:
        records = [raw] if self._whole_documents else nonblank_lines(raw)
        rows = self._answer_documents(answer)
        if len(records) == 1 and len(rows) == 1:
            return self._joined_json(records[0], rows[0], 0)
        _check_counts(len(records), len(rows))
        pairs = enumerate(zip(records, rows, strict=True))
        return b"".join([self._joined_json(record, row, i) for i, (record, row) in pairs])

    @property
    def _whole_documents(self) -> bool:
        return self._split is SplitType.NONE and self._input_format == Format.JSON

    def _joined_json(self, record: bytes, row: Any, position: int) -> bytes:
        try:
            value = parse_json(record)
        except RowError as exc:
            raise RecordError(f"Failed to parse input as JSON: {exc}", position) from exc
        if isinstance(value, dict):
            value["SageMakerOutput"] = row
        else:
            value = {"SageMakerInput": value, "SageMakerOutput": row}
        return self._json_row(value, position)

    def _filter_json(self, _: bytes, answer: bytes) -> bytes:
        return b"".join([self._json_row(row, 0) for row in self._answer_documents(answer)])

    def _json_row_of(self, row: bytes, position: int) -> bytes:
        return self._json_row(parse_json(row), position).removesuffix(self._line_end)

    def _answer_documents(self, answer: bytes) -> list[Any]:
        """Return the rows of an answer: one document if the whole body of application/json is one, else its lines."""
        if self._output_format == Format.JSON and answer.strip():
            try:
                return [parse_json(answer)]
            except RowError:
                if b"\n" not in answer.strip():
                    raise RecordError(
                        f"Failed to parse output from the algorithm as JSON, found near: {_snippet(answer)}"
                    ) from None
        return [_json_answer(line, i) for i, line in enumerate(nonblank_lines(answer))]

    def _json_row(self, value: Any, position: int) -> bytes:
        try:
            if not self._output_filter.is_identity:
                value = self._output_filter.select(value)
            if self._ids is not None:
                value = self._ids.json_row(value)
            return serialize_json(value) + self._line_end
        except FilterError as exc:
            raise self._output_error(exc, _shown_json(value), position) from exc
        except RowError as exc:
            raise RecordError(str(exc), position) from exc

    def _output_error(self, error: FilterError, row: bytes, position: int) -> RecordError:
        text = f"Failed to apply OutputFilter {self._output_filter.text} to '{_snippet(row)}': {error}"
        return RecordError(text, position)


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


def _csv_record(record: bytes, position: int) -> list[str]:
    try:
        return parse_csv(record)
    except RowError as exc:
        raise RecordError(f"Failed to parse input as CSV: {exc}", position) from exc


def _csv_answer(row: bytes, position: int) -> list[str]:
    try:
        return parse_csv(row)
    except RowError as exc:
        raise RecordError(f"Failed to parse output from the algorithm as CSV: {exc}", position) from exc


def _json_answer(row: bytes, position: int) -> Any:
    try:
        return parse_json(row)
    except RowError as exc:
        raise RecordError(f"Failed to parse output from the algorithm as JSON: {exc}", position) from exc


def _check_counts(records: int, rows: int) -> None:
    if records != rows:
        raise RecordError(
            "Fail to join data: mismatched line count between the input and the output: "
            f"{records} record{'s' * (records != 1)}, {rows} row{'s' * (rows != 1)}"
        )


def _shown_json(value: Any) -> bytes:
    try:
        return serialize_json(value)
    except RowError as exc:  # a join nests a level deeper than what was read
        return str(exc).encode()


def _snippet(text: bytes) -> str:
    return text[:SNIPPET].decode("utf-8", "replace")


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
