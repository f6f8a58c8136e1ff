"""The scheduler's passes, over a real state file, with agents that the test plays."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
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
)
from millrace.jobs.transform import InstanceOutcome, Progress
from millrace.names import sagemaker_arn
from millrace.ports.jobs import InstanceRef, NoSuchJob
from millrace.scheduler.agent_starts import MAX_UNREGISTERED_STARTS
from millrace.scheduler.job_ends import JobEnds
from millrace.scheduler.scheduler import Scheduler
from millrace.store.sql_jobs import SqlJobStore
from millrace.store.sqlite import SqliteDatabase
from millrace.testing.clock import ManualClock
from millrace.testing.contract_jobs import transform_job
from millrace.testing.engine import FakeEngine

LEASE_SECONDS = 10.0


class Stage:
    """A scheduler and all that it talks to."""

    def __init__(self, path: Path) -> None:
        self.clock = ManualClock()
        self.database = SqliteDatabase(path / "state.db", durable=False)
        self.jobs = SqlJobStore(self.database, clock=self.clock)
        self.engine = FakeEngine()
        self.moved: list[Job] = []
        self.forgotten: list[int] = []
        self.before_ends: list[tuple[JobStatus, JobStatus]] = []
        self.scheduler = self.another_scheduler()

    def another_scheduler(self) -> Scheduler:
        """Return a scheduler that remembers nothing, as after a restart."""
        return Scheduler(
            jobs=self.jobs,
            engine=self.engine,
            clock=self.clock,
            max_jobs=2,
            max_attempts=3,
            lease_seconds=LEASE_SECONDS,
            on_moved=self.moved.append,
            on_forgotten=self.forgotten.append,
            before_end=self.note_before_end,
        )

    async def note_before_end(self, job: Job) -> None:
        """Note the end that a job comes to, and what others see of it meanwhile."""
        self.before_ends.append((job.status, (await self.jobs.get_by_id(job.id)).status))

    async def add(self, name: str = "job", instances: int = 1) -> int:
        job = transform_job(name)
        job = replace(job, instances=tuple(replace(job.instances[0], index=index) for index in range(instances)))
        return (await self.jobs.add(JobKind.TRANSFORM, job, {})).id

    async def register(self, ref: InstanceRef) -> None:
        """Play an agent that comes to work."""
        self.engine.starting.discard(ref)
        assert await self.jobs.register_agent(
            ref, agent_id=f"agent-{ref.attempt}", process_id=1, process_start=1, host="h"
        )
        started = InstanceStarted(at=self.clock.now(), index=ref.index, attempt=ref.attempt)
        await self.jobs.post(ref.job_id, started, by=ref)

    async def finish(self, ref: InstanceRef, *, stopped: bool = False) -> None:
        """Play an agent that reports its end, and ends."""
        outcome = InstanceOutcome(progress=Progress(), stopped=stopped)
        finished = InstanceFinished(at=self.clock.now(), index=ref.index, attempt=ref.attempt, outcome=outcome)
        await self.jobs.post(ref.job_id, finished, by=ref)
        self.engine.dead.add(ref)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    stage.database.close()


def ref(job_id: int, attempt: int = 1, index: int = 0) -> InstanceRef:
    return InstanceRef(job_id=job_id, index=index, attempt=attempt)


async def test_a_job_goes_from_creation_to_its_end(stage: Stage) -> None:
    """Started, worked on, reported, cleaned up."""
    job_id = await stage.add()
    await stage.scheduler.pump()
    assert stage.engine.started == [ref(job_id)]
    await stage.register(ref(job_id))
    await stage.finish(ref(job_id))
    await stage.scheduler.pump()
    assert (await stage.jobs.get_by_id(job_id)).status is JobStatus.COMPLETED
    assert stage.engine.removed == [(job_id, None)]
    assert stage.moved[-1].status is JobStatus.COMPLETED


async def test_what_is_to_be_there_at_a_jobs_end_is_made_before_it_is_seen(stage: Stage) -> None:
    """A report, say: once, and while the job still goes on for everybody else."""
    job_id = await stage.add()
    await stage.scheduler.pump()
    await stage.register(ref(job_id))
    await stage.scheduler.pump()
    assert stage.before_ends == []
    await stage.finish(ref(job_id))
    await stage.scheduler.pump()
    await stage.scheduler.pump()
    assert stage.before_ends == [(JobStatus.COMPLETED, JobStatus.IN_PROGRESS)]


async def test_jobs_wait_their_turn(stage: Stage) -> None:
    """No more than the limit run at a time; the next starts when one has ended."""
    first, second, third = [await stage.add(name) for name in ("a", "b", "c")]
    await stage.scheduler.pump()
    assert [it.job_id for it in stage.engine.started] == [first, second]
    await stage.register(ref(first))
    await stage.finish(ref(first))
    await stage.scheduler.pump()
    assert stage.engine.started[-1] == ref(third)


async def test_a_restarted_scheduler_finds_agents_at_work(stage: Stage) -> None:
    """What another scheduler started is watched, not started again."""
    job_id = await stage.add()
    await stage.scheduler.pump()
    await stage.register(ref(job_id))
    await stage.scheduler.pump()
    following = stage.another_scheduler()
    await following.pump()
    assert stage.engine.started == [ref(job_id)]
    await stage.finish(ref(job_id))
    await following.pump()
    assert (await stage.jobs.get_by_id(job_id)).status is JobStatus.COMPLETED


async def test_a_command_lost_in_a_crash_is_performed_by_the_next_scheduler(stage: Stage) -> None:
    """A job saved as started whose agent never was, is started."""
    job_id = await stage.add()
    await stage.scheduler.pump()
    stage.engine.started.clear()
    stage.engine.starting.clear()
    await stage.another_scheduler().pump()
    assert stage.engine.started == [ref(job_id)]


async def test_a_dead_agent_is_replaced_at_once(stage: Stage) -> None:
    """The next attempt starts in the same pass that finds the process gone."""
    job_id = await stage.add()
    await stage.scheduler.pump()
    await stage.register(ref(job_id))
    stage.engine.dead.add(ref(job_id))
    await stage.scheduler.pump()
    assert stage.engine.started == [ref(job_id), ref(job_id, attempt=2)]


async def test_a_silent_agent_is_replaced_after_its_lease(stage: Stage) -> None:
    """Heartbeats keep the lease; without them it runs out."""
    job_id = await stage.add()
    await stage.scheduler.pump()
    await stage.register(ref(job_id))
    for _ in range(3):
        stage.clock.advance(LEASE_SECONDS - 1)
        await stage.jobs.heartbeat(ref(job_id), "agent-1", None)
        await stage.scheduler.pump()
    assert stage.engine.started == [ref(job_id)]
    stage.clock.advance(LEASE_SECONDS + 1)
    await stage.scheduler.pump()
    assert stage.engine.started[-1] == ref(job_id, attempt=2)


async def test_an_agent_that_reported_before_it_died_is_believed(stage: Stage) -> None:
    """The report counts, whatever order report and death are noticed in."""
    job_id = await stage.add()
    await stage.scheduler.pump()
    await stage.register(ref(job_id))
    await stage.scheduler.pump()
    await stage.finish(ref(job_id))
    await stage.scheduler.pump()
    assert (await stage.jobs.get_by_id(job_id)).status is JobStatus.COMPLETED
    assert stage.engine.started == [ref(job_id)]


async def test_agents_that_never_register_use_up_the_attempts(stage: Stage) -> None:
    """A job whose agents can't even start fails in the end, with a reason."""
    job_id = await stage.add()
    for _ in range(MAX_UNREGISTERED_STARTS * 3 + 4):
        await stage.scheduler.pump()
        stage.engine.starting.clear()
    job = await stage.jobs.get_by_id(job_id)
    assert job.status is JobStatus.FAILED
    assert "never registered" in (job.failure_reason or "")
    assert len(stage.engine.started) == MAX_UNREGISTERED_STARTS * 3


