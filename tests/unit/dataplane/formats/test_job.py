"""What the transform loop asks about formats."""

import gzip
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
from tests.unit.dataplane.formats.tables import joined, parquet, read, rows

from millrace.dataplane.batch import ManyLines, Payload
from millrace.dataplane.formats import JobFormats, UnfitFormat
from millrace.dataplane.formats.answer_rows import AnswerRows
from millrace.dataplane.formats.csv_payloads import ManyCsvRecords
from millrace.dataplane.formats.options import Codec, TableForm
from millrace.dataplane.formats.writers import FileText
from millrace.dataplane.processing import Processing, RecordError
from millrace.errors import ValidationError
from millrace.jobs.transform import (
    AssembleWith,
    BatchStrategy,
    DataCapture,
    DataProcessing,
    JoinSource,
    SplitType,
    TransformSpec,
)
from millrace.names import ObjectPrefix, ObjectRef
from millrace.testing.objects import MemoryObjects

START = datetime(2026, 1, 1, tzinfo=UTC)
TABLE = pa.table({"id": [7, 8], "x": [0.5, 1.5], "note": ["a\nb", "c"]})
MANY = BatchStrategy.MULTI_RECORD


def spec(media_type: str = "text/csv", *, joins: bool = False, **variables: str) -> TransformSpec:
    """A job over lines with variables, named without their prefix."""
    return TransformSpec(
        model="m",
        source=ObjectPrefix("shop", "in/"),
        output=ObjectPrefix("shop", "out/"),
        split=SplitType.LINE,
        assemble_with=AssembleWith.LINE,
        content_type=media_type,
        accept=media_type,
        processing=DataProcessing(join_source=JoinSource.INPUT if joins else JoinSource.NONE),
        environment={f"MILLRACE_{name.upper()}": value for name, value in variables.items()},
    )


def filtered(job: TransformSpec, *, input_filter: str = "$", output_filter: str = "$") -> TransformSpec:
    processing = replace(job.processing, input_filter=input_filter, output_filter=output_filter)
    return replace(job, processing=processing)


async def bodies(
    job: TransformSpec, data: bytes, *, key: str = "in/a", limit: int = 0, whole: bool = False, start: int = 0
) -> list[bytes] | bytes:
    """Return the bodies of an object's requests, as the transform loop makes them; or the whole one's chunks."""
    formats = JobFormats(job)
    objects = MemoryObjects(chunk_bytes=3)
    ref = objects.add(f"s3://shop/{key}", data)

    async def stored(at: int) -> AsyncGenerator[bytes, None]:
        async for chunk in objects.read(ref, start=at):
            yield chunk

    header = formats.header()
    chunks = formats.chunks(objects, ref, stored, header=header, chunk_bytes=4, whole=whole, start=start)
    if whole:
        return await joined(chunks)
    former = formats.former(MANY, limit, header)
    async for chunk in chunks:
        former.feed(chunk)
    former.finish()
    made = []
    processing = formats.processing(START)
    while (payload := former.take()) is not None:
        assert processing is None or processing.prepare(payload)
        if header is not None:
            header.prefix(payload)
        made.append(payload.joined())
        assert len(made[-1]) == payload.sent_size
    return made


def test_variables_are_checked_when_formats_are_decided() -> None:
    """A job whose variables are wrong, or don't fit it, is refused."""
    with pytest.raises(ValidationError, match="MILLRACE_INPUT_FORMAT must be one of"):
        JobFormats(spec(input_format="orc"))
    with pytest.raises(ValidationError, match="requires SplitType"):
        JobFormats(replace(spec(input_format="arrow"), split=SplitType.NONE))


async def test_without_variables_nothing_changes() -> None:
    """Bytes, lines and answers are as on SageMaker; gzip is what CompressionType says."""
    formats = JobFormats(spec())
    assert formats.header() is None
    assert isinstance(formats.former(MANY, 0, None), ManyLines)
    assert formats.processing(START) is None
    assert not formats.converts
    assert (formats.reads_tables, formats.writes_tables, formats.output_start(None)) == (False, False, b"")
    assert formats.output_headers() == {}
    assert await bodies(spec(), b"1\n2\n", limit=2) == [b"1\n", b"2\n"]


