"""One processing job: inputs in, containers run, outputs out."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from millrace.agents.backends import AgentBackends
from millrace.agents.channels import Member, feed_pipe, list_channel, materialise, shard
from millrace.agents.confined import read_head
from millrace.agents.folder_sync import FolderSync
from millrace.agents.hosts import Ending, Host, HostGroup, exit_reason
from millrace.agents.job_config import container_command
from millrace.agents.processing_config import config_files, processing_environment
from millrace.errors import ClientFailure, ImageUnavailable, JobFailure, RuntimeUnavailable
from millrace.jobs.channel import Channel, InputMode
from millrace.jobs.job import InstanceStarted, ProcessingJob
from millrace.jobs.processing import (
    EXIT_MESSAGE_BYTES,
    ProcessingOutcome,
    ProcessingOutput,
    UploadMode,
    exit_message,
    last_lines,
)
from millrace.ports.objects import ObjectStoreError
from millrace.ports.runtime import Image

__all__ = ["LOG_GROUP", "ProcessingAgent"]

LOG_GROUP = "/aws/sagemaker/ProcessingJobs"

_PARTS = ("config", "processing", "output")

Sync = tuple[ProcessingOutput, FolderSync]


class ProcessingAgent:
    """Runs a processing job. One agent owns all hosts of the job: the first failure ends all of them."""

    def __init__(
        self,
        job: ProcessingJob,
        request: Mapping[str, Any],
        folder: Path,
        *,
        backends: AgentBackends,
        stop_grace_seconds: float,
    ) -> None:
        """Take the job, and the request that the containers are told of."""
        self._job = job
        self._spec = job.spec
        self._request = request
        self._folder = folder
        self._backends = backends
        self._session = backends.session
        self._grace = stop_grace_seconds

    async def run(self) -> ProcessingOutcome:
        """Do the whole job; failures of the job are in the outcome, LeaseLost passes through."""
        session = self._session
        ref = session.ref
        await session.post(InstanceStarted(at=session.clock.now(), index=ref.index, attempt=ref.attempt))
        group: HostGroup | None = None
        try:
            image = self._backends.images.resolve(self._spec.image)
            folders = [f"processing/{it.folder}" for it in self._spec.outputs]
            group = await HostGroup.prepare(
                self._job,
                self._spec.hosts,
                self._folder,
                image=image,
                parts=(*_PARTS, *folders),
                log_group=LOG_GROUP,
                backends=self._backends,
                max_runtime_seconds=self._spec.max_runtime_seconds,
                stop_grace_seconds=self._grace,
            )
            return await self._work(group, image)
        except JobFailure as failure:
            return ProcessingOutcome(failure_reason=failure.reason)
        except (ImageUnavailable, RuntimeUnavailable, ObjectStoreError) as exc:
            return ProcessingOutcome(failure_reason=ClientFailure(str(exc)).reason)
        finally:
            if group is not None:
                group.flush()

    async def _work(self, group: HostGroup, image: Image) -> ProcessingOutcome:
        for host in group.hosts:
            for file, text in config_files(self._job, self._request, host.name).items():
                (host.opt_ml / "config" / file).write_text(text, "utf-8")
        pipes = await self._bring_inputs(group.hosts, image)
        syncs = self._syncs(group.hosts)
        ending = await self._process(group, image, pipes, syncs)
        reason = _failure(ending)
        for output, sync in syncs:
            try:
                await sync.send()
            except (JobFailure, ObjectStoreError, OSError) as exc:
                reason = reason or ClientFailure(f"output {output.name!r} could not be stored: {exc}").reason
        message = None
        try:
            message = exit_message(
                {it.name: read_head(it.opt_ml, "output/message", EXIT_MESSAGE_BYTES) for it in group.hosts}
            )
        except ClientFailure as failure:
            reason = reason or failure.reason
        return ProcessingOutcome(failure_reason=reason, stopped=ending.interrupted, exit_message=message)

    async def _bring_inputs(self, hosts: Sequence[Host], image: Image) -> list[tuple[Path, Channel, list[Member]]]:
        """Materialise file inputs; return what is to be piped: folder, channel, objects."""
        pipes = []
        for entry in self._spec.inputs:
            channel = entry.channel
            members = await list_channel(self._backends.objects, channel)
            for number, host in enumerate(hosts):
                mine = shard(members, channel, number, len(hosts))
                folder = host.opt_ml / "processing" / entry.folder
                if channel.mode is InputMode.PIPE:
                    pipes.append((folder.parent, channel, mine))
                else:
                    link = image.built_in is not None
                    await materialise(self._backends.objects, mine, folder, link=link, replace=True)
        return pipes

    def _syncs(self, hosts: Sequence[Host]) -> list[Sync]:
        return [
            (
                output,
                FolderSync(
                    self._backends.objects,
                    host.opt_ml,
                    f"processing/{output.folder}",
                    output.target,
                    self._session.clock,
                    what=f"output {output.name!r}",
                    mirror_deletions=False,
                    check_lease=self._session.check_lease,
                    report=host.stream.write_now,
                ),
            )
            for output in self._spec.outputs
            for host in hosts
        ]

    async def _process(
        self,
        group: HostGroup,
        image: Image,
        pipes: Sequence[tuple[Path, Channel, list[Member]]],
        syncs: Sequence[Sync],
    ) -> Ending:
        spec, arn = self._spec, self._job.arn
        command = container_command(image, spec.entrypoint, spec.arguments, default=image.default_arguments)
        background = [
            asyncio.create_task(feed_pipe(self._backends.objects, channel, it, path)) for path, channel, it in pipes
        ]
        background += [
            asyncio.create_task(sync.run()) for output, sync in syncs if output.mode is UploadMode.CONTINUOUS
        ]
        ending = await group.run(
            image,
            command,
            lambda host, credentials: processing_environment(
                spec, arn, host.name, endpoint_url=self._backends.endpoint_url, credentials=credentials
            ),
            background=background,
            network_isolation=spec.network_isolation,
        )
        if ending.time_limit_reached:
            for host in group.hosts:
                host.stream.write_now(f"stopped: MaxRuntimeInSeconds of {spec.max_runtime_seconds} is over")
        return ending


def _failure(ending: Ending) -> str | None:
    """Return the FailureReason of the first host that failed, or None.

    Source:
        containers.md 4.5.
    """
    if ending.failed is None:
        return None
    host, status = ending.failed
    return exit_reason(last_lines(host.stream.tail), status, label="AlgorithmError")