async def test_a_stop_reaches_the_agents(stage: Stage) -> None:
    """The store says it, a nudge makes them look."""
    job_id = await stage.add(instances=2)
    await stage.scheduler.pump()
    for index in range(2):
        await stage.register(ref(job_id, index=index))
    await stage.jobs.post(job_id, StopRequested(at=stage.clock.now()))
    await stage.scheduler.pump()
    assert stage.engine.nudged == [ref(job_id, index=0), ref(job_id, index=1)]
    for index in range(2):
        assert await stage.jobs.is_stop_wanted(ref(job_id, index=index))
        await stage.finish(ref(job_id, index=index), stopped=True)
    await stage.scheduler.pump()
    assert (await stage.jobs.get_by_id(job_id)).status is JobStatus.STOPPED


async def test_a_stop_lost_in_a_crash_is_told_by_the_next_scheduler(stage: Stage) -> None:
    """A job saved as stopping whose agents were not told yet, is told."""
    job_id = await stage.add()
    await stage.scheduler.pump()
    await stage.register(ref(job_id))
    await stage.scheduler.pump()
    await stage.jobs.post(job_id, StopRequested(at=stage.clock.now()))
    job = await stage.jobs.get_by_id(job_id)
    posted = await stage.jobs.list_posted()
    await stage.jobs.save(replace(job, status=JobStatus.STOPPING), [it.id for it in posted])
    await stage.another_scheduler().pump()
    assert await stage.jobs.is_stop_wanted(ref(job_id))
    assert stage.engine.nudged == [ref(job_id)]


