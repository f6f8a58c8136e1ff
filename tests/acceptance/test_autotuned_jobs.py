"""Jobs that find concurrency and payload size by themselves: same output, within the limits, told at the end."""

import asyncio
from collections.abc import Callable

import pytest
from tests.acceptance.transform_rig import ECHO, job, run_job
from tests.framed import recordio, tfrecord

from millrace.dataplane import EffectiveSettings
from millrace.jobs.transform import BatchStrategy, SplitType
from millrace.testing.model_server import ModelReply, ModelRequest

AUTOTUNE = {"MILLRACE_AUTOTUNE": "throughput"}
TUNED = {"split": SplitType.LINE, "environment": AUTOTUNE}
LINES = b"".join(b"%d,%s\n" % (n, b"x" * (n % 13)) for n in range(3000))


async def slow(request: ModelRequest) -> ModelReply:
    """Take some time whatever is asked: more requests at a time are answered sooner."""
    if request.path == "/invocations":
        await asyncio.sleep(0.002 if len(request.body) < 1000 else 0.02)
    return await ECHO(request)


@pytest.mark.parametrize("strategy", list(BatchStrategy))
async def test_a_tuned_job_has_the_same_output_and_tells_what_it_chose(strategy: BatchStrategy) -> None:
    """Whatever is tried on the way, records keep their order; outcome and data log say what was found."""
    data = LINES if strategy is BatchStrategy.SINGLE_RECORD else LINES * 100
    result = await run_job(job(**TUNED, strategy=strategy), slow, data)
    assert result.output == data
    tuning = result.outcome.tuning
    assert tuning is not None
    assert tuning.curve
    assert (tuning.payload_bytes is None) == (strategy is BatchStrategy.SINGLE_RECORD)
    assert tuning.chosen in result.texts


@pytest.mark.parametrize(("split", "write"), [(SplitType.RECORDIO, recordio), (SplitType.TFRECORD, tfrecord)])
async def test_payloads_of_framed_records_are_sized_too(split: SplitType, write: Callable[[bytes], bytes]) -> None:
    """Framed records are sent in payloads far below the limit first, and are the object when put together."""
    data = b"".join(write(b"%d" % n * 40) for n in range(6000))
    spec = job(**{**TUNED, "split": split}, strategy=BatchStrategy.MULTI_RECORD)
    result = await run_job(spec, slow, data)
    assert result.output == data
    assert result.outcome.tuning is not None
    assert result.outcome.tuning.payload_bytes is not None
    assert len(result.server.bodies) > 4
    assert max(map(len, result.server.bodies[:2])) <= 128 * 1024


@pytest.mark.parametrize(
    "how", [{"MILLRACE_CSV_HEADER": "repeat"}, {"MILLRACE_CSV_RECORDS": "rfc4180"}], ids=["header", "quotes"]
)
async def test_payloads_of_csv_are_sized_too(how: dict[str, str]) -> None:
    """Neither a header that is repeated nor line feeds between quotes keep payloads from beginning small."""
    data = b"a,b\n" + LINES * 20
    spec = job(split=SplitType.LINE, content_type="text/csv", environment={**AUTOTUNE, **how})
    result = await run_job(spec, slow, data)
    assert not result.failed
    assert max(map(len, result.server.bodies[:2])) <= 128 * 1024 + 4


async def test_stated_limits_hold() -> None:
    """More requests at a time than the client stated are never sent."""
    most = 0
    now = 0

    async def counting(request: ModelRequest) -> ModelReply:
        nonlocal most, now
        now += request.path == "/invocations"
        most = max(most, now)
        try:
            return await slow(request)
        finally:
            now -= request.path == "/invocations"

    spec = job(**TUNED, strategy=BatchStrategy.SINGLE_RECORD, max_concurrent_transforms=3)
    result = await run_job(spec, counting, LINES[:9000])
    assert result.output == LINES[:9000]
    assert 1 < most <= 3


