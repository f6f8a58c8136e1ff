"""Jobs that forgive: bad records are found by halving, left out or replaced, and told of."""

import asyncio
import base64
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from tests.acceptance.transform_rig import ECHO, ONE, Result, checkpoints_of, job, model, run_job, status
from tests.framed import recordio, tfrecord

from millrace.dataplane import EffectiveSettings, Limits
from millrace.dataplane.limits import Budget
from millrace.dataplane.widening import HELD_BYTES
from millrace.jobs.transform import (
    AssembleWith,
    BatchStrategy,
    Compression,
    DataProcessing,
    JoinSource,
    SplitType,
    transform_failure_reason,
)
from millrace.jobs.transform_options import job_options
from millrace.names import ObjectRef
from millrace.testing.journal import MemoryJournals
from millrace.testing.model_server import CLOSE, Behaviour, ModelReply, ModelRequest, ModelServer
from millrace.testing.objects import MemoryObjects

LINES = {"split": SplitType.LINE, "max_concurrent_transforms": 3, "invocation_max_retries": 0}
QUARANTINE = {"environment": {"MILLRACE_ON_ERROR": "quarantine"}}
SKIP = {"environment": {"MILLRACE_ON_ERROR": "skip"}}
REFUSES_BAD = status(400, "no such number", only=b"BAD")
JSON_LINES = {"content_type": "application/jsonlines", "accept": "application/jsonlines"}


def rows(*bad: int, count: int = 40) -> list[bytes]:
    """Return records of different lengths, of which those with these numbers (from 1) are bad."""
    return [b"BAD%d\n" % n if n in bad else b"%d,%s\n" % (n, b"x" * (n % 7)) for n in range(1, count + 1)]


def errors(result: Result) -> list[dict[str, Any]]:
    """Return what was told of the bad records of in/a.csv."""
    return [json.loads(line) for line in result.objects.data("s3://b/out/a.csv.errors.jsonl").splitlines()]


@pytest.mark.parametrize("strategy", list(BatchStrategy))
@pytest.mark.parametrize("bad", [(), (1,), (40,), (7, 8), (1, 20, 40), tuple(range(1, 41))])
async def test_only_bad_records_are_quarantined(strategy: BatchStrategy, bad: tuple[int, ...]) -> None:
    """All other records have their results in order; each bad one is told with its place, text, status and answer."""
    data = rows(*bad)
    spec = job(**LINES, **QUARANTINE, strategy=strategy)
    result = await run_job(spec, REFUSES_BAD, b"".join(data))
    assert result.output == b"".join(line for n, line in enumerate(data, 1) if n not in bad)
    progress = result.outcome.progress
    assert (progress.records, progress.records_failed) == (40 - len(bad), len(bad))
    assert not result.failed
    if not bad:
        assert result.objects.keys("b", "out/") == ["out/a.csv.out"]
        return
    assert errors(result) == [
        {
            "record": n,
            "offset": len(b"".join(data[: n - 1])),
            "size": len(data[n - 1]),
            "input": data[n - 1].decode(),
            "error": "ClientError: HTTP status 400 received from algorithm",
            "status": 400,
            "answer": "no such number",
        }
        for n in bad
    ]


@pytest.mark.parametrize("strategy", list(BatchStrategy))
@pytest.mark.parametrize(
    ("assemble", "ends_lines"), [(AssembleWith.LINE, True), (AssembleWith.LINE, False), (AssembleWith.NONE, True)]
)
async def test_skipped_records_leave_a_line(strategy: BatchStrategy, assemble: AssembleWith, ends_lines: bool) -> None:
    """With skip, lines of input and output match: an empty line stands for a bad record, and for nothing else.

    So it is whether the container ends the last line of an answer itself or leaves that to the assembly.
    """
    spec = job(**LINES, **SKIP, strategy=strategy, assemble_with=assemble)
    echo = model(lambda body: body if ends_lines else body.removesuffix(b"\n"))

    async def behave(request: ModelRequest) -> ModelReply:
        return await (REFUSES_BAD if b"BAD" in request.body else echo)(request)

    data = rows(3, 4, 40)
    result = await run_job(spec, behave, b"".join(data))
    expected = [b"\n" if n in (3, 4, 40) else line for n, line in enumerate(data, 1)]
    assert result.output == b"".join(expected)
    assert len(errors(result)) == 3


async def test_no_blank_lines_tell_where_a_payload_was_cut() -> None:
    """What answers to its parts give is what one answer to its good records would have given."""
    spec = job(**LINES, **QUARANTINE, assemble_with=AssembleWith.LINE)
    data = rows(3, 20)
    result = await run_job(spec, REFUSES_BAD, b"".join(data))
    assert result.output == b"".join(line for line in data if b"BAD" not in line) + b"\n"


