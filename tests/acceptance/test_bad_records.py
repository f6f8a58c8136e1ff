"""Jobs that forgive: bad records are found by halving, left out or replaced, and told of."""

import asyncio
import json

import pytest
from tests.acceptance.transform_rig import ECHO, ONE, Result, job, model, run_job, status
from tests.framed import recordio, tfrecord

from millrace.dataplane import EffectiveSettings, Limits
from millrace.jobs.transform import AssembleWith, BatchStrategy, DataProcessing, JoinSource, SplitType
from millrace.testing.model_server import Behaviour, ModelReply, ModelRequest, ModelServer

LINES = {"split": SplitType.LINE, "max_concurrent_transforms": 3, "invocation_max_retries": 0}
QUARANTINE = {"environment": {"MILLRACE_ON_ERROR": "quarantine"}}
SKIP = {"environment": {"MILLRACE_ON_ERROR": "skip"}}
REFUSES_BAD = status(400, "no such number", only=b"BAD")
JSON_LINES = {"content_type": "application/jsonlines", "accept": "application/jsonlines"}


def rows(*bad: int, count: int = 40) -> list[bytes]:
    """Return records of different lengths, of which those with these numbers (from 1) are bad."""
    return [b"BAD%d\n" % n if n in bad else b"%d,%s\n" % (n, b"x" * (n % 7)) for n in range(1, count + 1)]


def errors(result: Result) -> list[dict[str, object]]:
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
@pytest.mark.parametrize("assemble", list(AssembleWith))
async def test_skipped_records_leave_a_line(strategy: BatchStrategy, assemble: AssembleWith) -> None:
    """With skip, lines of input and output match: an empty line stands for a bad record."""
    spec = job(**LINES, **SKIP, strategy=strategy, assemble_with=assemble)
    echo = model(lambda body: body.removesuffix(b"\n") if assemble is AssembleWith.LINE else body)

    async def behave(request: ModelRequest) -> ModelReply:
        return await (REFUSES_BAD if b"BAD" in request.body else echo)(request)

    data = rows(3, 4, 40)
    result = await run_job(spec, behave, b"".join(data))
    expected = [b"\n" if n in (3, 4, 40) else line for n, line in enumerate(data, 1)]
    assert result.output == b"".join(expected)
    assert len(errors(result)) == 3


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


async def test_a_whole_object_that_is_bad_has_no_output() -> None:
    """Without a split the object is the record: it is told of in its object of errors, others have their outputs."""
    spec = job(**QUARANTINE, invocation_max_retries=0)
    result = await run_job(spec, REFUSES_BAD, {"in/a.csv": b"BAD", "in/b.csv": b"good"})
    assert not result.failed
    assert result.objects.keys("b", "out/") == ["out/a.csv.errors.jsonl", "out/b.csv.out"]
    assert errors(result)[0]["input"] == "BAD"


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


@pytest.mark.parametrize("on_error", ["skip", "quarantine"])
async def test_an_object_fails_though_earlier_records_are_bad(on_error: str) -> None:
    """A record that fits no payload fails its object, also if requests before it turn out bad after that."""
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
        job(split=SplitType.LINE, strategy=BatchStrategy.MULTI_RECORD, environment={"MILLRACE_ON_ERROR": on_error}),
        refuse,
        b"a\n" * 5 + b"b\n" * 5 + b"c" * 11,
        effective=EffectiveSettings(
            max_concurrent_transforms=4, max_payload_bytes=10, strategy=BatchStrategy.MULTI_RECORD
        ),
        driver=wait_for_both,
    )
    [told] = result.outcome.failures
    assert (told.record, told.offset) == (11, 20)
    assert told.message == "Too much data for max payload size: it must be at most 10 bytes"
