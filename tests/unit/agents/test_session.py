"""An agent's standing decides what it may still do."""

import asyncio
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from millrace.agents.session import PATIENCE_SECONDS, AgentSession, Suspended
from millrace.clock import SystemClock
from millrace.errors import LeaseLost, StoreUnavailable
from millrace.jobs.job import JobKind
from millrace.ports.jobs import InstanceRef
from millrace.store.sql_jobs import SqlJobStore
from millrace.store.sqlite import SqliteDatabase
from millrace.testing.clock import ManualClock
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


async def test_an_agent_whose_state_is_gone_gives_up(tmp_path: Path) -> None:
    """It works on while the state does not answer for a while, and not for ever."""
    database = SqliteDatabase(tmp_path / "state.db", durable=False)
    silent = _SilentStore(database, clock=SystemClock())
    job = await silent.add(JobKind.TRANSFORM, transform_job("a"), {})
    first = InstanceRef(job_id=job.id, index=0, attempt=1)
    await silent.open_instance(first)
    clock = ManualClock()
    opening = AgentSession.open(first, jobs=silent, clock=clock, heartbeat_seconds=0.001, process_start=1)
    async with asyncio.timeout(30), opening as session:
        await silent.asked_again()
        clock.advance(PATIENCE_SECONDS)
        await silent.asked_again()
        assert not session.lost.is_set()
        clock.advance(1)
        await session.lost.wait()
        assert session.stop.is_set()
    database.close()


@pytest.mark.parametrize("turns", range(6))
async def test_an_agent_that_is_told_something_as_it_ends_ends(jobs: SqlJobStore, turns: int) -> None:
    """In whichever turn of the loop it hears of it: it does not beat on for ever."""
    job = await jobs.add(JobKind.TRANSFORM, transform_job("a"), {})
    first = InstanceRef(job_id=job.id, index=0, attempt=1)
    await jobs.open_instance(first)
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR2, told.set)
    async with asyncio.timeout(10):
        async with AgentSession.open(first, jobs=jobs, clock=SystemClock(), heartbeat_seconds=3600, process_start=1):
            for _ in range(9):
                await asyncio.sleep(0)  # until it waits
            os.kill(os.getpid(), signal.SIGUSR1)
            os.kill(os.getpid(), signal.SIGUSR2)  # taken behind the other one
            await told.wait()
            for _ in range(turns):
                await asyncio.sleep(0)
    loop.remove_signal_handler(signal.SIGUSR2)


class _SilentStore(SqlJobStore):
    """A store that has answered for the last time when an agent registered."""

    asked = 0

    async def heartbeat(self, ref: InstanceRef, agent_id: str, progress: Mapping[str, Any] | None) -> bool:
        self.asked += 1
        raise StoreUnavailable("gone")

    async def asked_again(self) -> None:
        """Return once two more heartbeats have failed, the first of which may have begun before."""
        until = self.asked + 2
        while self.asked < until:
            await asyncio.sleep(0)