async def test_a_skipped_record_of_json_lines_is_null() -> None:
    """`null` is a line of JSON Lines that no record is."""
    spec = job(**LINES, **SKIP, **JSON_LINES)
    result = await run_job(spec, REFUSES_BAD, b'{"a":1}\n{"BAD":2}\n{"a":3}\n')
    assert result.output == b'{"a":1}\nnull\n{"a":3}\n'


@pytest.mark.parametrize(("policy", "second"), [(QUARANTINE, b""), (SKIP, b'{"SageMakerOutput":null,"a":"BAD"}\n')])
async def test_joins_of_the_rest_stay_right(policy: dict[str, object], second: bytes) -> None:
    """Every good record is joined with its own answer; a skipped one with null."""
    spec = job(
        **LINES,
        **policy,
        **JSON_LINES,
        assemble_with=AssembleWith.LINE,
        processing=DataProcessing(join_source=JoinSource.INPUT),
    )

    async def behave(request: ModelRequest) -> ModelReply:
        return await (REFUSES_BAD if b"BAD" in request.body else ONE)(request)

    result = await run_job(spec, behave, b'{"a":1}\n{"a":"BAD"}\n\n{"a":3}\n')
    first, third = b'{"SageMakerOutput":{"y":1},"a":1}\n', b'{"SageMakerOutput":{"y":1},"a":3}\n'
    assert result.output == first + second + third
    progress = result.outcome.progress
    assert (progress.records, progress.records_failed, progress.records_filtered) == (2, 1, 1)


async def test_a_record_that_no_filter_can_read_is_bad() -> None:
    """Where a record is at fault before it is sent, it alone is quarantined, with the filter's reason."""
    spec = job(**LINES, **QUARANTINE, **JSON_LINES, processing=DataProcessing(input_filter="$.a"))
    result = await run_job(spec, ECHO, b'{"a":1}\nnot json\n{"a":3}\n')
    assert result.output == b"1\n3\n"
    (told,) = errors(result)
    assert (told["record"], told["offset"], told["status"]) == (2, 8, None)
    assert str(told["error"]).startswith("ClientError: Failed to parse line: 'not json' as JSON")


class Fragile:
    """A model that goes down at some records, and says for how many pings it is."""

    def __init__(self, at: bytes, *, pings: float, times: float = 1) -> None:
        self._at, self._pings, self._times = at, pings, times
        self._down = 0.0
        self.asked = asyncio.Event()
        """It was asked while it was down whether it is there."""

    async def answer(self, request: ModelRequest) -> ModelReply:
        if request.path != "/invocations":
            return ModelReply(status=404)
        if self._at in request.body and self._times:
            self._times, self._down = self._times - 1, self._pings
            return CLOSE
        return CLOSE if self._down else ModelReply(request.body)

    async def ping(self, request: ModelRequest) -> ModelReply:
        if not self._down:
            return ModelReply()
        self._down -= 1
        self.asked.set()
        return CLOSE


@pytest.mark.parametrize("strategy", list(BatchStrategy))
async def test_no_record_is_bad_since_the_container_was_down(strategy: BatchStrategy) -> None:
    """Those that were sent before it was back are sent again, though no retries are allowed."""
    fragile = Fragile(b"20,", pings=3)
    spec = job(**LINES, **QUARANTINE, strategy=strategy)
    result = await run_job(spec, fragile.answer, b"".join(rows()), ping=fragile.ping)
    assert result.output == b"".join(rows())
    assert result.objects.keys("b", "out/") == ["out/a.csv.out"]


@pytest.mark.parametrize("pings", [0, 2])
async def test_a_record_that_takes_the_container_down_again_is_bad(pings: int) -> None:
    """It alone is quarantined, whether the container is back before anybody could ask for it or later."""
    fragile = Fragile(b"BAD", pings=pings, times=float("inf"))
    spec = job(split=SplitType.LINE, invocation_max_retries=0, **QUARANTINE, strategy=BatchStrategy.SINGLE_RECORD)
    result = await run_job(spec, fragile.answer, b"".join(rows(20)), ping=fragile.ping)
    assert result.output == b"".join(rows(20)).replace(rows(20)[19], b"")
    assert [(told["record"], told["status"]) for told in errors(result)] == [(20, None)]


async def test_what_is_in_doubt_when_a_run_is_stopped_is_not_bad() -> None:
    """An agent whose container has ended stops the run: no record is told to be bad that nobody could answer."""
    fragile, stop = Fragile(b"20,", pings=float("inf")), asyncio.Event()

    async def stop_once_it_is_asked(server: ModelServer) -> None:
        await fragile.asked.wait()
        stop.set()

    spec = job(**LINES, **QUARANTINE, strategy=BatchStrategy.SINGLE_RECORD)
    result = await run_job(
        spec, fragile.answer, b"".join(rows()), ping=fragile.ping, stop=stop, driver=stop_once_it_is_asked
    )
    assert result.outcome.stopped
    assert result.outcome.progress.records_failed == 0


