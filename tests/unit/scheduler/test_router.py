"""The router, over a real state file and real model servers."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from millrace.clock import SystemClock
from millrace.jobs.endpoint import EndpointSpec, ModelContainer, Variant
from millrace.jobs.job import EndpointJob, Instance, InstanceState, JobKind, JobStatus
from millrace.names import sagemaker_arn
from millrace.ports.endpoints import EndpointNotReady, Invocation, NoSuchEndpoint, NoSuchVariant
from millrace.scheduler.router import StoreRouter
from millrace.store.sql_jobs import SqlJobStore
from millrace.store.sqlite import SqliteDatabase
from millrace.testing.model_server import ModelReply, ModelRequest, ModelServer

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
