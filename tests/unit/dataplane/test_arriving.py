"""Tests of the bounds on what a container's answers may hold."""

import asyncio

import pytest
from tests.acceptance.transform_rig import MIB, job, run_job

from millrace.dataplane import Client, EffectiveSettings, Limits, effective_settings, ping
from millrace.dataplane.arriving import ArrivingAnswers
from millrace.dataplane.connection import Connection
from millrace.dataplane.limits import Budget
from millrace.jobs.transform import BatchStrategy, SplitType
from millrace.testing.clock import ManualClock
from millrace.testing.model_server import Behaviour, Endless, ModelReply, ModelRequest, ModelServer

KIB = 1024
ANSWER = Limits(answer_bytes=MIB)
SINGLE = {"split": SplitType.LINE, "strategy": BatchStrategy.SINGLE_RECORD}
MOST_POURED = 64 * MIB
"""Bytes that an endless answer may send before we hang up: the limit, and what the kernel's buffers hold."""


class WatchedBudget(Budget):
    """Remembers the most that was held."""

    __slots__ = ("most",)

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.most = 0

    def take(self, size: int) -> None:
        super().take(size)
        self.most = max(self.most, self.held)


def endless(what: Endless, *, status: int = 200, on: bytes = b"", piece: int = 16 * KIB) -> Behaviour:
    """Return a model's behaviour that answers without an end to a payload, and well to all others."""

    async def behave(request: ModelRequest) -> ModelReply:
        if request.path != "/invocations":
            return ModelReply(status=404)
        if on in request.body:
            return ModelReply(b"z" * piece, status=status, endless=what)
        return ModelReply(request.body)

    return behave


async def test_an_endless_answer_fails_its_object_only() -> None:
    """An answer beyond the bound fails its object, naming record, byte, bound and setting; others get their output."""
    inputs = {"in/a.csv": b"1\n2\nBAD\n4\n", "in/b.csv": b"5\n"}
    result = await run_job(job(**SINGLE), endless(Endless.BODY, on=b"BAD"), inputs, limits=ANSWER)
    assert result.reason == (
        "AlgorithmError: See job logs for more information. 1 of 2 objects failed; "
        "first: in/a.csv, record 3 at byte 4: "
        "Answer too large: it must have at most 1048576 bytes (MILLRACE_MAX_ANSWER_BYTES), got more"
    )
    assert result.objects.keys("b", "out/") == ["out/b.csv.out"]
    assert result.server.poured < MOST_POURED


@pytest.mark.parametrize("size", [2, 100, 16 * KIB])
async def test_chunks_of_any_size_are_bounded(size: int) -> None:
    """It is the body's bytes that count, in however small chunks they come."""
    result = await run_job(job(), endless(Endless.BODY, piece=size), b"x", limits=Limits(answer_bytes=64 * KIB))
    assert "at most 65536 bytes (MILLRACE_MAX_ANSWER_BYTES), got more" in result.reason


@pytest.mark.parametrize("size", [MIB + 1, 20 * MIB])
async def test_a_declared_length_beyond_the_bound_is_told(size: int) -> None:
    """An answer that declares its length is refused with it, and asked for once."""

    async def behave(request: ModelRequest) -> ModelReply:
        return ModelReply(b"z" * size) if request.path == "/invocations" else ModelReply(status=404)

    result = await run_job(job(), behave, b"x", limits=ANSWER)
    assert f"at most 1048576 bytes (MILLRACE_MAX_ANSWER_BYTES), got {size}" in result.reason
    assert len(result.server.bodies) == 1


@pytest.mark.parametrize("size", [0, 10, 99, 100])
async def test_answers_up_to_the_bound_are_taken(size: int) -> None:
    """The bound itself is allowed, the byte behind it is not."""

    async def behave(request: ModelRequest) -> ModelReply:
        return ModelReply(b"z" * size) if request.path == "/invocations" else ModelReply(status=404)

    taken = await run_job(job(), behave, b"x", limits=Limits(answer_bytes=100))
    assert taken.output == b"z" * size
    if size == 100:
        refused = await run_job(job(), behave, b"x", limits=Limits(answer_bytes=99))
        assert "at most 99 bytes (MILLRACE_MAX_ANSWER_BYTES), got 100" in refused.reason


async def test_an_endless_error_is_read_as_far_as_it_is_told() -> None:
    """A 400 whose body never ends fails its object like any other 400, with the beginning of the body."""
    result = await run_job(job(), endless(Endless.BODY, status=400), b"x")
    assert "HTTP status 400 received from algorithm: zzzz" in result.reason
    assert result.server.poured < MOST_POURED


