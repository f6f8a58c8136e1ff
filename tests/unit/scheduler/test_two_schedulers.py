"""Two schedulers on one state: who starts, who watches, who applies; in an order that the test chooses."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from millrace.jobs.endpoint import EndpointSpec, ModelContainer, Variant
from millrace.jobs.job import (
    DeleteRequested,
    EndpointJob,
    InstanceFinished,
    InstanceReady,
    InstanceStarted,
    Job,
    JobKind,
    JobStatus,
    StopRequested,
    UpdateRequested,
)
from millrace.jobs.transform import InstanceOutcome, Progress
from millrace.names import sagemaker_arn
from millrace.ports.jobs import InstanceRef
from millrace.ports.servers import ServerRecord
from millrace.scheduler.scheduler import Scheduler
from millrace.store.sql_jobs import SqlJobStore
from millrace.store.sql_servers import SqlServerStore
from millrace.store.sqlite import SqliteDatabase
from millrace.testing.clock import ManualClock
from millrace.testing.contract_jobs import transform_job
from millrace.testing.engine import FakeEngine

LEASE_SECONDS = 10.0


class Server:
    """One scheduler with an engine and a connection of its own."""

    def __init__(self, name: str, path: Path, clock: ManualClock) -> None:
        self.name = name
        self.database = SqliteDatabase(path / "state.db", durable=False)
        self.jobs = SqlJobStore(self.database, clock=clock)
        self.servers = SqlServerStore(self.database, clock=clock)
        self.engine = FakeEngine()
        self.moved: list[Job] = []
        self.scheduler = Scheduler(
            jobs=self.jobs,
            engine=self.engine,
            clock=clock,
            max_jobs=1,
            max_attempts=3,
            lease_seconds=LEASE_SECONDS,
            server_id=lambda: name,
            on_moved=self.moved.append,
        )


class Pair:
    """Two servers, and agents that the test plays."""

    def __init__(self, path: Path) -> None:
        self.clock = ManualClock()
        self.first, self.second = (Server(name, path, self.clock) for name in ("first", "second"))
        self.jobs = self.first.jobs

    async def join(self) -> None:
        now = self.clock.now()
        for server in (self.first, self.second):
            record = ServerRecord(
                id=server.name, machine="m", process_id=1, process_start=1, joined_at=now, heartbeat_at=now
            )
            await server.servers.join(record, alone=False)

    async def add(self, name: str = "job") -> InstanceRef:
        return ref((await self.jobs.add(JobKind.TRANSFORM, transform_job(name), {})).id)

    async def register(self, ref: InstanceRef) -> None:
        for server in (self.first, self.second):
            server.engine.starting.discard(ref)
        assert await self.jobs.register_agent(ref, agent_id="a", process_id=1, process_start=1, host="h")
        await self.jobs.post(
            ref.job_id, InstanceStarted(at=self.clock.now(), index=ref.index, attempt=ref.attempt), by=ref
        )

    async def finish(self, ref: InstanceRef) -> None:
        outcome = InstanceOutcome(progress=Progress())
        await self.jobs.post(
            ref.job_id,
            InstanceFinished(at=self.clock.now(), index=ref.index, attempt=ref.attempt, outcome=outcome),
            by=ref,
        )

    async def status(self, ref: InstanceRef) -> JobStatus:
        return (await self.jobs.get_by_id(ref.job_id)).status


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    pair = Pair(tmp_path)
    await pair.join()
    yield pair
    for server in (pair.first, pair.second):
        server.database.close()


def ref(job_id: int, attempt: int = 1, index: int = 0) -> InstanceRef:
    return InstanceRef(job_id=job_id, index=index, attempt=attempt)


async def test_a_job_is_started_by_one(pair: Pair) -> None:
    """The other sees whose it is, starts nothing, and moves nothing."""
    job = await pair.add()
    for _ in range(2):
        await pair.first.scheduler.pump()
        await pair.second.scheduler.pump()
    assert (pair.first.engine.started, pair.second.engine.started) == ([job], [])
    await pair.register(job)
    await pair.finish(job)
    await pair.second.scheduler.pump()
    assert await pair.status(job) is JobStatus.IN_PROGRESS
    await pair.first.scheduler.pump()
    assert await pair.status(job) is JobStatus.COMPLETED
    assert pair.second.moved == []


async def test_a_full_server_leaves_jobs_to_the_other(pair: Pair) -> None:
    """Each has room of its own; what neither has room for waits."""
    one, two, three = [await pair.add(name) for name in ("one", "two", "three")]
    for _ in range(2):
        await pair.first.scheduler.pump()
        await pair.second.scheduler.pump()
    assert (pair.first.engine.started, pair.second.engine.started) == ([one], [two])
    await pair.register(two)
    await pair.finish(two)
    await pair.second.scheduler.pump()
    assert pair.second.engine.started == [two, three]


async def test_what_a_client_asks_the_other_for_is_done(pair: Pair) -> None:
    """The one that is asked applies it, so that the answer has the effect; the owner sees it and tells the agent."""
    job = await pair.add()
    await pair.first.scheduler.pump()
    await pair.register(job)
    await pair.first.scheduler.pump()
    await pair.jobs.post(job.job_id, StopRequested(at=pair.clock.now()))
    await pair.second.scheduler.pump()
    assert await pair.status(job) is JobStatus.IN_PROGRESS
    await pair.second.scheduler.pump(for_all=True)
    assert await pair.status(job) is JobStatus.STOPPING
    assert await pair.jobs.is_stop_wanted(job)
    await pair.finish(job)
    await pair.first.scheduler.pump()
    assert pair.first.moved[-1].status is JobStatus.COMPLETED


async def test_a_stop_saved_by_a_server_that_died_is_told_by_the_owner(pair: Pair) -> None:
    """Between saving the move and telling the agent there is room for a crash."""
    job = await pair.add()
    await pair.first.scheduler.pump()
    await pair.register(job)
    await pair.first.scheduler.pump()
    stopping = replace(await pair.jobs.get_by_id(job.job_id), status=JobStatus.STOPPING)
    await pair.second.jobs.save(stopping)
    await pair.first.scheduler.pump()
    assert await pair.jobs.is_stop_wanted(job)
    assert pair.first.engine.nudged == [job]


async def test_a_queued_job_is_stopped_by_whoever_comes_first(pair: Pair) -> None:
    """It is nobody's yet."""
    await pair.add("running")
    await pair.first.scheduler.pump()
    await pair.add("running too")
    await pair.second.scheduler.pump()
    queued = await pair.add("queued")
    await pair.jobs.post(queued.job_id, StopRequested(at=pair.clock.now()))
    await pair.second.scheduler.pump()
    assert await pair.status(queued) is JobStatus.STOPPED


