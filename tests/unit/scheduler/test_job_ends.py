"""Waiting for the end of a job."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from millrace.clock import SystemClock
from millrace.jobs.endpoint import EndpointSpec
from millrace.jobs.job import EndpointJob, JobKind, JobStatus
from millrace.names import sagemaker_arn
from millrace.scheduler.job_ends import JobEnds
from millrace.store.sql_jobs import SqlJobStore
from millrace.store.sqlite import SqliteDatabase
from millrace.testing.contract_jobs import added

LONG = 60.0


@pytest.fixture
async def jobs(tmp_path: Path) -> AsyncIterator[SqlJobStore]:
    database = SqliteDatabase(tmp_path / "state.db", durable=False)
    yield SqlJobStore(database, clock=SystemClock())
    database.close()


async def held(ends: JobEnds, job_id: int) -> "asyncio.Task[None]":
    """Return a wait that has begun."""
    waiting = asyncio.create_task(ends.wait(job_id, LONG))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not waiting.done()
    return waiting


def endpoint() -> EndpointJob:
    spec = EndpointSpec(config="c", variants=())
    arn = sagemaker_arn(JobKind.ENDPOINT, "going", region="us-east-1", account="000000000000")
    now = SystemClock().now()
    return EndpointJob(name="going", arn=arn, status=JobStatus.CREATING, created_at=now, modified_at=now, spec=spec)


async def test_a_move_of_our_own_ends_the_wait(jobs: SqlJobStore) -> None:
    """Every waiter is woken, by the end and not by a move before it."""
    ends = JobEnds(jobs)
    job = await added(jobs)
    waiting = [await held(ends, job.id) for _ in range(2)]
    ends.note(job)
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    ends.note(replace(job, status=JobStatus.COMPLETED))
    await asyncio.gather(*waiting)


async def test_a_move_of_another_server_is_found_by_looking(jobs: SqlJobStore) -> None:
    """Its end, and its being forgotten."""
    ends = JobEnds(jobs)
    job = await added(jobs)
    waiting = await held(ends, job.id)
    await ends.look()
    assert not waiting.done()
    await jobs.save(replace(job, status=JobStatus.FAILED))
    await ends.look()
    await waiting
    waiting = asyncio.create_task(ends.wait(job.id, LONG))
    await jobs.forget(job.id)
    await ends.look()
    await waiting


async def test_an_end_before_the_wait_is_no_wait(jobs: SqlJobStore) -> None:
    """The job may have ended since the caller read it."""
    job = await added(jobs)
    await jobs.save(replace(job, status=JobStatus.COMPLETED))
    await JobEnds(jobs).wait(job.id, LONG)


async def test_an_endpoint_that_goes_is_waited_for_until_its_record_is_gone(jobs: SqlJobStore) -> None:
    """It has no instance any more, but its files are removed still: whoever asks would be told that it is there."""
    ends = JobEnds(jobs)
    job = (await jobs.add(JobKind.ENDPOINT, endpoint(), {})).id
    going = await jobs.save(replace(await jobs.get_by_id(job), status=JobStatus.DELETING, instances=()))
    waiting = await held(ends, job)
    ends.note(going)
    await ends.look()
    assert not waiting.done()
    await jobs.forget(job)
    ends.note_forgotten(job)
    await waiting


async def test_waits_end_with_the_server_and_with_their_time(jobs: SqlJobStore) -> None:
    """Nothing of them is left."""
    ends = JobEnds(jobs)
    job = await added(jobs)
    waiting = await held(ends, job.id)
    ends.release()
    await waiting
    await ends.wait(job.id, 0.0)
    await jobs.forget(job.id)
    await ends.look()