async def test_a_silent_agent_is_killed_before_another_takes_its_place(stage: Stage) -> None:
    """What hangs may wake; two must not work on the same."""
    job_id = await stage.add()
    await stage.scheduler.pump()
    await stage.register(ref(job_id))
    await stage.scheduler.pump()
    stage.clock.advance(LEASE_SECONDS + 1)
    await stage.scheduler.pump()
    assert stage.engine.killed == [ref(job_id)]
    assert stage.engine.started[-1] == ref(job_id, attempt=2)


async def test_a_scheduler_that_was_away_gives_agents_a_whole_lease(stage: Stage) -> None:
    """An old heartbeat at first sight proves nothing: the machine may have slept."""
    job_id = await stage.add()
    await stage.scheduler.pump()
    await stage.register(ref(job_id))
    await stage.scheduler.pump()
    stage.clock.advance(100 * LEASE_SECONDS)
    following = stage.another_scheduler()
    await following.pump()
    assert stage.engine.killed == []
    stage.clock.advance(LEASE_SECONDS + 1)
    await following.pump()
    assert stage.engine.killed == [ref(job_id)]


async def test_a_stop_of_a_job_that_waits_starts_nothing(stage: Stage) -> None:
    """It is stopped before it began."""
    job_id = await stage.add()
    await stage.jobs.post(job_id, StopRequested(at=stage.clock.now()))
    await stage.scheduler.pump()
    assert (await stage.jobs.get_by_id(job_id)).status is JobStatus.STOPPED
    assert stage.engine.started == []


async def test_an_event_that_comes_too_late_is_dropped(stage: Stage) -> None:
    """It does not stand in the way of the next one."""
    job_id = await stage.add()
    for _ in range(2):
        await stage.jobs.post(job_id, StopRequested(at=stage.clock.now()))
    await stage.scheduler.pump()
    assert await stage.jobs.list_posted() == []


async def test_an_unreadable_event_does_not_stand_in_the_way(stage: Stage) -> None:
    """An event of another release is set aside; its job and all others go on."""
    broken, fine = await stage.add("broken"), await stage.add("fine")
    await stage.scheduler.pump()
    await stage.register(ref(broken))
    await stage.jobs.post(broken, InstanceStarted(at=stage.clock.now(), index=0, attempt=1))
    await stage.database.write(
        lambda transaction: transaction.execute("UPDATE job_events SET body = '{}' WHERE job_id = :id", {"id": broken})
    )
    await stage.register(ref(fine))
    await stage.finish(ref(fine))
    await stage.finish(ref(broken))
    await stage.scheduler.pump()
    assert await stage.jobs.list_posted() == []
    assert (await stage.jobs.get_by_id(fine)).status is JobStatus.COMPLETED
    assert (await stage.jobs.get_by_id(broken)).status is JobStatus.COMPLETED


async def test_an_unreadable_job_does_not_stand_in_the_way(stage: Stage) -> None:
    """The others are scheduled."""
    broken, fine = await stage.add("broken"), await stage.add("fine")
    await stage.database.write(
        lambda transaction: transaction.execute("UPDATE jobs SET body = '{}' WHERE id = :id", {"id": broken})
    )
    await stage.scheduler.pump()
    assert stage.engine.started == [ref(fine)]


def endpoint() -> EndpointJob:
    container = ModelContainer(image="knn:1")
    return EndpointJob(
        name="e",
        arn=sagemaker_arn("endpoint", "e", region="us-east-1"),
        status=JobStatus.CREATING,
        created_at=ManualClock().now(),
        modified_at=ManualClock().now(),
        spec=EndpointSpec(config="c", variants=(Variant(name="v", model="m", containers=(container,)),)),
    )


async def serving(stage: Stage) -> int:
    """Bring an endpoint into service and return its id."""
    job_id = (await stage.jobs.add(JobKind.ENDPOINT, endpoint(), {})).id
    await stage.scheduler.pump()
    await stage.register(ref(job_id))
    await stage.jobs.post(job_id, InstanceReady(at=stage.clock.now(), index=0, attempt=1, address="h:1"))
    await stage.scheduler.pump()
    return job_id


