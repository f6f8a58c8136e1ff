"""Targets: rows of CSV and JSON, and what filters and joins do with them."""

from datetime import UTC, datetime
from typing import Any

import orjson

from fuzz.source import Source
from millrace.dataplane.answer_text import whole_text
from millrace.dataplane.inference_ids import InferenceIds
from millrace.dataplane.jsonpath import FilterError, Format, InvalidFilter, parse_filter
from millrace.dataplane.payload import Payload
from millrace.dataplane.processing import Processing, RecordError, locate
from millrace.dataplane.rows import RowError, nonblank_lines, parse_csv, parse_json, serialize_csv, serialize_json
from millrace.jobs.transform import AssembleWith, DataProcessing, JoinSource, SplitType, TransformSpec
from millrace.names import ObjectPrefix

__all__ = ["csv_rows", "filters", "joins", "json_rows", "json_text"]

_START = datetime(2020, 1, 1, tzinfo=UTC)


def csv_rows(data: bytes) -> None:
    """Read and write a row of CSV."""
    try:
        fields = parse_csv(data)
    except RowError:
        return
    written = serialize_csv(fields)
    assert parse_csv(written) == fields, "what is written is read as the same fields"
    if b'"' not in data and b"\n" not in data and b"\r" not in data:
        assert written == data


def json_rows(data: bytes) -> None:
    """Read and write a JSON document."""
    try:
        value = parse_json(data)
    except RowError:
        return
    written = serialize_json(value)
    assert serialize_json(parse_json(written)) == written, "what is written stays as it is"
    try:
        plain = orjson.loads(data)
    except ValueError:
        return  # numbers beyond its range, half pairs
    assert orjson.loads(written) == plain, "nothing is lost"


def filters(data: bytes) -> None:
    """Parse a filter, and apply it to a document and to a row."""
    source = Source(data)
    media_type = source.choice(Format.ALL)
    extended = bool(source.number(1))
    text, document = source.parts(2)
    try:
        chosen = parse_filter(text.decode("utf-8", "replace"), media_type, extended=extended)
    except InvalidFilter:
        return
    try:
        if media_type == Format.CSV:
            assert serialize_csv(chosen.columns(parse_csv(document))) is not None
        else:
            serialize_json(chosen.select(parse_json(document)))
    except (FilterError, RowError):
        return


def joins(data: bytes) -> None:
    """Filter records on their way, and join, filter and tag what a model answers."""
    source = Source(data)
    split = source.choice((SplitType.LINE, SplitType.NONE))
    spec_fields: dict[str, Any] = {
        "split": split,
        "assemble_with": source.choice(list(AssembleWith)),
        "content_type": source.choice(Format.ALL),
        "accept": source.choice(Format.ALL),
    }
    join = source.choice(list(JoinSource))
    ids = InferenceIds(_START) if source.number(1) else None
    input_filter, output_filter, raw, answer = source.parts(4)
    try:
        processing = Processing(
            TransformSpec(
                model="m",
                source=ObjectPrefix("shop", "in/"),
                output=ObjectPrefix("shop", "out/"),
                processing=DataProcessing(
                    input_filter=input_filter.decode("utf-8", "replace") or "$",
                    output_filter=output_filter.decode("utf-8", "replace") or "$",
                    join_source=join,
                ),
                **spec_fields,
            ),
            ids,
        )
    except InvalidFilter:
        return
    payload = _payload(raw)
    try:
        sent = processing.prepare(payload)
        assert payload.sent_size == len(payload.joined())
        assert not sent or 0 <= payload.dropped < payload.records or split is SplitType.NONE
        if processing.rewrites_answers:
            rows = whole_text(processing.complete(payload, answer))
            assert not rows or rows.endswith(b"\n") or spec_fields["accept"] == Format.JSON
    except RecordError as exc:
        assert str(exc)
        records, offset = locate(payload.raw, exc.position)
        assert 0 <= offset <= len(payload.raw)
        assert records <= payload.records
    if processing.rewrites_answers:
        for line in raw.split(b"\n"):
            record = line + b"\n"
            assert processing.placeholder(record) or not nonblank_lines(record)


def json_text(data: bytes) -> None:
    """Filter and join JSON by the text of its members: all comes out as if each record had been parsed."""
    source = Source(data)
    join, media_type = source.choice(list(JoinSource)), source.choice((Format.JSON_LINES, Format.JSON))
    input_filter, output_filter, raw, answer = source.parts(4)
    spec = TransformSpec(
        model="m",
        source=ObjectPrefix("shop", "in/"),
        output=ObjectPrefix("shop", "out/"),
        split=SplitType.LINE,
        assemble_with=AssembleWith.LINE,
        content_type=media_type,
        accept=media_type,
        processing=DataProcessing(
            input_filter=input_filter.decode("utf-8", "replace") or "$",
            output_filter=output_filter.decode("utf-8", "replace") or "$",
            join_source=join,
        ),
    )
    try:
        processing, slow = Processing(spec), Processing(spec, parses_all=True)
    except InvalidFilter:
        return
    assert _outcome(processing, raw, answer) == _outcome(slow, raw, answer)


def _outcome(processing: Processing, raw: bytes, answer: bytes) -> list[object]:
    payload, told = _payload(raw), list[object]()
    try:
        told += (processing.prepare(payload), payload.joined(), payload.sent_size, payload.dropped)
        if processing.rewrites_answers:
            told.append(whole_text(processing.complete(payload, answer)))
    except RecordError as exc:
        told += (str(exc), exc.position)
    return told


def _payload(raw: bytes) -> Payload:
    return Payload(raw, len(raw), 1, 0, raw.count(b"\n") + (not raw.endswith(b"\n")))