async def test_tables_become_records() -> None:
    """Rows are sent as text, with a header where one is asked for; a line feed in a string is part of its record."""
    data = parquet(TABLE)
    assert await bodies(spec(input_format="parquet"), data, limit=13) == [b'7,0.5,"a\nb"\n', b"8,1.5,c\n"]
    job = spec(input_format="parquet", input_columns="x,id", csv_header="repeat")
    assert await bodies(job, data, limit=14) == [b"x,id\n0.5,7\n", b"x,id\n1.5,8\n"]
    assert await bodies(job, data, whole=True) == b"x,id\n0.5,7\n1.5,8\n"
    job = spec("application/jsonlines", input_format="parquet", input_columns="x")
    assert await bodies(job, data) == [b'{"x":0.5}\n{"x":1.5}\n']


async def test_a_column_that_a_join_cannot_add_is_told_before_a_record_is_sent() -> None:
    """Where its name is stated, nobody waits for all answers to hear that the table has it already."""
    job = spec(
        joins=True, input_format="parquet", input_columns="x", output_format="parquet", output_columns="id:float"
    )
    with pytest.raises(UnfitFormat, match='the input has a column "id" already'):
        await bodies(job, parquet(TABLE))
    assert await bodies(replace(job, environment={**job.environment, "MILLRACE_OUTPUT_COLUMNS": "y"}), parquet(TABLE))


async def test_compressed_objects_are_told_by_their_keys() -> None:
    """With `auto`, objects of one job may be compressed in different ways."""
    job = spec(input_compression="auto")
    assert await bodies(job, gzip.compress(b"1\n", mtime=0), key="in/a.csv.gz") == [b"1\n"]
    assert await bodies(job, b"1\n", key="in/a.csv") == [b"1\n"]
    assert JobFormats(job).codec("in/a.zst") is Codec.ZSTD


@pytest.mark.parametrize(
    ("mode", "expected", "whole"), [("skip", [b"1\n", b"2\n"], b"1\n2\n"), ("repeat", [b"h\n1\n", b"h\n2\n"], None)]
)
async def test_headers_are_skipped_or_repeated(mode: str, expected: list[bytes], whole: bytes | None) -> None:
    """A request has the header where it is repeated; one request for all has it once."""
    data = b"h\n1\n2\n"
    assert await bodies(spec(csv_header=mode), data, limit=4 if mode == "repeat" else 2) == expected
    assert await bodies(spec(csv_header=mode), data, whole=True) == (data if whole is None else whole)


@pytest.mark.parametrize(
    ("job", "data"),
    [
        (spec(), b"1\n2\n3\n"),
        (spec(csv_header="repeat"), b"h\n1\n2\n3\n"),
        (spec(input_compression="gzip"), gzip.compress(b"1\n2\n3\n", mtime=0)),
        (spec(input_compression="gzip", csv_header="skip"), gzip.compress(b"h\n1\n2\n3\n", mtime=0)),
        (spec(input_format="parquet", csv_header="repeat"), parquet(pa.table({"h": [1, 2, 3]}))),
    ],
)
async def test_reading_goes_on_where_it_was(job: TransformSpec, data: bytes) -> None:
    """What was done before is not formed again, whatever the object is; a header still is what it was."""
    header = b"h\n" if job.environment.get("MILLRACE_CSV_HEADER") == "repeat" else b""
    for start, rest in ((0, b"1\n2\n3\n"), (2, b"2\n3\n"), (4, b"3\n")):
        assert await bodies(job, data, start=start) == [header + rest]
    assert await bodies(job, data, start=6) == []


async def test_a_repeated_header_is_filtered_like_its_records() -> None:
    """The input filter holds for the header as for the rows."""
    job = filtered(spec(csv_header="repeat"), input_filter="$[1:]")
    assert await bodies(job, b"id,a,b\n7,1,2\n") == [b"a,b\n1,2\n"]


def test_quoted_line_feeds_are_kept_where_they_are_asked_for() -> None:
    """Records of RFC 4180 are cut by their quotes, those of tables too."""
    for job in (spec(csv_records="rfc4180"), spec(input_format="arrow")):
        assert isinstance(JobFormats(job).former(MANY, 0, None), ManyCsvRecords)
    assert isinstance(JobFormats(spec("application/jsonlines", input_format="arrow")).former(MANY, 0, None), ManyLines)


