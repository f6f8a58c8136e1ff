"""Which agents a server can tell alive or dead."""

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from millrace.engines.local import LocalEngine
from millrace.machine import machine_name
from millrace.ports.jobs import AgentRecord, InstanceRef
from millrace.process_groups import process_start

AT = datetime(2026, 1, 1, tzinfo=UTC)
START = process_start(os.getpid()) or 0
OURS = AgentRecord(
    ref=InstanceRef(job_id=1, index=0, attempt=1),
    agent_id="a",
    process_id=os.getpid(),
    process_start=START,
    host=machine_name(),
    registered_at=AT,
    heartbeat_at=AT,
    stop_wanted=False,
    progress=None,
)


@pytest.mark.parametrize(
    ("agent", "is_alone", "alive"),
    [
        (OURS, False, True),
        (replace(OURS, process_start=START + 1), False, False),
        (replace(OURS, host="another"), False, None),
        (replace(OURS, host="another"), True, False),
    ],
    ids=["ours", "its number is another's by now", "another machine's", "ours before a restart of the machine"],
)
def test_a_process_is_known_by_machine_number_and_start(
    tmp_path: Path, agent: AgentRecord, is_alone: bool, alive: bool | None
) -> None:
    """Of another machine's agents nothing can be told; where there is no other machine, they are from before."""
    engine = LocalEngine(tmp_path, tmp_path / "log", {}, on_exit=lambda: None, is_alone=is_alone)
    assert engine.is_alive(agent) is alive


async def test_working_files_of_a_job_that_comes_meanwhile_are_kept(tmp_path: Path) -> None:
    """What is to be kept is asked for after the folders were looked at."""
    engine = LocalEngine(tmp_path, tmp_path / "log", {}, on_exit=lambda: None)
    for job_id in ("1", "2"):
        (tmp_path / job_id / "0").mkdir(parents=True)

    async def list_kept() -> list[int]:
        (tmp_path / "3" / "0").mkdir(parents=True)
        return [2]

    await engine.sweep(list_kept)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "3"]
