"""An event loop that is busy keeps its lease, one that hangs does not."""

import asyncio
import threading
from contextlib import closing
from pathlib import Path

import pytest

from millrace.agents.busy_loop import MOST_SECONDS, BusyLoop
from millrace.agents.session import AgentSession
from millrace.clock import SystemClock
from millrace.errors import LeaseLost, StoreUnavailable
from millrace.jobs.job import JobKind
from millrace.ports.jobs import InstanceRef
from millrace.store.sql_jobs import SqlJobStore
from millrace.store.sqlite import SqliteDatabase
from millrace.testing.clock import ManualClock
from millrace.testing.contract_jobs import transform_job

SOON = 0.01


async def test_a_heartbeat_comes_while_the_loop_is_busy(tmp_path: Path) -> None:
    """It is sent from a thread, over a connection of its own, and is as good as any."""
    path, beaten = tmp_path / "state.db", threading.Event()

    def beat_alone(ref: InstanceRef, agent_id: str) -> None:
        with closing(SqliteDatabase(path, durable=False)) as database:
            asyncio.run(SqlJobStore(database, clock=SystemClock()).heartbeat(ref, agent_id, None))
        beaten.set()

    with closing(SqliteDatabase(path, durable=False)) as database:
        jobs = SqlJobStore(database, clock=SystemClock())
        job = await jobs.add(JobKind.TRANSFORM, transform_job("a"), {})
        first = InstanceRef(job_id=job.id, index=0, attempt=1)
        await jobs.open_instance(first)
        async with AgentSession.open(
            first,
            jobs=jobs,
            clock=SystemClock(),
            heartbeat_seconds=3600,
            process_start=1,
            busy_seconds=SOON,
            beat_alone=beat_alone,
        ):
            before = await jobs.get_agent(first)
            assert beaten.wait(30), "this blocks the loop"
            after = await jobs.get_agent(first)
    assert before is not None
    assert after is not None
    assert after.heartbeat_at > before.heartbeat_at


def test_nobody_beats_for_a_loop_that_beats_or_that_hangs() -> None:
    """A loop that was heard of a moment ago needs no help, and one that has been silent for minutes gets none."""
    clock = ManualClock()
    busy = BusyLoop(lambda: None, clock=clock, after_seconds=5)
    assert not busy.is_silent()
    clock.advance(5)
    assert busy.is_silent()
    busy.has_beaten()
    assert not busy.is_silent()
    clock.advance(MOST_SECONDS)
    assert not busy.is_silent()


@pytest.mark.parametrize(("error", "goes_on"), [(StoreUnavailable("gone"), True), (LeaseLost("another's"), False)])
def test_a_state_that_does_not_answer_is_asked_again(error: Exception, goes_on: bool) -> None:
    """Somebody who has lost the lease is not."""
    asked = threading.Semaphore(0)

    def beat() -> None:
        asked.release()
        raise error

    with BusyLoop(beat, clock=SystemClock(), after_seconds=SOON):
        assert asked.acquire(timeout=30)
        if goes_on:
            assert asked.acquire(timeout=30)
        else:
            for thread in threading.enumerate():
                if thread.name == "millrace-busy-loop":
                    thread.join(timeout=30)
            assert not asked.acquire(blocking=False)
