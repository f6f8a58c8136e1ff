"""Run one transform in this process, without a server: what a request names is found, checked, and put together."""

import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from millrace import agent
from millrace.agents.backends import AgentBackends
from millrace.agents.process_journal import ProcessJournals
from millrace.agents.session import DetachedSession
from millrace.agents.transform import LOG_GROUP, DataPlane, TransformAgent
from millrace.clock import Clock, SystemClock
from millrace.commands.local_instances import LocalInstances
from millrace.commands.local_models import find_containers
from millrace.commands.local_places import Source, check_places, input_place, output_place
from millrace.commands.transform_keys import by_option
from millrace.commands.transform_request import TransformRequest
from millrace.containers import container_runtime, runnable_images
from millrace.dataplane.plan import InputObject
from millrace.dataplane.run import run_transform
from millrace.dataplane.validate import MAX_INSTANCES, validate_spec
from millrace.errors import ImageUnavailable, JobFailure, UsageError, ValidationError
from millrace.jobs.endpoint import ModelContainer
from millrace.jobs.transform import (
    AssembleWith,
    BatchStrategy,
    Compression,
    DataProcessing,
    InstanceOutcome,
    JoinSource,
    SplitType,
    TransformSpec,
)
from millrace.jobs.transform_options import RESUME_FROM, job_options
from millrace.names import DEFAULT_REGION, Arn, ObjectPrefix, ObjectRef, sagemaker_arn
from millrace.ports.logs import LogEvent, NoSuchLogStream
from millrace.settings import Settings
from millrace.store.filesystem import FilesystemObjects
from millrace.store.log_files import LogFiles

if TYPE_CHECKING:
    from millrace.dataplane.report import JobReport

__all__ = ["LocalTransform", "open_transform", "without_log"]

LEFT_DRAFT_AGE = timedelta(days=7)
"""Age of unfinished outputs in a local folder that a killed transform is taken to have left: no range waits as long."""

MIB = 1024 * 1024
_COUNTING = partial(run_transform, tells_rows=True)
"""Who watches is told how many rows the answers have."""

Choice = TypeVar("Choice", bound=StrEnum)


@dataclass(frozen=True, kw_only=True)
class LocalTransform:
    """A transform that was checked, and may be looked at or run. Local folders are buckets that `aliases` name."""

    settings: Settings
    request: TransformRequest
    spec: TransformSpec
    containers: tuple[ModelContainer, ...]
    arn: Arn
    created_at: datetime
    objects: FilesystemObjects
    backends: AgentBackends
    scratch: Path
    """A folder of this transform's own."""
    aliases: Mapping[str, Path]
    sessions: tuple[DetachedSession, ...]
    """The standing of each instance."""
    clock: Clock = field(default_factory=SystemClock)

    def instances(self, *, on_committed: Callable[[InputObject], None] | None = None) -> LocalInstances:
        """Return what runs it; once."""
        return LocalInstances(
            self.sessions,
            lambda session, journals: self._agent(session, journals=journals, on_committed=on_committed),
            objects=self.objects,
            bucket=self.spec.output.bucket,
            failures_kept=agent.limits(self.settings).failures_kept,
            told=self.told_text,
        )

    def trial(self, data_plane: DataPlane) -> TransformAgent:
        """Return what has one instance do something else with all objects; once."""
        spec = replace(self.spec, instance_count=1)
        return self._agent(self.sessions[0], spec=spec, data_plane=data_plane)

    def _agent(
        self,
        session: DetachedSession,
        *,
        spec: TransformSpec | None = None,
        journals: ProcessJournals | None = None,
        data_plane: DataPlane = _COUNTING,
        on_committed: Callable[[InputObject], None] | None = None,
    ) -> TransformAgent:
        folder = self.scratch / f"work-{session.ref.index}"
        folder.mkdir()
        # It costs syncs of the disk: only where instances must know of each other's work.
        shared = len(self.sessions) > 1 or job_options(self.spec.environment).range_bytes is not None
        journal = journals.of(session.ref.index) if journals is not None and shared else None
        return TransformAgent(
            spec or self.spec,
            self.containers,
            self.arn,
            self.created_at,
            folder,
            backends=replace(self.backends, session=session, journal=journal),
            grace_seconds=self.settings.serve_stop_grace_seconds,
            ping_window_seconds=self.settings.ping_window_seconds,
            limits=agent.limits(self.settings),
            data_plane=data_plane,
            on_committed=on_committed,
        )

    def stop(self) -> None:
        """Have the run end early; finished outputs stay. To be called on the run's event loop."""
        for session in self.sessions:
            session.stop.set()

    def report(self, outcomes: Sequence[InstanceOutcome], *, failure_reason: str | None = None) -> "JobReport":
        """Return the report of a run that ended now with the outcomes of its instances.

        Places are told as they were asked for. `failure_reason` is given for a run that ended without an outcome of its
        own.
        """
        from millrace.dataplane.report import local_report  # only where somebody asks for one

        report = local_report(self.spec, outcomes, arn=self.arn, created_at=self.created_at, ended_at=self.clock.now())
        report = replace(report, input=self.request.input, output=self.request.output)
        if failure_reason is not None:
            return replace(report, status="Failed", failure_reason=self.told_text(failure_reason))
        reason = report.failure_reason
        return report if reason is None else replace(report, failure_reason=without_log(reason))

    def log_tail(self, most: int) -> list[str]:
        """Return the last lines that the containers logged, in the order of their times."""
        logs = self.backends.logs
        events: list[LogEvent] = []
        with suppress(NoSuchLogStream):  # nothing was logged
            for stream in logs.list_streams(LOG_GROUP):
                if not stream.name.endswith("/data-log"):
                    events += logs.read_back(LOG_GROUP, stream.name, limit=most).events
        events.sort(key=lambda event: event.timestamp_ms)
        return [event.message for event in events[-most:]]

    def told(self, ref: ObjectRef) -> str:
        """Return an object as the person who asked knows it: a path, or an s3 address."""
        folder = self.aliases.get(ref.bucket)
        return str(ref) if folder is None else str(folder / ref.key)

    def told_text(self, text: str) -> str:
        """Return a message with places in it as the person who asked knows them."""
        for bucket, folder in self.aliases.items():
            text = text.replace(f"s3://{bucket}/", f"{folder}/".replace("//", "/"))
        return text


