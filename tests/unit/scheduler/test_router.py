"""The router, over a real state file and real model servers."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from millrace.clock import SystemClock
from millrace.jobs.endpoint import CaptureMode, DataCapture, EndpointSpec, ModelContainer, Variant
from millrace.jobs.job import EndpointJob, Instance, InstanceState, JobKind, JobStatus
from millrace.names import sagemaker_arn
from millrace.ports.endpoints import AnswerTooLarge, EndpointNotReady, Invocation, NoSuchEndpoint, NoSuchVariant
from millrace.scheduler.data_capture import DataCaptureWriter
from millrace.scheduler.router import MAX_ANSWER_BYTES, StoreRouter
from millrace.store.filesystem import FilesystemObjects
from millrace.store.sql_jobs import SqlJobStore
from millrace.store.sqlite import SqliteDatabase
from millrace.testing.model_server import Endless, ModelReply, ModelRequest, ModelServer

CONTAINERS = (ModelContainer(image="knn:1"),)


async def answer_path(request: ModelRequest) -> ModelReply:
    return ModelReply(body=request.body + b"!")


@pytest.fixture
async def jobs(tmp_path: Path) -> AsyncIterator[SqlJobStore]:
    database = SqliteDatabase(tmp_path / "state.db", durable=False)
    yield SqlJobStore(database, clock=SystemClock())
    database.close()


def endpoint(*addresses: str, status: JobStatus = JobStatus.IN_SERVICE) -> EndpointJob:
    """Return an endpoint of one variant with an instance at each address."""
    now = SystemClock().now()
    return EndpointJob(
        name="e",
        arn=sagemaker_arn("endpoint", "e", region="us-east-1"),
        status=status,
        created_at=now,
        modified_at=now,
        spec=EndpointSpec(config="c", variants=(Variant(name="v", model="m", containers=CONTAINERS),)),
        instances=tuple(
            Instance(index=index, state=InstanceState.READY, attempt=1, variant="v", generation=1, address=address)
            for index, address in enumerate(addresses)
        ),
    )


def invocation(variant: str | None = None) -> Invocation:
    return Invocation(region="us-east-1", endpoint="e", headers=(), body=b"x", variant=variant)


async def test_an_instance_that_accepts_no_connection_costs_no_request(jobs: SqlJobStore) -> None:
    """It has not seen the request, so another one is asked; nothing is left open in the end."""
    async with ModelServer(answer_path) as server:
        await jobs.add(JobKind.ENDPOINT, endpoint("127.0.0.1:9", str(server.address)), {})
        router = StoreRouter(jobs)
        for _ in range(20):
            assert (await router.invoke(invocation())).body == b"x!"
        router.close()


async def test_an_endpoint_whose_last_instance_is_gone_is_not_ready(jobs: SqlJobStore) -> None:
    """The caller may try again later: nothing was asked."""
    await jobs.add(JobKind.ENDPOINT, endpoint("127.0.0.1:9"), {})
    router = StoreRouter(jobs)
    with pytest.raises(EndpointNotReady, match="no healthy instance"):
        await router.invoke(invocation())
    router.close()


async def test_who_can_not_be_asked_is_told(jobs: SqlJobStore) -> None:
    """Unknown endpoint, unknown variant, nobody ready: each has its own error."""
    router = StoreRouter(jobs)
    with pytest.raises(NoSuchEndpoint):
        await router.invoke(invocation())
    job = await jobs.add(JobKind.ENDPOINT, endpoint(status=JobStatus.CREATING), {})
    with pytest.raises(EndpointNotReady, match="Creating"):
        await router.invoke(invocation())
    await jobs.save(replace(job, status=JobStatus.IN_SERVICE))
    router.forget(job)
    with pytest.raises(EndpointNotReady, match="no healthy instance"):
        await router.invoke(invocation())
    with pytest.raises(NoSuchVariant) as raised:
        await router.invoke(invocation("pink"))
    assert raised.value.known == ["v"]
    router.close()


async def test_an_answer_that_is_too_large_breaks_nothing(jobs: SqlJobStore) -> None:
    """The caller is told of the bound, not of a broken connection, and the instance is asked again next time."""
    replies = [ModelReply(body=b"x" * 1024 * 1024, endless=Endless.BODY), ModelReply(body=b"short")]

    async def answer_in_turn(request: ModelRequest) -> ModelReply:
        return replies.pop(0)

    async with ModelServer(answer_in_turn) as server:
        await jobs.add(JobKind.ENDPOINT, endpoint(str(server.address)), {})
        router = StoreRouter(jobs)
        with pytest.raises(AnswerTooLarge, match=str(MAX_ANSWER_BYTES)):
            await router.invoke(invocation())
        assert not router.is_busy(str(server.address))
        assert (await router.invoke(invocation())).body == b"short"
        router.close()


async def test_an_answer_is_streamed_as_it_comes(jobs: SqlJobStore) -> None:
    """Status and headers are there first; closing gives the connection back."""
    async with ModelServer(answer_path) as server:
        await jobs.add(JobKind.ENDPOINT, endpoint(str(server.address)), {})
        router = StoreRouter(jobs)
        for _ in range(3):
            stream = await router.stream(invocation())
            assert (stream.status, stream.variant) == (200, "v")
            assert b"".join([piece async for piece in stream]) == b"x!"
            stream.close()
            stream.close()
        router.close()


async def test_a_stream_that_nobody_can_answer_is_told_at_once(jobs: SqlJobStore) -> None:
    """Before there is a stream the errors are those of plain invocations."""

    async def late(request: ModelRequest) -> ModelReply:
        await asyncio.Event().wait()
        raise AssertionError

    async with ModelServer(late) as server:
        job = await jobs.add(JobKind.ENDPOINT, endpoint(str(server.address)), {})
        router = StoreRouter(jobs)
        with pytest.raises(TimeoutError):
            await router.stream(replace(invocation(), timeout_seconds=0.01))
        with pytest.raises(TimeoutError):
            await router.invoke(replace(invocation(), timeout_seconds=0.01))
        assert not router.is_busy(str(server.address))
        await jobs.save(replace(job, instances=()))
        router.forget(job)
        with pytest.raises(EndpointNotReady):
            await router.stream(invocation())
        router.close()


async def test_an_instance_is_busy_until_its_last_request_is_answered(jobs: SqlJobStore) -> None:
    """Also when it is no longer part of the endpoint: only then it may be stopped."""
    gate = asyncio.Event()

    async def wait(request: ModelRequest) -> ModelReply:
        await gate.wait()
        return ModelReply(body=b"old")

    async with ModelServer(wait) as old, ModelServer(answer_path) as new:
        job = await jobs.add(JobKind.ENDPOINT, endpoint(str(old.address)), {})
        router = StoreRouter(jobs)
        assert not router.is_busy(str(old.address))
        asked = asyncio.create_task(router.invoke(invocation()))
        await old.received(1)
        assert router.is_busy(str(old.address))
        moved = replace(job, instances=endpoint(str(new.address)).instances)
        await jobs.save(moved)
        router.forget(moved)
        assert (await router.invoke(invocation())).body == b"x!"
        assert router.is_busy(str(old.address))
        gate.set()
        assert (await asked).body == b"old"
        assert not router.is_busy(str(old.address))
        router.close()


async def test_an_endpoint_that_is_deleted_answers_what_it_has_and_no_more(jobs: SqlJobStore) -> None:
    """Its connections are closed with the last answer."""
    gate = asyncio.Event()

    async def wait(request: ModelRequest) -> ModelReply:
        await gate.wait()
        return ModelReply(body=b"last")

    async with ModelServer(wait) as server:
        job = await jobs.add(JobKind.ENDPOINT, endpoint(str(server.address)), {})
        router = StoreRouter(jobs)
        asked = asyncio.create_task(router.invoke(invocation()))
        await server.received(1)
        deleting = replace(job, status=JobStatus.DELETING)
        await jobs.save(deleting)
        router.forget(deleting)
        with pytest.raises(EndpointNotReady, match="Deleting"):
            await router.invoke(invocation())
        assert router.is_busy(str(server.address))
        gate.set()
        assert (await asked).body == b"last"
        assert not router.is_busy(str(server.address))
        router.close()


async def test_a_session_goes_back_to_the_instance_that_opened_it(jobs: SqlJobStore) -> None:
    """The container names the session in its answer."""

    async def open_session(request: ModelRequest) -> ModelReply:
        named = (("X-Amzn-SageMaker-New-Session-Id", "s1; Expires=2030-01-01T00:00:00Z"),)
        return ModelReply(body=b"opened", headers=named)

    async with ModelServer(open_session) as first, ModelServer(open_session) as second:
        await jobs.add(JobKind.ENDPOINT, endpoint(str(first.address), str(second.address)), {})
        router = StoreRouter(jobs)
        await router.invoke(replace(invocation(), session="NEW_SESSION"))
        opener, other = (first, second) if first.requests else (second, first)
        for _ in range(5):
            await router.invoke(replace(invocation(), session="s1"))
        assert (len(opener.requests), len(other.requests)) == (6, 0)
        router.close()


async def test_answered_calls_are_captured(jobs: SqlJobStore, tmp_path: Path) -> None:
    """Plain and streamed ones alike, with what the caller said of them; errors are not."""
    objects = FilesystemObjects(tmp_path / "objects", durable=False)
    await objects.create_bucket("shop", region="us-east-1", owner="0")
    capture = DataCaptureWriter(
        objects, clock=SystemClock(), flush_seconds=5.0, flush_bytes=1 << 20, buffer_bytes=1 << 20
    )

    async def answer(request: ModelRequest) -> ModelReply:
        status = 500 if request.body == b"boom" else 200
        return ModelReply(body=request.body + b"!", status=status, headers=(("Content-Type", "text/csv"),))

    settings = DataCapture(
        destination="s3://shop", sampling_percentage=100, modes=(CaptureMode.OUTPUT,), csv_types=("text/csv",)
    )
    async with ModelServer(answer) as server:
        job = endpoint(str(server.address))
        await jobs.add(JobKind.ENDPOINT, replace(job, spec=replace(job.spec, capture=settings)), {})
        router = StoreRouter(jobs, capture=capture)
        await router.invoke(replace(invocation(), body=b"plain", inference_id="i-1"))
        await router.invoke(replace(invocation(), body=b"boom"))
        stream = await router.stream(replace(invocation(), body=b"streamed"))
        assert b"".join([piece async for piece in stream]) == b"streamed!"
        stream.close()
        router.close()
    await capture.flush()
    [info] = (await objects.list_objects("shop")).objects
    lines = b"".join([piece async for piece in objects.read(info.ref)]).splitlines()
    told = [json.loads(line) for line in lines]
    assert [it["captureData"]["endpointOutput"]["data"] for it in told] == ["plain!", "streamed!"]
    assert [it["eventMetadata"].get("inferenceId") for it in told] == ["i-1", None]