async def test_a_container_that_does_not_come_back_is_not_waited_for_at_each_record() -> None:
    """Once it was waited for in vain, records without an answer are bad at once, as they are where it is there."""
    fragile = Fragile(b"20,", pings=float("inf"))
    spec = job(**LINES, **QUARANTINE, strategy=BatchStrategy.SINGLE_RECORD)
    limits = Limits(recovery_seconds=0.0)
    result = await run_job(spec, fragile.answer, b"".join(rows()), ping=fragile.ping, limits=limits)
    assert {told["error"] for told in errors(result)} == {
        "AlgorithmError: Unable to get response from algorithm: the server closed the connection"
    }
    assert 21 <= len(errors(result)) <= 23


async def test_an_answer_with_a_row_too_few_is_found_by_halving() -> None:
    """Under a join a wrong count of rows is the fault of one record, and is told of that one."""
    spec = job(
        **LINES,
        **QUARANTINE,
        content_type="text/csv",
        accept="text/csv",
        assemble_with=AssembleWith.LINE,
        processing=DataProcessing(join_source=JoinSource.INPUT),
    )
    drops = model(lambda body: b"".join(line for line in body.splitlines(keepends=True) if b"gone" not in line))
    result = await run_job(spec, drops, b"1\n2\ngone\n4\n5\n")
    assert result.output == b"1,1\n2,2\n4,4\n5,5\n"
    (told,) = errors(result)
    assert told["record"] == 3
    assert "mismatched line count" in str(told["error"])


async def test_strict_counts_refuse_an_answer_with_another_number_of_rows() -> None:
    """Without a join rows need not match records; with MILLRACE_STRICT_COUNTS they must."""
    drops = model(lambda body: body.replace(b"2\n", b""))
    loose = await run_job(job(**LINES, accept="text/csv"), drops, b"1\n2\n3\n")
    assert loose.output == b"1\n3\n"
    strict = await run_job(
        job(**LINES, accept="text/csv", environment={"MILLRACE_STRICT_COUNTS": "true"}), drops, b"1\n2\n3\n"
    )
    assert "3 sent, 2 rows" in strict.reason
    kind = {"MILLRACE_STRICT_COUNTS": "true", "MILLRACE_ON_ERROR": "quarantine"}
    both = await run_job(job(**LINES, accept="text/csv", environment=kind), drops, b"1\n2\n3\n")
    assert both.output == b"1\n3\n"
    assert [told["record"] for told in errors(both)] == [2]


async def test_more_bad_records_than_allowed_fail_the_object() -> None:
    """The job ends with the limit and the last bad record in its reason, and begins no further object."""
    kind = {"MILLRACE_ON_ERROR": "quarantine", "MILLRACE_MAX_FAILED_RECORDS": "2"}
    inputs = {f"in/{n}.csv": b"".join(rows(1, 2, 3)) for n in range(5)}
    spec = job(**LINES, environment=kind, strategy=BatchStrategy.SINGLE_RECORD)
    result = await run_job(spec, REFUSES_BAD, inputs, limits=Limits(objects_open=1))
    assert "More than 2 records failed (MILLRACE_MAX_FAILED_RECORDS)" in result.reason
    assert result.objects.keys("b", "out/") == []


@pytest.mark.parametrize(("code", "label"), [(400, "ClientError"), (500, "AlgorithmError")])
async def test_too_large_a_share_of_bad_records_is_told_as_they_are(code: int, label: str) -> None:
    """Records that the container refuses are the client's fault, those that it breaks down at are not."""
    kind = {"MILLRACE_ON_ERROR": "quarantine", "MILLRACE_MAX_FAILED_RECORDS": "5%"}
    spec = job(**LINES, environment=kind, strategy=BatchStrategy.SINGLE_RECORD)
    behaviour = status(code, "no", only=b"BAD")
    result = await run_job(spec, behaviour, b"".join(rows(1, 2, 3)))
    allowed = job_options(kind).failures_allowed
    told = f"{label}: See job logs for more information. 3 of 40 records failed, more than 5%"
    assert (transform_failure_reason([result.outcome], allowed) or "").startswith(told)
    assert transform_failure_reason([result.outcome]) is None


async def test_a_whole_object_that_is_bad_has_no_output() -> None:
    """Without a split the object is the record: it is told of in its object of errors, others have their outputs."""
    spec = job(**QUARANTINE, invocation_max_retries=0)
    result = await run_job(spec, REFUSES_BAD, {"in/a.csv": b"BAD", "in/b.csv": b"good"})
    assert not result.failed
    assert result.objects.keys("b", "out/") == ["out/a.csv.errors.jsonl", "out/b.csv.out"]
    assert errors(result)[0]["input"] == "BAD"