def test_records_of_one_body_are_counted() -> None:
    """A header that goes by is no record, nor is a line feed between quotes the end of one."""
    for job, expected in (
        (spec(), 4),
        (spec(csv_header="skip"), 4),
        (spec(csv_header="repeat"), 3),
        (spec(csv_header="repeat", csv_records="rfc4180"), 2),
    ):
        count = JobFormats(job).record_count()
        assert count.records == 0
        for chunk in (b"h\n1\n", b'"2\n', b'"'):
            count.add(chunk)
        count.finish()
        assert count.records == expected


def payload(records: int) -> Payload:
    return Payload(b"", 0, 1, 0, records)


def test_answers_become_rows() -> None:
    """Each row of an answer ends with one line feed; blank lines are none; a printed document is one row."""
    for media_type, answer, row in (
        ("text/csv", b'1\r\n\n"a\nb"', b'1\n"a\nb"\n'),
        ("application/jsonlines", b"{}\n\n[ 1 ]", b"{}\n[ 1 ]\n"),
        ("application/json", b'{\n "b": 1.0,\n "a": 2\n}\n', b'{"a":2,"b":1.0}\n'),
        ("application/json", b"{}\n{}", b"{}\n{}\n"),
        ("application/json", b"", b""),
    ):
        processing = JobFormats(spec(media_type, output_format="arrow")).processing(START)
        assert isinstance(processing, AnswerRows)
        assert processing.prepare(payload(1))
        assert processing.complete(payload(1), answer) == row


def test_rows_of_a_join_are_counted_per_answer() -> None:
    """An answer that has not a row for each record fails its record: no row may join another's."""
    processing = JobFormats(spec(joins=True, input_format="arrow", output_format="arrow")).processing(START)
    assert isinstance(processing, AnswerRows)
    assert processing.complete(payload(2), b"1\n2\n") == b"1\n2\n"
    with pytest.raises(RecordError, match=r"mismatched row count .*: 2 records, 1 row$"):
        processing.complete(payload(2), b"1\n")
    assert processing.placeholder(b"1,2") == b'""\n'
    with pytest.raises(RecordError, match="no closing quote"):
        processing.complete(payload(2), b'1\n"2\n')


def test_text_is_processed_as_ever() -> None:
    """Filters and joins of text are those of every job, whatever becomes of the rows."""
    for job in (
        spec(joins=True, input_format="arrow"),
        spec(joins=True, output_format="arrow"),
        filtered(spec(output_format="arrow"), output_filter="$[0]"),
    ):
        assert isinstance(JobFormats(job).processing(START), Processing)


def test_named_columns_are_the_header_of_csv() -> None:
    """The output begins with the names of its columns: the input's where it is joined, then the answer's."""
    formats = JobFormats(spec(output_columns='score,"p,1"'))
    assert formats.output_start(None) == b'score,"p,1"\n'
    job = spec(joins=True, csv_header="skip", output_columns="score")
    formats = JobFormats(job)
    header = formats.header()
    assert header is not None
    header.read(b"id,x\n")
    assert formats.output_start(header) == b"id,x,score\n"
    assert JobFormats(filtered(job, output_filter="$[0,-1]")).output_start(header) == b"id,score\n"
    with pytest.raises(UnfitFormat, match=r"Failed to apply OutputFilter \$\[5\] to the columns \[id, x, score\]"):
        JobFormats(filtered(job, output_filter="$[5]")).output_start(header)
    capture = DataCapture(destination=ObjectPrefix("shop", "c"), generate_inference_id=True)
    named = JobFormats(replace(job, capture=capture)).output_start(header)
    assert named == b"id,x,score,SageMakerInferenceId,SageMakerInferenceTime\n"


@pytest.mark.parametrize("names", [b"id,x,id\n", b"x,score\n"])
def test_a_table_has_each_column_once(names: bytes) -> None:
    """A file with two columns of one name is one that few can read: it is told before records are sent."""
    job = spec(joins=True, csv_header="skip", output_columns="score", output_format="parquet")
    formats = JobFormats(job)
    header = formats.header()
    assert header is not None
    header.read(names)
    with pytest.raises(UnfitFormat, match=r'the output would have "(id|score)" 2 times: \[.*\]; name the answer'):
        formats.output_start(header)
    assert JobFormats(filtered(job, output_filter="$[-1]")).output_start(header) == b""