@asynccontextmanager
async def open_transform(
    settings: Settings, request: TransformRequest, scratch: Path, *, writes: bool = True
) -> AsyncIterator[LocalTransform]:
    """Find and check what a request names.

    Args:
        settings: The data directory's.
        request: What is asked for.
        scratch: An empty folder of this transform's own.
        writes: Whether there will be outputs; a local folder for them is made then.

    A JobFailure of the block tells places as they were asked for.

    Raises:
        UsageError: The request makes no sense; the message names the option.
    """
    aliases: dict[str, Path] = {}
    source = input_place(request.input, aliases, scratch, is_manifest=request.manifest)
    output = output_place(request.output, aliases, make=writes)
    containers = await find_containers(settings, request.model, request.image, aliases, scratch)
    spec = _spec(request, source, output)
    try:
        validate_spec(spec)
    except ValidationError as exc:
        raise UsageError(by_option(str(exc))) from exc
    if job_options(spec.environment).resume_from is not None:
        raise UsageError(f"--env {RESUME_FROM}: only jobs of a server can be resumed; see `millrace jobs resume`")
    images = runnable_images(settings, holds=True)
    try:
        for container in containers:
            images.resolve(container.image)
    except ImageUnavailable as exc:
        raise UsageError(f"--image: {exc}") from exc
    clock = SystemClock()
    objects = FilesystemObjects(settings.objects_dir, aliases=aliases, clock=clock)
    sessions = tuple(DetachedSession(clock, index) for index in range(request.instances))
    name = f"transform-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    backends = AgentBackends(
        session=sessions[0],
        objects=objects,
        logs=LogFiles(scratch / "logs"),
        images=images,
        runtime=container_runtime(settings, os.environ),
        endpoint_url=None,
        mint_credentials=_no_credentials,
    )
    try:
        if writes:
            await check_places(objects, spec, told_input=request.input, told_output=request.output)
            if spec.output.bucket in aliases:  # what killed transforms left there: no server looks after it
                await objects.sweep_alias(spec.output.bucket, drafts_older_than=LEFT_DRAFT_AGE)
        local = LocalTransform(
            settings=settings,
            request=request,
            spec=spec,
            containers=containers,
            arn=sagemaker_arn("transform-job", name, region=DEFAULT_REGION, account=settings.account),
            created_at=clock.now(),
            objects=objects,
            backends=backends,
            scratch=scratch,
            aliases=aliases,
            sessions=sessions,
        )
        try:
            yield local
        except JobFailure as failure:
            failure.args = (local.told_text(str(failure)),)
            raise
    finally:
        objects.close()


def without_log(reason: str) -> str:
    """Return a failure reason without the sentence that leads to a job's log: a local transform has none."""
    return reason.replace("See job logs for more information. ", "")


async def _no_credentials(session_name: str) -> Mapping[str, str]:
    """There is no server that keys could be for."""
    return {}


def _spec(request: TransformRequest, source: Source, output: ObjectPrefix) -> TransformSpec:
    payload = request.max_payload_in_mb
    return TransformSpec(
        model=request.model,
        source=source.place,
        source_type=source.kind,
        output=output,
        split=_one_of(SplitType, request.split_type, "--split-type"),
        compression=_one_of(Compression, request.compression, "--compression-type"),
        assemble_with=_one_of(AssembleWith, request.assemble_with, "--assemble-with"),
        content_type=request.content_type,
        accept=request.accept,
        instance_count=_checked_instances(request.instances),
        max_concurrent_transforms=request.max_concurrent_transforms,
        max_payload_bytes=None if payload is None else payload * MIB,
        strategy=None if request.strategy is None else _one_of(BatchStrategy, request.strategy, "--strategy"),
        invocation_timeout_seconds=float(request.timeout_seconds),
        invocation_max_retries=request.max_retries,
        processing=DataProcessing(
            input_filter=request.input_filter,
            output_filter=request.output_filter,
            join_source=_one_of(JoinSource, request.join_source, "--join-source"),
        ),
        environment=request.environment,
    )


def _checked_instances(count: int) -> int:
    if not 1 <= count <= MAX_INSTANCES:
        raise UsageError(f"--instances must be between 1 and {MAX_INSTANCES}, got {count}")
    return count


def _one_of(choices: type[Choice], value: str, option: str) -> Choice:
    try:
        return choices(value)
    except ValueError:
        raise UsageError(f"{option} must be one of [{', '.join(choices)}], got {value!r}") from None
