"""An agent's standing decides what it may still do."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace.agents.session import AgentSession, Suspended
from millrace.clock import SystemClock
from millrace.errors import LeaseLost
from millrace.jobs.job import JobKind
from millrace.ports.jobs import InstanceRef
from millrace.store.sql_jobs import SqlJobStore
from millrace.store.sqlite import SqliteDatabase
from millrace.testing.contract_jobs import transform_job


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[SqlJobStore]:
    database = SqliteDatabase(tmp_path / "state.db", durable=False)
    yield SqlJobStore(database, clock=SystemClock())
    database.close()


async def test_a_suspended_agent_may_only_help_its_successor(jobs: SqlJobStore) -> None:
    """It commits no results any more, but its checkpoints; neither once a later attempt is open."""
    job = await jobs.add(JobKind.TRANSFORM, transform_job("a"), {})
    first = InstanceRef(job_id=job.id, index=0, attempt=1)
    await jobs.open_instance(first)
    opening = AgentSession.open(first, jobs=jobs, clock=SystemClock(), heartbeat_seconds=3600, process_start=1)
    async with opening as session:
        await session.check_lease()
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(30):
            await session.stop.wait()
        with pytest.raises(Suspended):
            await session.check_lease()
        await session.check_attempt()
        await jobs.open_instance(InstanceRef(job_id=job.id, index=0, attempt=2))
        with pytest.raises(LeaseLost, match="attempt 1"):
            await session.check_attempt()