async def test_a_column_of_ours_is_not_that_of_the_header() -> None:
    """An output of an earlier job, joined with answers whose columns have no names, would have two."""
    job = spec(joins=True, csv_header="skip", output_format="parquet")
    with pytest.raises(UnfitFormat, match='"SageMakerOutput" 2 times'):
        await made(job, b"7,0.5,1\n", b"id,SageMakerOutput\n")


async def test_a_text_join_of_a_table_knows_its_columns() -> None:
    """Where names are needed, those of the table come as a header that is never sent."""
    job = spec(joins=True, input_format="parquet", input_columns="id", output_columns="score")
    assert await bodies(job, parquet(TABLE)) == [b"7\n8\n"]
    formats = JobFormats(job)
    header = formats.header()
    assert header is not None
    header.read(b"id\n")
    assert formats.output_start(header) == b"id,score\n"


async def test_outputs_are_written_in_their_format(tmp_path: Path) -> None:
    """Text is compressed and says how; a table says what it is; a header stands first, once; others are as ever."""
    answers, out = b"1\n2\n", ObjectRef("shop", "out/t.out")
    for job, kept, headers in (
        (spec(), False, {}),
        (spec(output_compression="gzip"), False, {"content-encoding": "gzip"}),
        (spec(output_compression="gzip"), True, {"content-encoding": "gzip"}),
        (
            spec(output_compression="zstd", output_format="parquet"),
            True,
            {"content-type": "application/vnd.apache.parquet"},
        ),
    ):
        job = replace(job, environment={**job.environment, "MILLRACE_OUTPUT_COLUMNS": "score"})
        formats = JobFormats(job)
        objects = MemoryObjects()
        ref = objects.add("s3://shop/in/t", b"")
        writer = await formats.open_writer(
            partial(objects.open_writer, out),
            objects=objects,
            ref=ref,
            header=None,
            text=FileText(tmp_path / "kept") if kept else None,
        )
        await writer.write(answers)
        await writer.commit()
        data = objects.data(str(out))
        assert formats.output_headers() == headers
        assert formats.converts is bool(headers)
        if formats.writes_tables:
            assert read(data, TableForm.PARQUET).to_pydict() == {"score": [1, 2]}
        else:
            plain = gzip.decompress(data) if formats.converts else data
            assert plain == b"score\n" + answers


async def made(job: TransformSpec, answers: bytes, header: bytes | None = None) -> pa.Table:
    """Return the table that becomes of an object's rows."""
    formats = JobFormats(job)
    line = formats.header()
    if line is not None and header is not None:
        line.read(header)
    objects = MemoryObjects()
    ref = objects.add("s3://shop/in/t", parquet(TABLE))
    assert formats.writes_tables
    data = await joined(formats.table(rows(answers), objects=objects, ref=ref, header=line))
    return read(data, TableForm(job.environment["MILLRACE_OUTPUT_FORMAT"]))


async def test_outputs_become_tables() -> None:
    """By themselves, with the columns of a header, or beside those of the input's table."""
    found = await made(spec(output_format="arrow", output_columns="s:float"), b"1\n2\n")
    assert found.to_pydict() == {"s": [1, 2]}
    job = spec(joins=True, csv_header="skip", output_format="parquet")
    found = await made(job, b"7,u,0.5\n8,v,1\n", b"id,name\n")
    assert found.to_pydict() == {"id": [7, 8], "name": ["u", "v"], "SageMakerOutput": [0.5, 1]}
    job = spec(joins=True, input_format="parquet", input_columns="x", output_format="arrow", output_columns="s")
    found = await made(job, b"1\n2\n")
    assert found.to_pydict() == {**TABLE.to_pydict(), "s": [1, 2]}
    found = await made(spec("application/jsonlines", output_format="parquet"), b'{"a":1}\n')
    assert found.to_pydict() == {"a": [1]}


def test_objects_have_their_own_headers() -> None:
    """A header is new for each object."""
    formats = JobFormats(spec(csv_header="skip"))
    assert formats.header() is not formats.header()