async def test_endpoints_do_not_wait_for_room(stage: Stage) -> None:
    """They don't end, so they must not keep jobs waiting nor wait for them."""
    for name in ("a", "b", "c"):
        await stage.add(name)
    await stage.scheduler.pump()
    job_id = await serving(stage)
    assert (await stage.jobs.get_by_id(job_id)).status is JobStatus.IN_SERVICE


async def test_an_endpoint_s_instance_comes_back_after_a_pause(stage: Stage) -> None:
    """A crash loop does not spin: each restart waits longer."""
    job_id = await serving(stage)
    stage.engine.dead.add(ref(job_id))
    await stage.scheduler.pump()
    assert stage.engine.started == [ref(job_id)]
    stage.clock.advance(1.0)
    await stage.scheduler.pump()
    assert stage.engine.started[-1] == ref(job_id, attempt=2)


async def test_a_deleted_endpoint_is_forgotten(stage: Stage) -> None:
    """Its record goes once its instances are gone, and only then those are told who wait for that."""
    job_id = await serving(stage)
    await stage.jobs.post(job_id, DeleteRequested(at=stage.clock.now()))
    await stage.scheduler.pump()
    await stage.finish(ref(job_id))
    assert stage.forgotten == []
    await stage.scheduler.pump()
    with pytest.raises(NoSuchJob):
        await stage.jobs.get_by_id(job_id)
    assert stage.forgotten == [job_id]


async def test_an_endpoint_whose_deletion_a_crash_broke_off_is_forgotten_by_the_next_scheduler(stage: Stage) -> None:
    """A record without instances that was left is removed, and that is told."""
    job_id = await serving(stage)
    job = await stage.jobs.get_by_id(job_id)
    await stage.jobs.save(replace(job, status=JobStatus.DELETING, instances=()))
    await stage.another_scheduler().pump()
    with pytest.raises(NoSuchJob):
        await stage.jobs.get_by_id(job_id)
    assert stage.forgotten == [job_id]


class SlowRemoval(FakeEngine):
    """An engine that is asked to remove files, and is done with it when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.done = asyncio.Event()

    async def remove_work(self, job_id: int, index: int | None) -> None:
        await super().remove_work(job_id, index)
        self.asked.set()
        await self.done.wait()


async def test_who_waits_for_an_endpoint_to_go_waits_until_its_files_are_removed(stage: Stage) -> None:
    """Whoever begins to wait between its last move and the end of its record is not told that it is there still."""
    stage.engine = engine = SlowRemoval()
    ends = JobEnds(stage.jobs)
    scheduler = Scheduler(
        jobs=stage.jobs,
        engine=engine,
        clock=stage.clock,
        max_jobs=2,
        max_attempts=3,
        lease_seconds=LEASE_SECONDS,
        on_moved=ends.note,
        on_forgotten=ends.note_forgotten,
    )
    job_id = await serving(stage)
    await stage.jobs.post(job_id, DeleteRequested(at=stage.clock.now()))
    await scheduler.pump()
    await stage.finish(ref(job_id))
    passing = asyncio.create_task(scheduler.pump())
    await engine.asked.wait()
    waiting = asyncio.create_task(ends.wait(job_id, 60.0))
    await asyncio.sleep(0)
    for _ in range(2):
        await ends.look()
    await asyncio.sleep(0)
    assert not waiting.done()
    engine.done.set()
    await waiting
    with pytest.raises(NoSuchJob):
        await stage.jobs.get_by_id(job_id)
    await passing


async def test_suspending_leaves_finite_jobs_to_their_agents(stage: Stage) -> None:
    """A server that ends takes the model servers along, not the jobs, unless asked to."""
    endpoint_id = await serving(stage)
    job_id = await stage.add()
    await stage.scheduler.pump()
    await stage.register(ref(job_id))
    await stage.scheduler.suspend(all_jobs=False)
    assert stage.engine.suspended == [ref(endpoint_id)]
    await stage.scheduler.suspend(all_jobs=True)
    assert set(stage.engine.suspended) == {ref(endpoint_id), ref(job_id)}


def test_the_lease_is_longer_than_a_heartbeat() -> None:
    """Otherwise every agent would be lost between two of them."""
    from millrace.settings import Settings

    assert timedelta(seconds=Settings().lease_seconds) > 3 * timedelta(seconds=Settings().heartbeat_seconds)