@pytest.mark.parametrize("on_error", ["quarantine", "skip"])
async def test_a_whole_object_that_is_bad_is_not_asked_for_again(on_error: str) -> None:
    """Who takes the work up knows a quarantined object by what tells of it, and counts it as before."""
    spec = job(environment={"MILLRACE_ON_ERROR": on_error}, invocation_max_retries=0)
    journals, objects = MemoryJournals(), MemoryObjects()
    results = []
    for attempt in (1, 2):
        checkpoints = await checkpoints_of(journals, attempt)
        inputs = {"in/a.csv": b"BAD", "in/b.csv": b"good"} if attempt == 1 else {}
        results.append(await run_job(spec, REFUSES_BAD, inputs, objects=objects, checkpoints=checkpoints))
    first, second = (result.outcome.progress for result in results)
    assert (first.requests, second.requests) == (2, 0)
    assert (second.records, second.records_failed, second.objects_done) == (1, 1, 2)
    assert second.bytes_in == first.bytes_in
    assert [entry.ref.key for entry in results[1].committed] == ["in/a.csv", "in/b.csv"]


async def test_what_tells_of_bad_records_alone_finishes_no_object_of_many() -> None:
    """Of an object that is split, the output is what shows that it is done."""
    journals, objects = MemoryJournals(), MemoryObjects()
    spec = job(**LINES, **QUARANTINE)
    results = []
    for attempt in (1, 2):
        checkpoints = await checkpoints_of(journals, attempt, pause_seconds=1e9)
        data: dict[str, bytes] = {"in/a.csv": b"BAD\n"} if attempt == 1 else {}
        results.append(await run_job(spec, REFUSES_BAD, data, objects=objects, checkpoints=checkpoints))
        await objects.delete(ObjectRef("b", "out/a.csv.out"))
    assert [result.outcome.progress.requests for result in results] == [1, 1]


TWICE = model(lambda body: b"".join(b"%b,y\n" % line for line in body.splitlines()))
CSV_JOIN: dict[str, Any] = {
    "content_type": "text/csv",
    "accept": "text/csv",
    "assemble_with": AssembleWith.LINE,
    "processing": DataProcessing(join_source=JoinSource.INPUT),
}


async def twice_but_bad(request: ModelRequest) -> ModelReply:
    """Answer two columns for each record, and refuse bad ones."""
    return await (REFUSES_BAD if b"BAD" in request.body else TWICE)(request)


@pytest.mark.parametrize("strategy", list(BatchStrategy))
@pytest.mark.parametrize("bad", [(0,), (0, 1, 2, 3), (5,), (0, 19), (18, 19)], ids=str)
@pytest.mark.parametrize("output_filter", ["$", "$[0,-1]", "$[0,2]"])
async def test_skipped_rows_of_a_join_are_as_wide_as_others(
    strategy: BatchStrategy, bad: tuple[int, ...], output_filter: str
) -> None:
    """However many columns answers have, and wherever bad records stand, all rows of the output have as many."""
    data = [b"BAD%d\n" % n if n in bad else b"%d\n" % n for n in range(20)]
    joined = DataProcessing(join_source=JoinSource.INPUT, output_filter=output_filter)
    spec = job(**{**LINES, **SKIP, **CSV_JOIN, "processing": joined}, strategy=strategy)
    effective = EffectiveSettings(max_concurrent_transforms=3, max_payload_bytes=12, strategy=strategy)
    result = await run_job(spec, twice_but_bad, b"".join(data), effective=effective)
    chosen = {"$": (0, 1, 2), "$[0,-1]": (0, 2), "$[0,2]": (0, 2)}[output_filter]
    expected = []
    for n, line in enumerate(data):
        fields = [line[:-1], b"" if n in bad else b"%d" % n, b"" if n in bad else b"y"]
        expected.append(b",".join(fields[at] for at in chosen) + b"\n")
    assert result.output == b"".join(expected)
    assert [told["record"] for told in errors(result)] == [n + 1 for n in bad]


async def test_rows_of_an_object_without_answers_have_one_empty_field() -> None:
    """Where nothing is answered, nobody knows how many columns an answer would have had, unless they are named."""
    result = await run_job(job(**LINES, **SKIP, **CSV_JOIN), twice_but_bad, b"BAD1\nBAD2\n")
    assert result.output == b"BAD1,\nBAD2,\n"
    named = {"MILLRACE_ON_ERROR": "skip", "MILLRACE_OUTPUT_COLUMNS": "p,q", "MILLRACE_CSV_HEADER": "skip"}
    result = await run_job(job(**LINES, **CSV_JOIN, environment=named), twice_but_bad, b"id\nBAD1\nBAD2\n")
    assert result.output == b"id,p,q\nBAD1,,\nBAD2,,\n"