async def test_an_heir_watches_the_agents_that_another_started(pair: Pair) -> None:
    """It does not start them again; it replaces them when they die; the one before lets go."""
    job = await pair.add()
    await pair.first.scheduler.pump()
    await pair.register(job)
    await pair.first.scheduler.pump()
    await pair.first.servers.leave("first", ["second"])
    await pair.second.scheduler.pump()
    assert pair.second.engine.started == []
    for server in (pair.first, pair.second):
        server.engine.dead.add(job)
    await pair.first.scheduler.pump()
    assert pair.first.engine.started == [job]
    await pair.second.scheduler.pump()
    assert pair.second.engine.started == [replace(job, attempt=2)]


async def test_an_heir_gives_agents_a_whole_lease(pair: Pair) -> None:
    """However old their heartbeats were when it took them over."""
    job = await pair.add()
    await pair.first.scheduler.pump()
    await pair.register(job)
    await pair.first.scheduler.pump()
    pair.clock.advance(100 * LEASE_SECONDS)
    await pair.first.servers.leave("first", ["second"])
    await pair.second.scheduler.pump()
    assert pair.second.engine.killed == []
    pair.clock.advance(LEASE_SECONDS + 1)
    await pair.second.scheduler.pump()
    assert pair.second.engine.killed == [job]


def serving(name: str) -> EndpointSpec:
    container = ModelContainer(image="knn:1")
    return EndpointSpec(config=name, variants=(Variant(name="v", model="m", containers=(container,)),))


async def in_service(pair: Pair) -> int:
    """Bring an endpoint of the first server into service and return its id."""
    endpoint = EndpointJob(
        name="e",
        arn=sagemaker_arn("endpoint", "e", region="us-east-1"),
        status=JobStatus.CREATING,
        created_at=pair.clock.now(),
        modified_at=pair.clock.now(),
        spec=serving("old"),
    )
    job_id = (await pair.jobs.add(JobKind.ENDPOINT, endpoint, {})).id
    await pair.first.scheduler.pump()
    await pair.register(ref(job_id))
    await pair.jobs.post(job_id, InstanceReady(at=pair.clock.now(), index=0, attempt=1, address="h:1"))
    await pair.first.scheduler.pump()
    return job_id


async def test_every_server_learns_how_an_endpoint_moved(pair: Pair) -> None:
    """Routes follow on all of them, also when it is gone."""
    job_id = await in_service(pair)
    await pair.second.scheduler.pump()
    assert [job.status for job in pair.second.moved] == [JobStatus.IN_SERVICE]
    await pair.jobs.post(job_id, DeleteRequested(at=pair.clock.now()))
    await pair.first.scheduler.pump()
    await pair.second.scheduler.pump()
    assert pair.second.moved[-1].status is JobStatus.DELETING


async def test_an_update_through_the_other_server_is_started_by_the_owner(pair: Pair) -> None:
    """It is saved by the one that was asked; the instances are the owner's."""
    job_id = await in_service(pair)
    await pair.second.scheduler.pump()
    await pair.jobs.post(job_id, UpdateRequested(at=pair.clock.now(), spec=serving("new")))
    await pair.second.scheduler.pump(for_all=True)
    assert (await pair.jobs.get_by_id(job_id)).status is JobStatus.UPDATING
    assert pair.second.engine.started == []
    await pair.first.scheduler.pump()
    assert pair.first.engine.started[-1] == ref(job_id, index=1)
