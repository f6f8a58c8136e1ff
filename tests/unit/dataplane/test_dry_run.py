"""One record that is tried before a job."""

import asyncio

import pytest
from tests.acceptance.transform_rig import ECHO, ROWSUM, job, status

from millrace.clock import SystemClock
from millrace.dataplane import EffectiveSettings, Limits, list_inputs
from millrace.dataplane.dry_run import DryRun, shown
from millrace.dataplane.inputs import ListedInputs
from millrace.errors import ClientFailure
from millrace.jobs.transform import AssembleWith, BatchStrategy, DataProcessing, JoinSource, SplitType, TransformSpec
from millrace.jobs.transform_options import job_options
from millrace.testing.model_server import Behaviour, ModelReply, ModelRequest, ModelServer
from millrace.testing.objects import MemoryObjects

CSV = {"content_type": "text/csv", "accept": "text/csv", "split": SplitType.LINE, "assemble_with": AssembleWith.LINE}


async def _try(
    spec: TransformSpec, behaviour: Behaviour, content: bytes, stop: asyncio.Event | None = None, **effective: object
) -> tuple[DryRun, list[bytes], MemoryObjects]:
    objects = MemoryObjects()
    objects.add("s3://b/in/a.csv", content)
    trial = DryRun(str)
    async with ModelServer(behaviour) as server:
        await trial.run(
            spec,
            ListedInputs(await list_inputs(objects, spec)),
            options=job_options(spec.environment),
            objects=objects,
            address=server.address,
            effective=EffectiveSettings(**effective),  # type: ignore[arg-type]
            clock=SystemClock(),
            limits=Limits(),
            stop=stop or asyncio.Event(),
        )
        return trial, [request.body for request in server.requests], objects


async def test_the_first_record_is_sent_alone_and_its_output_shown() -> None:
    """With the joined columns, the filter and the line feed that the job would give it; nothing is written."""
    processing = DataProcessing(join_source=JoinSource.INPUT, output_filter="$[0,-1]")
    trial, sent, objects = await _try(job(**CSV, processing=processing), ROWSUM, b"1,2\n3,4\n", max_payload_bytes=100)
    assert trial.taken
    assert sent == [b"1,2\n"]
    text = "\n".join(trial.lines)
    assert "record 1 of s3://b/in/a.csv" in text
    assert "> POST /invocations HTTP/1.1" in text
    assert "> Content-Length: 4\n  1,2\n" in text
    assert "< status 200" in text
    assert trial.lines[-2:] == ["output, first of s3://b/out/a.csv.out:", "  1,3"]
    assert objects.keys("b") == ["in/a.csv"]


async def test_blank_lines_are_passed_over_where_they_are_not_sent() -> None:
    """As in the job."""
    trial, sent, _ = await _try(job(**CSV, processing=DataProcessing(input_filter="$[1]")), ECHO, b"\n\n5,6\n7,8\n")
    assert (trial.taken, sent) == (True, [b"6\n"])
    assert "record 3 of s3://b/in/a.csv" in trial.lines


async def test_a_refusal_is_shown() -> None:
    """Status and body of the answer; the record is not taken."""
    trial, _, _ = await _try(job(**CSV), status(400, "no \x1b[2J such"), b"1,2\n")
    assert not trial.taken
    assert "< status 400" in trial.lines
    assert "  no \\x1b[2J such" in trial.lines


async def test_an_answer_that_does_not_fit_is_told() -> None:
    """A join of two rows with one record."""
    spec = job(**CSV, processing=DataProcessing(join_source=JoinSource.INPUT))
    trial, _, _ = await _try(spec, status(200, "1\n2\n", only=b""), b"1,2\n")
    assert not trial.taken
    assert "the answer can't be written: Fail to join data" in trial.lines[-1]


async def test_whole_objects_are_one_record() -> None:
    """Without a split; chunked, where payloads have no limit."""
    trial, sent, _ = await _try(job(), ECHO, b"anything", max_payload_bytes=0)
    assert (trial.taken, sent) == (True, [b"anything"])
    assert any("Transfer-Encoding: chunked" in line for line in trial.lines)


async def test_headers_are_repeated_and_columns_named() -> None:
    """The request begins with the header, the output with the names of its columns."""
    environment = {"MILLRACE_CSV_HEADER": "repeat", "MILLRACE_OUTPUT_COLUMNS": "sum"}
    trial, sent, _ = await _try(job(**CSV, environment=environment), ECHO, b"a,b\n1,2\n3,4\n")
    assert sent == [b"a,b\n1,2\n"]
    assert "  sum" in trial.lines


async def test_a_record_that_is_too_long_is_told() -> None:
    """As the job's failure would tell it."""
    with pytest.raises(ClientFailure, match="Too much data for max payload size"):
        await _try(
            job(**CSV, strategy=BatchStrategy.SINGLE_RECORD),
            ECHO,
            b"x" * 50 + b"\n",
            max_payload_bytes=10,
            strategy=BatchStrategy.SINGLE_RECORD,
        )


async def test_a_stop_does_not_wait_for_the_answer() -> None:
    """Who interrupts a trial of a slow model has the prompt back at once."""
    stop = asyncio.Event()

    async def never(_: ModelRequest) -> ModelReply:
        stop.set()
        return await asyncio.Future()

    trial, sent, _ = await _try(job(**CSV), never, b"1\n", stop=stop, max_payload_bytes=100)
    assert (trial.taken, sent) == (False, [b"1\n"])


async def test_an_input_without_a_record_gives_nothing() -> None:
    """An empty object."""
    trial, sent, _ = await _try(job(**CSV), ECHO, b"")
    assert (trial.lines, trial.taken, sent) == ([], False, [])


def test_bodies_are_shown_within_bounds() -> None:
    """Text as it is, other bytes in hexadecimal, and what was cut is told."""
    assert shown(b"") == ["  (empty)"]
    assert shown(b"a\tb\r\nc\n") == ["  a\tb\\x0d", "  c"]
    assert shown(b"\xff\x00") == ["  ff 00"]
    assert shown(b"x" * 5000)[-1] == "  ... and 904 bytes more"
    assert shown("é".encode() * 3000)[-1] == "  ... and 1904 bytes more"
    assert shown(b"a" + "é".encode() * 3000)[-1] == "  ... and 1906 bytes more"
    assert shown(b"\xff" * 600)[-1] == "  ... and 88 bytes more"