async def test_rows_wait_for_an_answer_within_a_bound() -> None:
    """Bad records before the first answer are held back up to HELD_BYTES of them; more find no answer to be as wide."""
    text = b"x" * 10_000
    data = [b"BAD%d,%s\n" % (n, text) for n in range(120)] + [b"1,z\n", b"BAD,z\n"]
    spec = job(**LINES, **SKIP, **CSV_JOIN, strategy=BatchStrategy.SINGLE_RECORD)
    result = await run_job(
        spec,
        twice_but_bad,
        b"".join(data),
        effective=EffectiveSettings(
            max_concurrent_transforms=1, max_payload_bytes=20_000, strategy=BatchStrategy.SINGLE_RECORD
        ),
        limits=Limits(inflight_bytes=100_000, write_bytes=1000),
        objects=MemoryObjects(chunk_bytes=20_000),
    )
    lines = result.output.splitlines()
    assert len(lines) == 122
    assert lines[-2:] == [b"1,z,1,z,y", b"BAD,z,,,"]
    widths = [line.count(b",") for line in lines[:-2]]
    assert widths == sorted(widths)
    assert (widths[0], widths[-1]) == (2, 4)
    assert widths.count(2) * 2 * 10_020 > HELD_BYTES


async def test_parts_know_how_wide_answers_are() -> None:
    """Who goes on with an object of which only bad records are left writes rows as wide as those before."""
    journals, objects = MemoryJournals(), MemoryObjects()
    spec = job(**LINES, **SKIP, **CSV_JOIN, strategy=BatchStrategy.SINGLE_RECORD)
    stop = asyncio.Event()
    asked = 0

    async def dying(request: ModelRequest) -> ModelReply:
        nonlocal asked
        if request.path == "/invocations":
            asked += 1
            if asked == 4:
                stop.set()
                await asyncio.Event().wait()
        return await twice_but_bad(request)

    for attempt in (1, 2):
        result = await run_job(
            spec,
            dying,
            {"in/a.csv": b"1\n2\n3\nBAD1\nBAD2\n"} if attempt == 1 else {},
            effective=EffectiveSettings(
                max_concurrent_transforms=1, max_payload_bytes=20, strategy=BatchStrategy.SINGLE_RECORD
            ),
            objects=objects,
            checkpoints=await checkpoints_of(journals, attempt),
            stop=stop if attempt == 1 else None,
        )
    assert result.output == b"1,1,y\n2,2,y\n3,3,y\nBAD1,,\nBAD2,,\n"
    assert result.outcome.progress.requests == 2


@pytest.mark.parametrize("first", [b"BAD\n", b"1\n"])
async def test_skipped_rows_of_a_join_become_nulls_of_a_table(first: bytes, tmp_path: Path) -> None:
    """A table made of joined rows has nulls in all columns of the answer that a bad record has not."""
    environment = {
        "MILLRACE_ON_ERROR": "skip",
        "MILLRACE_OUTPUT_FORMAT": "parquet",
        "MILLRACE_CSV_HEADER": "skip",
    }
    spec = job(**LINES, **CSV_JOIN, environment=environment)
    result = await run_job(spec, twice_but_bad, b"id\n" + first + b"2\nBAD\n", scratch=tmp_path)
    assert not result.failed
    table = parquet.read_table(pa.BufferReader(result.output))
    assert table.column_names == ["id", "SageMakerOutput_1", "SageMakerOutput_2"]
    assert table.column("id").to_pylist() == [first.decode().strip(), "2", "BAD"]
    assert table.column("SageMakerOutput_2").to_pylist() == [None if first == b"BAD\n" else "y", "y", None]


@pytest.mark.parametrize("join", list(JoinSource))
async def test_a_row_that_is_not_held_is_a_row_of_nulls_in_a_table(join: JoinSource, tmp_path: Path) -> None:
    """A table has a row for each record, also for one that is too long to be repeated."""
    environment = {"MILLRACE_ON_ERROR": "skip", "MILLRACE_OUTPUT_FORMAT": "parquet"}
    processing = DataProcessing(join_source=join, output_filter="$[0,1]")
    spec = job(**{**LINES, **CSV_JOIN, "processing": processing}, environment=environment)
    result = await run_job(
        spec,
        twice_but_bad,
        b"1\n%b\n3\n" % (b"x" * 50),
        effective=EffectiveSettings(
            max_concurrent_transforms=1, max_payload_bytes=20, strategy=BatchStrategy.MULTI_RECORD
        ),
        scratch=tmp_path,
    )
    table = parquet.read_table(pa.BufferReader(result.output))
    assert table.column(0).to_pylist() == [1, None, 3]


