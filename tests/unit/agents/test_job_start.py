"""All instances of a job tell one start, whoever asks first."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from millrace.agents.job_start import find_job_start
from millrace.clock import SystemClock
from millrace.jobs.job import InstanceStarted, Job, JobKind, StopRequested
from millrace.store.sql_jobs import SqlJobStore
from millrace.store.sqlite import SqliteDatabase
from millrace.testing.contract_jobs import START, transform_job


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[SqlJobStore]:
    database = SqliteDatabase(tmp_path / "state.db", durable=False)
    yield SqlJobStore(database, clock=SystemClock())
    database.close()


async def added(jobs: SqlJobStore, name: str) -> Job:
    return await jobs.add(JobKind.TRANSFORM, transform_job(name), {})


def started(seconds: int, index: int) -> InstanceStarted:
    return InstanceStarted(at=START + timedelta(seconds=seconds), index=index, attempt=1)


async def test_a_job_that_nobody_reported_has_no_start(jobs: SqlJobStore) -> None:
    """Reports of other jobs and other events do not count."""
    job, other = await added(jobs, "a"), await added(jobs, "b")
    await jobs.post(other.id, started(1, 0))
    await jobs.post(job.id, StopRequested(at=START))
    assert await find_job_start(jobs, job.id) is None


async def test_the_first_report_is_the_start(jobs: SqlJobStore) -> None:
    """While reports wait to be applied the oldest one counts, for it will be applied first."""
    job = await added(jobs, "a")
    await jobs.post(job.id, started(3, 1))
    await jobs.post(job.id, started(2, 0))
    assert await find_job_start(jobs, job.id) == START + timedelta(seconds=3)


async def test_a_noted_start_stays(jobs: SqlJobStore) -> None:
    """Later reports, of other instances or attempts, change nothing."""
    job = await added(jobs, "a")
    await jobs.save(replace(job, started_at=START))
    await jobs.post(job.id, started(9, 0))
    assert await find_job_start(jobs, job.id) == START
