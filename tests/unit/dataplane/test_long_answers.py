"""Tests of what is held while long answers are filtered and joined: some rows, and what is written."""

import gc
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.property.dataplane.processing_jobs import processing_job

from millrace.dataplane.answer_text import size_of
from millrace.dataplane.formats.answer_rows import AnswerRows
from millrace.dataplane.jsonpath import Format
from millrace.dataplane.payload import Payload
from millrace.dataplane.processing import Processing, RecordError
from millrace.jobs.transform import MIB

SHORT_CSV, LONG_CSV = b"id%07d,0.25,0.5\n", b"id%07d" + b",0.1234" * 100 + b"\n"
QUOTED_CSV = b'"id%07d",0.25,0.5\n'
SHORT_JSON, LONG_JSON = b'{"id":%d,"x":[1,2]}\n', b'{"id":%d,"x":[1' + b",0.1234" * 100 + b'],"y":2}\n'

JOBS = {
    "rows of CSV": (SHORT_CSV, processing_job(Format.CSV)),
    "rows of CSV, filtered": (
        SHORT_CSV,
        processing_job(Format.CSV, input_filter="$[1:]", output_filter="$[0,-1]"),
    ),
    "long rows of CSV": (LONG_CSV, processing_job(Format.CSV)),
    "rows of CSV in quotes": (QUOTED_CSV, processing_job(Format.CSV)),
    "rows of CSV that are not joined": (QUOTED_CSV, processing_job(Format.CSV, output_filter="$[0]", join=False)),
    "documents": (SHORT_JSON, processing_job(Format.JSON_LINES)),
    "documents, filtered": (
        SHORT_JSON,
        processing_job(Format.JSON_LINES, input_filter="$.x", output_filter="$['id','SageMakerOutput']"),
    ),
    "long documents": (LONG_JSON, processing_job(Format.JSON_LINES)),
    "long documents, filtered": (
        LONG_JSON,
        processing_job(Format.JSON_LINES, input_filter="$.x", output_filter="$['id','SageMakerOutput']"),
    ),
    "documents of which all is parsed": (LONG_JSON, processing_job(Format.JSON_LINES, output_filter="$.*")),
    "documents that are not joined": (SHORT_JSON, processing_job(Format.JSON_LINES, output_filter="$.id", join=False)),
}

TEXT_BYTES = 3 * MIB
MOST_BYTES = 6 * MIB
"""Twenty times a piece: rows of twenty bytes take as much, of records and of answers. All of them would take more."""


@contextmanager
def measured() -> Iterator[list[int]]:
    """Give the most memory that is held in the block beyond what was held before it."""
    held = [0]
    gc.collect()
    tracemalloc.start()
    try:
        yield held
        held[0] = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def text_of(row: bytes) -> tuple[bytes, int]:
    records = TEXT_BYTES // len(row % 1)
    return b"".join(row % n for n in range(records)), records


def test_of_rows_with_line_feeds_some_are_held_and_what_is_written() -> None:
    """They are cut where a record ends."""
    text, records = text_of(b'"id\n%07d",0.25,0.5\n')
    payload = Payload(text, len(text), 1, 0, records)
    payload.raw = text
    with measured() as held:
        written = Processing(processing_job(Format.CSV), quoted_newlines=True).complete(payload, memoryview(text))
    assert size_of(written) == 2 * len(text)
    assert held[0] - size_of(written) < MOST_BYTES


@pytest.mark.parametrize("name", JOBS)
def test_of_a_long_answer_some_rows_are_held_and_what_is_written(name: str) -> None:
    """A row as an object takes several times its text: those of a whole answer would take more than all else."""
    row, spec = JOBS[name]
    text, records = text_of(row)
    processing = Processing(spec)
    payload = Payload(text, len(text), 1, 0, records)
    payload.raw = text
    with measured() as held:
        written = processing.complete(payload, memoryview(text))
    assert size_of(written) > TEXT_BYTES // 10
    assert held[0] - size_of(written) < MOST_BYTES
    assert not isinstance(written, bytes)


@pytest.mark.parametrize("name", ["rows of CSV, filtered", "documents, filtered"])
def test_of_a_long_payload_some_records_are_held_and_what_is_sent(name: str) -> None:
    """What is sent of a payload leaves in the pieces in which it was made."""
    row, spec = JOBS[name]
    text, records = text_of(row)
    payload = Payload([text], len(text), 1, 0, records)
    with measured() as held:
        assert Processing(spec).prepare(payload)
    assert isinstance(payload.body, list)
    frames = sum(200 for _ in payload.frames or ())
    assert held[0] - payload.sent_size - frames < MOST_BYTES
    assert payload.sent_size == sum(map(len, payload.body))


def test_of_a_long_answer_that_becomes_a_table_some_rows_are_held_and_what_is_written() -> None:
    """Nothing but their number is looked at."""
    text, records = text_of(SHORT_CSV)
    rows = AnswerRows(Format.CSV, counts=True, processing=None)
    with measured() as held:
        written = rows.complete(Payload(b"", len(text), 1, 0, records), memoryview(text))
    assert held[0] - size_of(written) < MOST_BYTES


@pytest.mark.parametrize("name", ["rows of CSV", "long documents"])
@pytest.mark.parametrize("tail", [b"1,2\n", b'{"\n'])
def test_finding_what_is_wrong_with_a_long_answer_holds_no_more(name: str, tail: bytes) -> None:
    """Whether a row can't be parsed or is one too many is found without holding all others."""
    row, spec = JOBS[name]
    text, records = text_of(row)
    payload = Payload(text, len(text), 1, 0, records)
    payload.raw = text
    processing = Processing(spec)
    answer = memoryview(text + tail)
    with measured() as held, pytest.raises(RecordError, match=r"mismatched|Failed to parse output"):
        processing.complete(payload, answer)
    written = 2 * TEXT_BYTES
    assert held[0] - written < MOST_BYTES