async def test_strict_counts_count_records_of_quoted_csv() -> None:
    """A line feed between quotes ends no row of an answer, as it ends no record."""
    environment = {"MILLRACE_STRICT_COUNTS": "true", "MILLRACE_CSV_RECORDS": "rfc4180"}
    spec = job(**LINES, content_type="text/csv", accept="text/csv", environment=environment)
    data = b'1,"a\nb"\n2,"c\n\nd"\n'
    assert (await run_job(spec, ECHO, data)).output == data
    drops = model(lambda body: body.replace(b'2,"c\n\nd"\n', b""))
    assert "2 sent, 1 rows" in (await run_job(spec, drops, data)).reason


async def test_bytes_that_are_no_text_are_told_in_base64() -> None:
    """What is told of a bad record is JSON whatever the record is."""
    result = await run_job(job(**LINES, **QUARANTINE), status(500, only=b"\xff"), b"a\n\xff\xfe\nb\n")
    assert result.output == b"a\nb\n"
    assert errors(result)[0]["input_base64"] == "//4K"


async def test_errors_of_an_earlier_run_are_removed() -> None:
    """When nothing is bad any more, nothing is told any more."""
    first = await run_job(job(**LINES, **QUARANTINE), REFUSES_BAD, b"a\nBAD\n")
    assert "out/a.csv.errors.jsonl" in first.objects.keys("b", "out/")
    second = await run_job(job(**LINES, **QUARANTINE), ECHO, b"a\nb\n", objects=first.objects)
    assert second.objects.keys("b", "out/") == ["out/a.csv.out"]


@pytest.mark.parametrize("split", [SplitType.RECORDIO, SplitType.TFRECORD])
async def test_framed_records_are_isolated_too(split: SplitType) -> None:
    """Payloads of framed records are cut between frames."""
    behave: Behaviour = status(400, only=b"BAD")
    records = [b"one", b"BAD", b"three", b"four"]
    spec = job(**{**LINES, "split": split}, **QUARANTINE)
    framed = recordio if split is SplitType.RECORDIO else tfrecord
    result = await run_job(spec, behave, b"".join(map(framed, records)))
    assert result.output == b"".join(map(framed, (b"one", b"three", b"four")))
    assert [told["record"] for told in errors(result)] == [2]


@pytest.mark.parametrize("strategy", list(BatchStrategy))
@pytest.mark.parametrize("framed", [recordio, tfrecord])
async def test_places_of_framed_records_are_those_in_the_object(
    framed: Callable[[bytes], bytes], strategy: BatchStrategy
) -> None:
    """Offset and size cut a bad record out of the object, framing and all, whichever way it was sent."""
    split = SplitType.RECORDIO if framed is recordio else SplitType.TFRECORD
    data = b"".join(map(framed, (b"one", b"BAD\xff!", b"three")))
    spec = job(**{**LINES, "split": split}, **QUARANTINE, strategy=strategy)
    (told,) = errors(await run_job(spec, status(400, only=b"BAD"), data))
    assert data[told["offset"] : told["offset"] + told["size"]] == framed(b"BAD\xff!")
    sent = framed(b"BAD\xff!") if strategy is BatchStrategy.MULTI_RECORD else b"BAD\xff!"
    assert base64.b64decode(told["input_base64"]) == sent


@pytest.mark.parametrize("accept", [None, "application/jsonlines"])
@pytest.mark.parametrize(("assemble", "left"), [(AssembleWith.NONE, b""), (AssembleWith.LINE, b"\n")])
async def test_a_skipped_object_that_is_one_record_is_empty(
    accept: str | None, assemble: AssembleWith, left: bytes
) -> None:
    """Where nothing is split there are no lines to match: the output holds nothing of ours but AssembleWith's line."""
    spec = job(max_concurrent_transforms=1, accept=accept, assemble_with=assemble, **SKIP)
    result = await run_job(spec, REFUSES_BAD, b"BAD")
    assert result.output == left
    assert [told["record"] for told in errors(result)] == [1]


@pytest.mark.parametrize("on_error", ["skip", "quarantine"])
async def test_an_object_fails_though_earlier_records_are_bad(on_error: str) -> None:
    """A record that does not end fails its object, also if requests before it turn out bad after that."""
    arrived = asyncio.Event()

    async def refuse(request: ModelRequest) -> ModelReply:
        if request.path != "/invocations":
            return ModelReply(status=404)
        await arrived.wait()
        return ModelReply(b"no", status=400)

    async def wait_for_both(server: ModelServer) -> None:
        await server.received(2)
        arrived.set()

    result = await run_job(
        job(
            split=SplitType.LINE,
            strategy=BatchStrategy.MULTI_RECORD,
            content_type="text/csv",
            environment={"MILLRACE_ON_ERROR": on_error, "MILLRACE_CSV_RECORDS": "rfc4180"},
        ),
        refuse,
        b"a\n" * 5 + b"b\n" * 5 + b'"c',
        effective=EffectiveSettings(
            max_concurrent_transforms=4, max_payload_bytes=10, strategy=BatchStrategy.MULTI_RECORD
        ),
        driver=wait_for_both,
    )
    [told] = result.outcome.failures
    assert (told.record, told.offset) == (11, 20)
    assert told.message == "a quoted field of this record of CSV has no closing quote"


