"""Instances of a transform that run in one process."""

from pathlib import Path
from typing import Any, cast

from millrace.agents.breaking_off import StopWanted
from millrace.agents.process_journal import ProcessJournals
from millrace.agents.session import DetachedSession
from millrace.agents.transform import TransformAgent
from millrace.clock import SystemClock
from millrace.commands.local_instances import LocalInstances
from millrace.jobs.transform import InstanceOutcome, Progress
from millrace.store.filesystem import FilesystemObjects


class StoppedEarly:
    """An agent that is stopped while its model is unpacked."""

    progress = Progress(objects_total=2)

    async def run(self) -> InstanceOutcome:
        raise StopWanted

    @property
    def unfinished(self) -> InstanceOutcome:
        return InstanceOutcome(progress=self.progress, stopped=True)


async def test_a_stop_before_a_model_is_there_is_an_outcome(tmp_path: Path) -> None:
    """It is told as a stop at any other time is."""

    def make(session: DetachedSession, journals: ProcessJournals) -> TransformAgent:
        return cast(Any, StoppedEarly())  # type: ignore[no-any-return]

    sessions = [DetachedSession(SystemClock(), index) for index in range(2)]
    objects = FilesystemObjects(tmp_path)
    work = LocalInstances(sessions, make, objects=objects, bucket="shop", failures_kept=1, told=str)
    outcome = await work.run()
    assert outcome.stopped
    assert outcome.progress.objects_total == 4