async def test_an_endless_head_is_no_answer() -> None:
    """Headers without an end break the attempt off; the reason says how long a head may be."""
    result = await run_job(job(invocation_max_retries=0), endless(Endless.HEAD), b"x")
    assert "Unable to get response from algorithm: the head of an answer must have at most 262144 " in result.reason
    assert result.server.poured < MOST_POURED


async def test_an_endless_head_of_a_streamed_answer_is_bounded_too() -> None:
    """Without a payload limit answers are streamed, and their heads are bounded alike."""
    spec = job(max_payload_bytes=0, invocation_max_retries=0)
    result = await run_job(spec, endless(Endless.HEAD), b"x")
    assert "Unable to get response from algorithm" in result.reason
    assert result.server.poured < MOST_POURED


async def test_endless_settings_of_a_container_count_as_none() -> None:
    """/execution-parameters is read as far as 1 MiB; what is longer holds no wishes."""

    async def behave(request: ModelRequest) -> ModelReply:
        return ModelReply(b'{"MaxPayloadInMB": 1}   ', endless=Endless.BODY)

    async with ModelServer(behave) as server, Client(server.address) as client:
        assert await effective_settings(client, job()) == EffectiveSettings()
        assert server.poured < MOST_POURED


async def test_an_endless_answer_to_ping_is_not_healthy() -> None:
    """/ping is read as far as 64 KiB."""

    async def forever(request: ModelRequest) -> ModelReply:
        return ModelReply(b"ok" * KIB, endless=Endless.BODY)

    async with ModelServer(forever, ping=forever) as server, Client(server.address) as client:
        assert await ping(client) == "the body of an answer must be at most 65536 bytes, got more"


async def test_answers_count_as_they_arrive() -> None:
    """However many answers come at a time, what is held passes the limit by one answer and a segment of each other."""
    concurrency, size, limit = 8, 3 * MIB, MIB
    budget = WatchedBudget(limit)

    async def behave(request: ModelRequest) -> ModelReply:
        return ModelReply(request.body * (size // 2)) if request.path == "/invocations" else ModelReply(status=404)

    data = b"".join(b"%c\n" % letter for letter in b"abcdefghijklmnopqrst")
    result = await run_job(
        job(**SINGLE, max_concurrent_transforms=concurrency, max_payload_bytes=MIB),
        behave,
        data,
        limits=Limits(chunk_bytes=16, inflight_bytes=limit),
        budget=budget,
    )
    assert result.output == b"".join(data[at : at + 2] * (size // 2) for at in range(0, len(data), 2))
    assert budget.most <= limit + size + concurrency * 256 * KIB


async def test_answers_of_several_objects_count_alike() -> None:
    """Whole objects whose answers are all larger than the room are transformed, one answer at a time if need be."""

    async def behave(request: ModelRequest) -> ModelReply:
        if request.path != "/invocations":
            return ModelReply(status=404)
        return ModelReply(b"no" * MIB, status=500) if b"bad" in request.body else ModelReply(request.body * MIB)

    inputs = {f"in/{number}": b"%d" % number for number in range(9)} | {"in/5": b"bad"}
    result = await run_job(
        job(max_concurrent_transforms=5, max_payload_bytes=MIB, invocation_max_retries=0),
        behave,
        inputs,
        limits=Limits(inflight_bytes=MIB // 2),
    )
    assert result.outcome.failure_count == 1
    for number in {*range(9)} - {5}:
        assert result.objects.data(f"s3://b/out/{number}.out") == b"%d" % number * MIB


class PausedTransport(asyncio.Transport):
    """Remembers whether it is to be read."""

    reading = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


def connected() -> tuple[Connection, PausedTransport]:
    connection, transport = Connection(), PausedTransport()
    connection.connection_made(transport)
    return connection, transport


def test_only_the_earliest_answer_is_read_while_there_is_no_room() -> None:
    """Others wait until there is room or it is their turn, and that time is none of theirs."""
    clock = ManualClock()
    (first, first_transport), (second, second_transport) = connected(), connected()
    earliest = [first]
    budget = Budget(100)
    arriving = ArrivingAnswers(
        budget, answer_bytes=1000, monotonic=clock.monotonic, earliest=lambda: earliest[0], flush=lambda: None
    )
    started = second.started
    for connection in (second, first, first, second):
        arriving.grew(connection, 80)
    assert (first_transport.reading, second_transport.reading) == (True, False)
    clock.advance(5)
    arriving.read_on()
    assert not second_transport.reading
    earliest[0] = second
    arriving.read_on()
    assert second_transport.reading
    assert second.started == started + 5
    assert arriving.forget(first) + arriving.forget(second) == budget.held
