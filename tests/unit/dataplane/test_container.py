"""Tests of the container's start, settings and environment."""

import asyncio

import pytest

from millrace.clock import SystemClock
from millrace.dataplane import Client, EffectiveSettings, container_environment, effective_settings, wait_until_healthy
from millrace.errors import AlgorithmFailure
from millrace.jobs.transform import MIB, BatchStrategy, TransformSpec
from millrace.names import ObjectPrefix
from millrace.ports.runtime import Address, ExitStatus
from millrace.testing.clock import ManualClock
from millrace.testing.model_server import CLOSE, ModelReply, ModelRequest, ModelServer


def spec(**settings: object) -> TransformSpec:
    return TransformSpec(model="m", source=ObjectPrefix("b", ""), output=ObjectPrefix("b", "o"), **settings)  # type: ignore[arg-type]


async def echo(request: ModelRequest) -> ModelReply:
    return ModelReply(request.body)


async def test_pings_go_on_until_200() -> None:
    """Errors and dropped connections are not the end: the first 200 is."""
    answers = [CLOSE, ModelReply(status=503), ModelReply(status=404), ModelReply(b"ok")]

    async def ping(request: ModelRequest) -> ModelReply:
        return answers.pop(0)

    clock = ManualClock()
    async with ModelServer(echo, ping=ping) as server:
        waiting = asyncio.create_task(wait_until_healthy(server.address, window_seconds=60, clock=clock))
        for _ in range(3):
            await clock.sleepers(1)
            assert clock.pending[0] <= 0.05
            clock.advance(0.05)
        await waiting
    assert answers == []


async def test_the_start_of_a_server_is_noticed_soon() -> None:
    """While nobody listens the next try is never further away than a small share of the time waited."""
    clock = ManualClock()
    waiting = asyncio.create_task(wait_until_healthy(Address(path="/none"), window_seconds=600, clock=clock))
    pauses = []
    for step in (0.2, 10, 100):
        await clock.sleepers(1)
        pauses.append(clock.pending[0])
        clock.advance(step)
    await clock.sleepers(1)
    pauses.append(clock.pending[0])
    waiting.cancel()
    assert pauses == pytest.approx([0.004, 0.006, 0.306, 1.0])


async def test_the_window_ends() -> None:
    """A container that is never healthy fails the job, with what it said last."""

    async def ping(request: ModelRequest) -> ModelReply:
        return ModelReply(status=500)

    clock = ManualClock()
    async with ModelServer(echo, ping=ping) as server:
        waiting = asyncio.create_task(wait_until_healthy(server.address, window_seconds=5, clock=clock))
        await clock.sleepers(1)
        clock.advance(10)
        with pytest.raises(AlgorithmFailure, match=r"respond to ping within 5 seconds; last: status 500"):
            await waiting


async def test_an_exit_ends_the_wait_early() -> None:
    """A container that ends during start-up fails the job at once, with its status."""
    clock = ManualClock()
    exited: asyncio.Future[ExitStatus] = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(
        wait_until_healthy(Address(path="/none"), window_seconds=60, clock=clock, exited=exited)
    )
    await clock.sleepers(1)
    exited.set_result(ExitStatus(137))
    with pytest.raises(AlgorithmFailure, match=r"it exited with status 137 \(killed\) before it was healthy"):
        await waiting


@pytest.mark.spec("B §4.1")
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (ModelReply(b"{}"), EffectiveSettings()),
        (ModelReply(status=404), EffectiveSettings()),
        (CLOSE, EffectiveSettings()),
        (ModelReply(b"[1]"), EffectiveSettings()),
        (ModelReply(b"no json"), EffectiveSettings()),
        (
            ModelReply(b'{"MaxConcurrentTransforms":8,"BatchStrategy":"SINGLE_RECORD","MaxPayloadInMB":0}'),
            EffectiveSettings(max_concurrent_transforms=8, max_payload_bytes=0, strategy=BatchStrategy.SINGLE_RECORD),
        ),
        (ModelReply(b'{"MaxConcurrentTransforms":101,"MaxPayloadInMB":-1,"BatchStrategy":"x"}'), EffectiveSettings()),
        (ModelReply(b'{"MaxConcurrentTransforms":"8","MaxPayloadInMB":true}'), EffectiveSettings()),
        (ModelReply(b'{"MaxPayloadInMB":20}'), EffectiveSettings(max_payload_bytes=20 * MIB)),
    ],
)
async def test_execution_parameters_are_taken_as_far_as_they_make_sense(
    answer: ModelReply, expected: EffectiveSettings
) -> None:
    """What the container answers counts member by member; nonsense counts as nothing."""

    async def behave(request: ModelRequest) -> ModelReply:
        return answer

    async with ModelServer(behave) as server, Client(server.address) as client:
        assert await effective_settings(client, spec()) == expected


async def test_a_concurrency_of_zero_is_not_said() -> None:
    """MaxConcurrentTransforms 0 asks the container, then takes 1; a set payload limit of 0 stays 0."""

    async def behave(request: ModelRequest) -> ModelReply:
        return ModelReply(b'{"MaxConcurrentTransforms":3,"MaxPayloadInMB":5}')

    async with ModelServer(behave) as server, Client(server.address) as client:
        settled = await effective_settings(client, spec(max_concurrent_transforms=0, max_payload_bytes=0))
    assert (settled.max_concurrent_transforms, settled.max_payload_bytes) == (3, 0)


@pytest.mark.spec("B §9.9 E01 E02 E03 E04")
def test_the_environment_has_what_the_request_set() -> None:
    """Three variables are there only if the request set the member; the job's variables win over the model's."""
    assert container_environment(spec(), {}) == {"SAGEMAKER_BATCH": "true"}
    said = spec(
        max_payload_bytes=MIB,
        strategy=BatchStrategy.SINGLE_RECORD,
        max_concurrent_transforms=2,
        environment={"A": "2"},
    )
    assert container_environment(said, {"A": "1", "B": "1"}) == {
        "SAGEMAKER_BATCH": "true",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": "1",
        "SAGEMAKER_BATCH_STRATEGY": "SINGLE_RECORD",
        "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "2",
        "A": "2",
        "B": "1",
    }


async def test_pings_leave_no_connection_behind() -> None:
    """A ping asks the server to close: one with a single thread would else serve nobody but it."""
    async with ModelServer(echo) as server:
        await wait_until_healthy(server.address, window_seconds=5, clock=SystemClock())
    assert server.requests[0].headers["connection"] == "close"