KINDS: dict[str, tuple[dict[str, Any], Callable[[int], bytes]]] = {
    "lines": ({}, lambda n: b"%d,%s\n" % (n, b"x" * (n % 7))),
    "quoted": (
        {"content_type": "text/csv", "accept": "text/csv", "environment": {"MILLRACE_CSV_RECORDS": "rfc4180"}},
        lambda n: b'%d,"%s"\n' % (n, b"x\n" * (n % 4)),
    ),
    "recordio": ({"split": SplitType.RECORDIO}, lambda n: recordio(b"%d,%s" % (n, b"x" * (n % 7)))),
    "tfrecord": ({"split": SplitType.TFRECORD}, lambda n: tfrecord(b"%d,%s" % (n, b"x" * (n % 7)))),
}
LONG: dict[str, Callable[[int], bytes]] = {
    "lines": lambda size: b"y" * size + b"\n",
    "quoted": lambda size: b'"' + b"y\n" * size + b'"\n',
    "recordio": lambda size: recordio(b"y" * size),
    "tfrecord": lambda size: tfrecord(b"y" * size),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strategy", list(BatchStrategy))
@pytest.mark.parametrize("chunk_bytes", [7, 64, 1024 * 1024])
@pytest.mark.parametrize("at", [(0,), (20,), (39,), (3, 4, 30)], ids=str)
async def test_a_record_longer_than_a_payload_is_bad(
    kind: str, strategy: BatchStrategy, chunk_bytes: int, at: tuple[int, ...]
) -> None:
    """It alone is told, with its place and size; all others have their results in order."""
    settings, make = KINDS[kind]
    data = [LONG[kind](300 + n) if n in at else make(n) for n in range(40)]
    environment = {"MILLRACE_ON_ERROR": "quarantine", **settings.get("environment", {})}
    spec = job(**{**LINES, **settings, "environment": environment}, strategy=strategy)
    result = await run_job(
        spec,
        ECHO,
        b"".join(data),
        effective=EffectiveSettings(max_concurrent_transforms=3, max_payload_bytes=60, strategy=strategy),
        limits=Limits(chunk_bytes=chunk_bytes, inflight_bytes=2000, write_bytes=32, tick_seconds=0.001),
        objects=MemoryObjects(chunk_bytes=chunk_bytes),
    )
    assert not result.failed
    bodies = (line for n, line in enumerate(data) if n not in at)
    if kind in ("recordio", "tfrecord") and strategy is BatchStrategy.SINGLE_RECORD:
        bodies = (b"%d,%s" % (n, b"x" * (n % 7)) for n in range(40) if n not in at)
    assert result.output == b"".join(bodies)
    progress = result.outcome.progress
    assert (progress.records, progress.records_failed) == (40 - len(at), len(at))
    assert [(it["record"], it["offset"], it["size"]) for it in errors(result)] == [
        (n + 1, len(b"".join(data[:n])), len(data[n])) for n in at
    ]
    assert {it["error"] for it in errors(result)} == {
        "ClientError: Too much data for max payload size: it must be at most 60 bytes"
    }


@pytest.mark.parametrize("kind", ["lines", "quoted", "tfrecord"])
async def test_of_a_long_record_a_bounded_beginning_is_held_and_told(kind: str) -> None:
    """Memory does not grow with the record: room is given back for all but the first MiB, which is what is told."""
    settings, make = KINDS[kind]
    long = LONG[kind](5_000_000)
    environment = {"MILLRACE_ON_ERROR": "skip", **settings.get("environment", {})}
    spec = job(**{**LINES, **settings, "environment": environment}, strategy=BatchStrategy.MULTI_RECORD)
    held: list[int] = []

    class Watched(Budget):
        def take(self, size: int) -> None:
            super().take(size)
            held.append(self.held)

    result = await run_job(
        spec,
        ECHO,
        make(1) + long + make(2),
        effective=EffectiveSettings(
            max_concurrent_transforms=1, max_payload_bytes=100_000, strategy=BatchStrategy.MULTI_RECORD
        ),
        limits=Limits(chunk_bytes=65536, inflight_bytes=400_000),
        objects=MemoryObjects(chunk_bytes=65536),
        budget=Watched(400_000),
    )
    assert result.output == make(1) + b"\n" + make(2)
    (told,) = errors(result)
    assert told["size"] == len(long)
    shown = told["input"].encode() if "input" in told else base64.b64decode(told["input_base64"])
    assert shown == long[: 1024 * 1024]
    assert max(held) < 1024 * 1024 + 400_000


@pytest.mark.parametrize("strategy", list(BatchStrategy))
async def test_a_long_record_may_end_its_object_without_a_line_feed(strategy: BatchStrategy) -> None:
    """The last line may lack its line feed, however long it is."""
    effective = EffectiveSettings(max_concurrent_transforms=1, max_payload_bytes=10, strategy=strategy)
    spec = job(**LINES, **SKIP, strategy=strategy)
    objects = MemoryObjects(chunk_bytes=8)
    result = await run_job(spec, ECHO, b"a\n" + b"b" * 30, effective=effective, objects=objects)
    assert result.output == b"a\n\n"
    assert [(it["record"], it["size"]) for it in errors(result)] == [(2, 30)]


async def test_damage_within_a_long_frame_fails_its_object() -> None:
    """Where a frame ends nobody knows once it is damaged, so nothing behind it can be told from it."""
    data = tfrecord(b"a") + tfrecord(b"b" * 300)[:-1] + b"?" + tfrecord(b"c")
    effective = EffectiveSettings(
        max_concurrent_transforms=1, max_payload_bytes=100, strategy=BatchStrategy.MULTI_RECORD
    )
    spec = job(**{**LINES, "split": SplitType.TFRECORD}, **QUARANTINE)
    result = await run_job(spec, ECHO, data, effective=effective, objects=MemoryObjects(chunk_bytes=64))
    assert "record 2 at byte 17" in result.reason
    assert "Failed to split the object as TFRecord" in result.reason


async def test_a_placeholder_repeats_no_record_that_is_not_held() -> None:
    """In a join a row of nothing but null stands for a record that is too long."""
    spec = job(
        **LINES,
        **SKIP,
        **JSON_LINES,
        assemble_with=AssembleWith.LINE,
        processing=DataProcessing(join_source=JoinSource.INPUT),
    )
    effective = EffectiveSettings(
        max_concurrent_transforms=1, max_payload_bytes=20, strategy=BatchStrategy.MULTI_RECORD
    )
    result = await run_job(spec, ONE, b'{"a":1}\n{"a":"%s"}\n{"a":3}\n' % (b"x" * 40), effective=effective)
    first, third = b'{"SageMakerOutput":{"y":1},"a":1}\n', b'{"SageMakerOutput":{"y":1},"a":3}\n'
    assert result.output == first + b"null\n" + third


@pytest.mark.parametrize("stored", [True, False])
async def test_a_whole_object_that_is_too_large_is_bad(stored: bool) -> None:
    """Without a split the object is the record: one that is too large has no output, and is told of."""
    large = b"x" * 3_000_000
    compression = Compression.NONE if stored else Compression.GZIP
    spec = job(**QUARANTINE, compression=compression)
    pack = bytes if stored else gzip.compress
    effective = EffectiveSettings(
        max_concurrent_transforms=1, max_payload_bytes=100_000, strategy=BatchStrategy.MULTI_RECORD
    )
    objects = {"in/a.csv": pack(large), "in/b.csv": pack(b"small")}
    result = await run_job(spec, ECHO, objects, effective=effective)
    assert not result.failed
    assert result.objects.keys("b", "out/") == ["out/a.csv.errors.jsonl", "out/b.csv.out"]
    (told,) = errors(result)
    assert (told["record"], told["offset"], told["size"]) == (1, 0, len(large))
    assert told["input"] == "x" * 1024 * 1024
    assert result.outcome.progress.bytes_in == sum(map(len, objects.values()))


@pytest.mark.parametrize(("limit", "allowed"), [(100, "100 bytes"), (0, "any number of bytes")])
async def test_a_payload_that_a_server_has_no_room_for_is_told_with_its_length(limit: int, allowed: str) -> None:
    """Servers in images have limits of their own: the reason tells what was sent, and the job's limit."""
    spec = job(split=SplitType.LINE, strategy=BatchStrategy.SINGLE_RECORD)
    settled = EffectiveSettings(
        max_concurrent_transforms=1, max_payload_bytes=limit, strategy=BatchStrategy.SINGLE_RECORD
    )
    result = await run_job(spec, status(413, "big"), b"12345678\n", effective=settled)
    assert (
        "HTTP status 413 received from algorithm: its server takes less than the 9 bytes that were sent "
        f"(MaxPayloadInMB allows {allowed}): big"
    ) in result.reason