async def test_payloads_that_are_too_large_are_sent_in_halves() -> None:
    """A container that answers 413 fails nothing: smaller payloads follow."""

    async def narrow(request: ModelRequest) -> ModelReply:
        if request.path == "/invocations" and len(request.body) > 2000:
            return ModelReply(status=413)
        return await ECHO(request)

    result = await run_job(job(**TUNED), narrow, LINES)
    assert not result.failed
    assert result.output == LINES
    assert max(map(len, result.server.bodies)) > 2000


async def test_a_record_that_is_too_large_by_itself_fails_its_object() -> None:
    """There is nothing to halve: the container's answer is the reason."""

    async def narrow(request: ModelRequest) -> ModelReply:
        if request.path == "/invocations" and len(request.body) > 100:
            return ModelReply(status=413)
        return await ECHO(request)

    effective = EffectiveSettings(max_concurrent_transforms=2)
    result = await run_job(job(**TUNED), narrow, b"1\n" + b"y" * 200 + b"\n3\n", effective=effective)
    assert "HTTP status 413" in result.reason
    assert result.outcome.failures[0].record == 2


async def test_bursts_of_429_are_ridden_out() -> None:
    """A refused request is sent again, and fewer are sent at a time."""
    left = 5

    async def busy(request: ModelRequest) -> ModelReply:
        nonlocal left
        if request.path == "/invocations" and left:
            left -= 1
            return ModelReply(status=429, headers=(("Retry-After", "0"),))
        return await slow(request)

    result = await run_job(job(**TUNED, strategy=BatchStrategy.SINGLE_RECORD), busy, LINES[:3000])
    assert result.output == LINES[:3000]
    assert result.outcome.progress.retries == 5


async def test_a_server_that_allows_so_many_requests_a_second_is_not_asked_for_more() -> None:
    """Where one request at a time is refused as well, nothing is sent while that one backs off: no attempt is wasted.

    The server allows ten requests, then refuses for a tenth of a second whatever comes. A payload may be tried twice.
    """
    allowed, closed_until = 10, 0.0

    async def limited(request: ModelRequest) -> ModelReply:
        nonlocal allowed, closed_until
        if request.path != "/invocations":
            return await ECHO(request)
        now = asyncio.get_running_loop().time()
        if not allowed and now >= closed_until:
            allowed = 10
        if not allowed:
            return ModelReply(status=429)
        allowed -= 1
        closed_until = now + 0.1
        return await ECHO(request)

    spec = job(**TUNED, strategy=BatchStrategy.SINGLE_RECORD, invocation_max_retries=1)
    result = await run_job(spec, limited, LINES[:300])
    assert not result.failed
    assert result.output == LINES[:300]


async def test_what_is_cut_once_is_not_refused_again_and_again() -> None:
    """Parts of a payload that are still known to be too large are cut further without being sent."""

    async def narrow(request: ModelRequest) -> ModelReply:
        if request.path == "/invocations" and len(request.body) > 2000:
            return ModelReply(status=413)
        return await ECHO(request)

    result = await run_job(job(**TUNED, max_concurrent_transforms=8), narrow, LINES * 20)
    assert result.output == LINES * 20
    refused = [size for size in map(len, result.server.bodies) if size > 2000]
    assert len(refused) <= 5 * 8, "as many as were under way, for each of five sizes: the last payload is a shorter one"


async def test_payloads_that_back_off_are_cut_to_what_is_sent_meanwhile() -> None:
    """A payload that was refused for want of memory is not sent again as large as it was."""
    refused: list[int] = []

    async def narrow(request: ModelRequest) -> ModelReply:
        if request.path == "/invocations" and len(request.body) > 100_000:
            refused.append(len(request.body))
            return ModelReply(status=503)
        return await ECHO(request)

    result = await run_job(job(**TUNED), narrow, LINES * 50)
    assert result.output == LINES * 50
    assert refused
