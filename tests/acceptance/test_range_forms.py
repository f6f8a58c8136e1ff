"""Ranges of every form of records: of framed ones, of CSV between quotes, of tables, and with compressed outputs."""

import asyncio
import gzip
import io
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.ipc as ipc
import pytest
from backports import zstd
from tests.acceptance.range_rig import OUTPUT, Deaths, Rig, lines, refuse_bad, totals
from tests.acceptance.transform_rig import Result
from tests.framed import recordio, tfrecord
from tests.unit.dataplane.formats.tables import parquet

from millrace.errors import LeaseLost
from millrace.jobs.transform import BatchStrategy, SplitType, transform_failure_reason
from millrace.jobs.transform_options import JobOptions, OnError

ROWS = 90
CSV = {"content_type": "text/csv", "accept": "text/csv"}


def frames(frame: Callable[[bytes], bytes]) -> bytes:
    """Return records of many lengths, of which some hold frames: looking for one from within finds these."""
    nested = frame(frame(b"n" * 6) + frame(b"n"))
    return b"".join(frame(b"%d" % n + b"y" * (n * 7 % 23)) + (nested if n % 5 == 0 else b"") for n in range(ROWS))


def quoted() -> bytes:
    """Return CSV with a header whose fields hold line feeds, quotes and commas between quotes."""
    rows = [b'%d,"%s","a ""b"",\n"\n' % (n, b"y\n" * (n % 4)) if n % 3 else b"%d,y,z\n" % n for n in range(ROWS)]
    return b'id,"na\nme",c\n' + b"".join(rows)


TABLE = pa.table({"id": range(ROWS), "s": [f"y\n{n}" * (n % 5) for n in range(ROWS)]})


def arrow_stream(table: pa.Table, rows: int) -> bytes:
    """Return a table as an IPC stream."""
    sink = io.BytesIO()
    with ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)
    return sink.getvalue()


def arrow_file(table: pa.Table, rows: int) -> bytes:
    """Return a table as an IPC file."""
    sink = io.BytesIO()
    with ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)
    return sink.getvalue()


FORMS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "recordio": (frames(recordio), {"split": SplitType.RECORDIO}),
    "recordio of several parts": (
        b"".join(recordio(b"12\x0a\x23\xd7\xce" * 2 + b"%d" % n) for n in range(ROWS)),
        {"split": SplitType.RECORDIO},
    ),
    "tfrecord": (frames(tfrecord), {"split": SplitType.TFRECORD}),
    "quoted": (quoted(), {**CSV, "environment": {"MILLRACE_CSV_RECORDS": "rfc4180"}}),
    "quoted behind a header": (
        quoted(),
        {**CSV, "environment": {"MILLRACE_CSV_RECORDS": "rfc4180", "MILLRACE_CSV_HEADER": "skip"}},
    ),
    "parquet": (parquet(TABLE, group=7), {**CSV, "environment": {"MILLRACE_INPUT_FORMAT": "parquet"}}),
    "arrow file": (arrow_file(TABLE, 7), {**CSV, "environment": {"MILLRACE_INPUT_FORMAT": "arrow"}}),
    "arrow stream": (arrow_stream(TABLE, 7), {**CSV, "environment": {"MILLRACE_INPUT_FORMAT": "arrow"}}),
    "named columns": (
        parquet(TABLE, group=4),
        {**CSV, "environment": {"MILLRACE_INPUT_FORMAT": "parquet", "MILLRACE_OUTPUT_COLUMNS": "number,text"}},
    ),
}


