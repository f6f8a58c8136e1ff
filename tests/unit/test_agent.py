"""How the agent ends when it cannot report."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from millrace import settings as settings_module
from millrace.agent import Agent
from millrace.agents.session import DetachedSession
from millrace.clock import SystemClock
from millrace.errors import LeaseLost, StoreUnavailable
from millrace.jobs.job import Event, InstanceFinished
from millrace.ports.jobs import InstanceRef
from millrace.testing.contract_jobs import transform_job

REF = InstanceRef(job_id=1, index=0, attempt=1)


class Troubled(DetachedSession):
    """A standing whose reports fail."""

    def __init__(self, trouble: Exception) -> None:
        super().__init__(SystemClock())
        self._trouble = trouble

    async def post(self, event: Event) -> None:
        raise self._trouble


async def work(folder: Path, trouble: Exception) -> InstanceFinished:
    """Have an agent work whose first report ends in trouble."""
    settings = settings_module.load({}, data_dir=folder)
    with closing(Agent(settings, REF, os.environ)) as agent:
        return await agent.work(transform_job("j"), Troubled(trouble))


@pytest.mark.parametrize("trouble", [StoreUnavailable("database is locked"), LeaseLost("another has it")])
async def test_trouble_of_the_state_store_is_no_outcome(tmp_path: Path, trouble: Exception) -> None:
    """An agent that cannot reach the state, or lost its lease, says nothing of the job: the next attempt does."""
    with pytest.raises(type(trouble), match=str(trouble)):
        await work(tmp_path, trouble)


async def test_a_fault_of_ours_is_an_outcome(tmp_path: Path) -> None:
    """Any other error ends the instance, and its reason names it."""
    finished = await work(tmp_path, LookupError("no such thing"))
    assert finished.failure_reason is not None
    assert finished.failure_reason.startswith("InternalServerError: ")
    assert "(LookupError: no such thing)" in finished.failure_reason


def test_an_agent_without_a_state_store_ends_without_a_word(tmp_path: Path) -> None:
    """The exit code is 1, which has the scheduler start another attempt, and one line of the log says why."""
    settings = settings_module.load({}, data_dir=tmp_path)
    with closing(sqlite3.connect(settings.database_path)) as connection:
        connection.execute("PRAGMA user_version = 100000")
    done = subprocess.run(
        [sys.executable, "-m", "millrace.agent", "1", "0", "1"],
        env={**os.environ, **settings_module.as_environment(settings)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "state store unavailable" in done.stderr
    assert "schema version 100000 is newer" in done.stderr
    assert "Traceback" not in done.stderr
