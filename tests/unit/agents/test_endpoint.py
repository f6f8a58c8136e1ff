"""An endpoint's instance that can't be brought into service says why."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.unit.agents.endless_model import EndlessModel

from millrace.agents.backends import AgentBackends
from millrace.agents.endpoint import EndpointAgent
from millrace.agents.session import DetachedSession
from millrace.clock import SystemClock
from millrace.jobs.endpoint import EndpointSpec, ModelContainer, ModelData, Variant
from millrace.jobs.job import EndpointJob, Instance, InstanceState, JobStatus
from millrace.names import ObjectRef, sagemaker_arn
from millrace.ports.logs import LogEvent
from millrace.ports.runtime import Image
from millrace.runtimes.process import ProcessRuntime
from millrace.store.filesystem import FilesystemObjects
from millrace.store.log_files import LogFiles
from millrace.testing.clock import ManualClock

UNDER_WAY = 600.0


class HeardLogs(LogFiles):
    """Tells when a line has arrived."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.heard = asyncio.Event()

    def append(self, group: str, stream: str, events: Sequence[LogEvent]) -> None:
        super().append(group, stream, events)
        self.heard.set()


class StuckObjects(FilesystemObjects):
    """A store whose objects never come."""

    async def open_local(self, ref: ObjectRef) -> Any:
        await asyncio.Event().wait()


class OneImage:
    """Knows a single image, whatever is asked for."""

    def __init__(self, *command: str) -> None:
        self._image = Image(uri="u", name="n", command=command)

    def resolve(self, uri: str) -> Image:
        return self._image


async def no_credentials(name: str) -> dict[str, str]:
    return {}


def agent(tmp_path: Path, container: ModelContainer, *command: str, **members: Any) -> EndpointAgent:
    now = SystemClock().now()
    spec = EndpointSpec(config="c", variants=(Variant(name="blue", model="m", containers=(container,)),))
    job = EndpointJob(
        name="e",
        arn=sagemaker_arn("endpoint", "e", region="us-east-1"),
        status=JobStatus.CREATING,
        created_at=now,
        modified_at=now,
        spec=spec,
    )
    instance = Instance(
        index=0,
        state=InstanceState.STARTING,
        attempt=1,
        variant="blue",
        containers=(container,),
        startup_timeout_seconds=UNDER_WAY,
        download_timeout_seconds=members.get("download_timeout_seconds", UNDER_WAY),
    )
    backends = AgentBackends(
        session=members.get("session") or DetachedSession(members.get("clock", SystemClock())),
        objects=members.get("objects") or FilesystemObjects(tmp_path / "objects", durable=False),
        logs=members.get("logs") or LogFiles(tmp_path / "logs"),
        images=OneImage(*command),
        runtime=ProcessRuntime(os.environ),
        endpoint_url=None,
        mint_credentials=no_credentials,
    )
    return EndpointAgent(job, instance, tmp_path / "shop", backends=backends, grace_seconds=1.0)


@pytest.mark.spec("containers 5.4")
async def test_a_container_that_never_answers_is_told_with_its_last_lines(tmp_path: Path) -> None:
    """The reason speaks of the ping health check, of the time that was allowed, and of what the container said."""
    clock, logs = ManualClock(), HeardLogs(tmp_path / "logs")
    waiting = agent(
        tmp_path, ModelContainer(image="u"), "sh", "-c", "echo no model here; exec sleep 600", clock=clock, logs=logs
    )
    running = asyncio.create_task(waiting.run())
    await logs.heard.wait()
    await clock.sleepers(1)
    clock.advance(UNDER_WAY)
    reason = await running
    assert reason is not None
    assert "variant blue did not pass the ping health check" in reason
    assert f"within {UNDER_WAY:g} seconds" in reason
    assert reason.endswith("last log lines: no model here")


async def test_model_data_that_do_not_come_are_told_by_the_setting_that_waits_for_them(tmp_path: Path) -> None:
    """ModelDataDownloadTimeoutInSeconds is the variant's."""
    container = ModelContainer(image="u", data=ModelData(uri="s3://shop/model.tar.gz"))
    stuck = agent(
        tmp_path,
        container,
        "true",
        objects=StuckObjects(tmp_path / "objects", durable=False),
        download_timeout_seconds=0.01,
    )
    reason = await stuck.run()
    assert reason is not None
    assert "s3://shop/model.tar.gz must be there within 0.01 seconds (ModelDataDownloadTimeoutInSeconds)" in reason


async def test_a_stop_while_a_model_is_unpacked_is_no_failure(tmp_path: Path) -> None:
    """An endpoint that is deleted does not wait for a model that takes its time."""
    store, session = EndlessModel(tmp_path / "objects"), DetachedSession(SystemClock())
    starting = agent(tmp_path, ModelContainer(image="u", data=store.data), "true", objects=store, session=session)
    running = asyncio.create_task(starting.run())
    await store.under_way.wait()
    session.stop.set()
    assert await running is None
    await store.closed()