def rig(name: str, *, strategy: BatchStrategy = BatchStrategy.SINGLE_RECORD, pieces: int = 7, **more: Any) -> Rig:
    """Return a job of three instances over one object of a form, cut into about so many ranges; 0 cuts nothing."""
    data, spec = FORMS[name]
    options = JobOptions(range_bytes=-(-len(data) // pieces) if pieces else None, on_error=more.pop("on_error", "fail"))
    made = Rig(strategy=strategy, options=options, max_payload_bytes=100, **{**spec, **more})
    made.objects.add("s3://b/in/a.csv", data)
    return made


async def alone(name: str, **more: Any) -> Result:
    """Run the same job with one instance that cuts nothing."""
    return await rig(name, count=1, pieces=0, **more).run(0)


@pytest.mark.parametrize("strategy", BatchStrategy)
@pytest.mark.parametrize("name", FORMS)
async def test_instances_share_an_object_of_any_form(name: str, strategy: BatchStrategy) -> None:
    """Every record is in one range, whatever stands between its bytes, and the output is that of one instance."""
    expected = await alone(name, strategy=strategy)
    assert not expected.failed
    shared = rig(name, strategy=strategy)
    results = await asyncio.gather(*(shared.run(index) for index in range(3)))
    assert shared.objects.data(OUTPUT) == expected.output
    assert totals(results) == totals([expected])
    assert all(result.outcome.progress.requests for result in results), "all of them work"
    size = len(FORMS[name][0])
    assert sum(result.outcome.progress.bytes_in for result in results) == size
    assert sum(result.outcome.progress.bytes_total for result in results) == size
    assert not shared.objects.drafts.kept


@pytest.mark.parametrize("pieces", [2, 3, 20, 300])
@pytest.mark.parametrize("name", FORMS)
async def test_ranges_may_have_any_length(name: str, pieces: int) -> None:
    """Also one that is shorter than a record, or than a row group."""
    expected = await alone(name)
    shared = rig(name, pieces=pieces)
    for index in (2, 0, 1):
        await shared.run(index)
    assert shared.objects.data(OUTPUT) == expected.output


async def test_a_header_of_several_lines_is_repeated() -> None:
    """Each request of each range begins with it."""
    environment = {"MILLRACE_CSV_RECORDS": "rfc4180", "MILLRACE_CSV_HEADER": "repeat"}
    shared = rig("quoted", environment=environment)
    results = [await shared.run(index) for index in range(3)]
    bodies = [
        request.body for result in results for request in result.server.requests if request.path == "/invocations"
    ]
    assert len(bodies) == ROWS
    assert all(body.startswith(b'id,"na\nme",c\n') for body in bodies)


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
@pytest.mark.parametrize("data", [lines(80, bad=(11, 60)), b"\n" * 400])
async def test_compressed_outputs_are_joined(codec: str, data: bytes) -> None:
    """Each range gives a part that is complete by itself; together they are one file, the same for any instances."""
    outputs = set()
    for count in (1, 3):
        made = Rig(
            count=count,
            options=JobOptions(range_bytes=100, on_error=OnError.QUARANTINE),
            environment={"MILLRACE_OUTPUT_COMPRESSION": codec},
        )
        made.objects.add("s3://b/in/a.csv", data)
        results = await asyncio.gather(*(made.run(index, refuse_bad) for index in range(count)))
        assert not any(result.failed for result in results)
        outputs.add(made.objects.data(OUTPUT))
        assert not made.objects.drafts.kept
        assert ("out/a.csv.errors.jsonl" in made.objects.keys("b", "out/")) == (b"BAD" in data)
    [output] = outputs
    plain = gzip.decompress(output) if codec == "gzip" else zstd.decompress(output)
    assert plain == b"".join(line for line in data.splitlines(keepends=True) if b"BAD" not in line)


async def test_a_compressed_output_of_nothing_reads_as_empty() -> None:
    """If every record is bad, there is still a file."""
    made = Rig(
        options=JobOptions(range_bytes=40, on_error=OnError.QUARANTINE),
        environment={"MILLRACE_OUTPUT_COMPRESSION": "gzip"},
    )
    made.objects.add("s3://b/in/a.csv", b"BAD\n" * 40)
    for index in range(3):
        await made.run(index, refuse_bad)
    assert gzip.decompress(made.objects.data(OUTPUT)) == b""


@pytest.mark.parametrize("commits", range(1, 10))
async def test_compressed_ranges_survive_a_crash(commits: int) -> None:
    """Whatever was being made visible: the same bytes, every record once, and nothing left over."""
    data = lines(60, bad=(4, 40))
    made = Rig(
        options=JobOptions(range_bytes=200, on_error=OnError.QUARANTINE),
        environment={"MILLRACE_OUTPUT_COMPRESSION": "gzip"},
    )
    made.objects.add("s3://b/in/a.csv", data)
    deaths = Deaths(commits)
    results = []
    for index in range(3):
        try:
            results.append(await made.run(index, refuse_bad, guard=deaths))
        except LeaseLost:
            made.objects.drafts.kill_writers()
            results.append(await made.run(index, refuse_bad))
    good = b"".join(line for line in data.splitlines(keepends=True) if b"BAD" not in line)
    assert gzip.decompress(made.objects.data(OUTPUT)) == good
    assert totals(results) == (1, 1, 0, 58, 2, 0)
    assert not made.objects.drafts.kept


@pytest.mark.parametrize(("frame", "split"), [(recordio, SplitType.RECORDIO), (tfrecord, SplitType.TFRECORD)])
@pytest.mark.parametrize("at", [0, 30, 70])
async def test_a_damaged_frame_is_told_once_and_where_it_is(
    frame: Callable[[bytes], bytes], split: SplitType, at: int
) -> None:
    """By the range that it is in; where records begin behind it nobody can say, and nobody guesses."""
    whole = [frame(b"y" * (n * 7 % 23)) for n in range(ROWS)]
    place = len(b"".join(whole[:at]))
    data = b"".join(whole[:at]) + b"\xff" * 30 + b"".join(whole[at:])
    made = Rig(options=JobOptions(range_bytes=300), split=split)
    made.objects.add("s3://b/in/a.csv", data)
    outcomes = [(await made.run(index)).outcome for index in range(3)]
    assert sum(outcome.failure_count for outcome in outcomes) == 1
    reason = transform_failure_reason(outcomes)
    assert reason is not None
    assert f" at byte {place}: Failed to split the object as {split} at byte {place}: " in reason


async def test_a_framed_object_that_is_cut_off_fails_in_its_last_range() -> None:
    """As it would if it were whole."""
    data = frames(tfrecord)[:-9]
    made = Rig(options=JobOptions(range_bytes=300), split=SplitType.TFRECORD)
    made.objects.add("s3://b/in/a.csv", data)
    outcomes = [(await made.run(index)).outcome for index in range(3)]
    reason = transform_failure_reason(outcomes)
    assert reason is not None
    assert "the object ends after" in reason
