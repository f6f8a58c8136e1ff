"""One training job: data in, containers run, artifacts out."""

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from millrace.agents.archives import pack
from millrace.agents.backends import AgentBackends
from millrace.agents.channels import Member, feed_pipe, list_channel, materialise, shard
from millrace.agents.checkpoints import CheckpointSync
from millrace.agents.log_stream import LogStream
from millrace.agents.metrics import MetricReader
from millrace.agents.objects import upload_stream, upload_tree
from millrace.agents.training_config import config_files, container_command, platform_environment
from millrace.errors import FAILURE_REASON_LIMIT, ClientFailure, ImageUnavailable, JobFailure, RuntimeUnavailable
from millrace.jobs.job import InstanceStarted, SecondaryStatus, StageEntered, TrainingJob
from millrace.jobs.training import Channel, InputMode, TrainingOutcome
from millrace.names import ObjectPrefix
from millrace.ports.objects import ObjectStoreError
from millrace.ports.runtime import Container, ContainerSpec, ExitStatus, Image

__all__ = ["LOG_GROUP", "TrainingAgent"]

log = logging.getLogger(__name__)

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
MAX_FAILURE_BYTES = 4096
USER_FAULT_EXIT_CODE = 2
"""With this a built-in algorithm says that its input is at fault (algorithms.md 4)."""

_LABELS = ("AlgorithmError:", "ClientError:", "InternalServerError:")


@dataclass
class _Host:
    """One host of the job and what runs on it."""

    name: str
    opt_ml: Path
    stream: LogStream
    container: Container | None = None


class TrainingAgent:
    """Runs a training job. One agent owns all hosts of the job, because their model folders become one archive."""

    def __init__(
        self,
        job: TrainingJob,
        folder: Path,
        *,
        backends: AgentBackends,
        stop_grace_seconds: float,
    ) -> None:
        self._job = job
        self._spec = job.spec
        self._folder = folder
        self._backends = backends
        self._session = backends.session
        self._grace = stop_grace_seconds
        self._metrics = MetricReader(job.spec.metrics)

    async def run(self) -> TrainingOutcome:
        """Do the whole job; failures of the job are in the outcome, LeaseLost passes through."""
        session = self._session
        ref = session.ref
        await session.post(InstanceStarted(at=session.clock.now(), index=ref.index, attempt=ref.attempt))
        started = session.clock.monotonic()
        hosts: list[_Host] = []
        try:
            image = self._backends.images.resolve(self._spec.image)
            await self._backends.runtime.end_left_over(self._folder)
            hosts = self._prepare_hosts(image)
            await self._stage(SecondaryStatus.DOWNLOADING)
            pipes = await self._bring_channels(hosts, image)
            await self._stage(SecondaryStatus.TRAINING)
            outcome = await self._train(hosts, image, pipes)
        except JobFailure as failure:
            outcome = TrainingOutcome(failure_reason=failure.reason)
        except (ImageUnavailable, RuntimeUnavailable, ObjectStoreError) as exc:
            outcome = TrainingOutcome(failure_reason=ClientFailure(str(exc)).reason)
        for host in hosts:
            host.stream.flush()
        seconds = round(self._session.clock.monotonic() - started)
        return TrainingOutcome(
            failure_reason=outcome.failure_reason,
            stopped=outcome.stopped,
            time_limit_reached=outcome.time_limit_reached,
            model=outcome.model,
            metrics=self._metrics.values,
            training_seconds=max(1, seconds),
        )

    async def _stage(self, stage: SecondaryStatus) -> None:
        session = self._session
        await session.post(
            StageEntered(at=session.clock.now(), index=session.ref.index, attempt=session.ref.attempt, stage=stage)
        )

    def _prepare_hosts(self, image: Image) -> list[_Host]:
        names = self._spec.hosts[:1] if image.single_host else self._spec.hosts
        epoch = int(self._job.created_at.timestamp())
        hosts = []
        for name in names:
            opt_ml = self._folder / name / "opt" / "ml"
            shutil.rmtree(self._folder / name, ignore_errors=True)
            for part in ("input/config", "input/data", "model", "output/data", "code"):
                (opt_ml / part).mkdir(parents=True)
            for file, text in config_files(self._spec, name).items():
                (opt_ml / "input" / "config" / file).write_text(text, "utf-8")
            stream = LogStream(self._backends.logs, LOG_GROUP, f"{self._job.name}/{name}-{epoch}")
            hosts.append(_Host(name=name, opt_ml=opt_ml, stream=stream))
        return hosts

    async def _bring_channels(self, hosts: list[_Host], image: Image) -> list[tuple[Path, Channel, list[Member]]]:
        """Materialise file channels; return what is to be piped: folder, channel, objects."""
        pipes = []
        for channel in self._spec.channels:
            members = await list_channel(self._backends.objects, channel)
            for number, host in enumerate(hosts):
                mine = shard(members, channel, number, len(hosts))
                data = host.opt_ml / "input" / "data"
                if channel.mode is InputMode.PIPE:
                    pipes.append((data, channel, mine))
                else:
                    await materialise(
                        self._backends.objects, mine, data / channel.name, link=image.built_in is not None
                    )
        return pipes

    async def _train(
        self, hosts: list[_Host], image: Image, pipes: list[tuple[Path, Channel, list[Member]]]
    ) -> TrainingOutcome:
        syncs = await self._restore_checkpoints(hosts)
        background = [
            asyncio.create_task(feed_pipe(self._backends.objects, channel, it, path)) for path, channel, it in pipes
        ]
        background += [asyncio.create_task(sync.run()) for sync in syncs]
        try:
            await self._session.check_lease()  # the checkpoints took a while: the folder may be another attempt's
            await self._launch(hosts, image)
            statuses, stopped, limit = await self._watch(hosts, background)
        finally:
            await self._end(hosts, background)
            for sync in syncs:
                await sync.finish()
        reason = None if stopped or limit else self._failure(hosts, statuses, image)
        await self._stage(SecondaryStatus.UPLOADING)
        model = await self._upload(hosts, with_model=reason is None)
        return TrainingOutcome(failure_reason=reason, stopped=stopped or limit, time_limit_reached=limit, model=model)

    async def _restore_checkpoints(self, hosts: list[_Host]) -> list[CheckpointSync]:
        config = self._spec.checkpoints
        if config is None:
            return []
        syncs = []
        for host in hosts:
            inside = config.local_path.removeprefix("/opt/ml/").strip("/") or "checkpoints"
            sync = CheckpointSync(
                self._backends.objects,
                host.opt_ml / inside,
                config.target,
                self._session.clock,
                # also once suspended: the attempt that follows goes on from them
                check_lease=self._session.check_attempt,
                report=host.stream.write_now,
            )
            await sync.restore()
            syncs.append(sync)
        return syncs

    async def _launch(self, hosts: list[_Host], image: Image) -> None:
        credentials = await self._backends.mint_credentials(self._job.name)
        for host in hosts:
            host.container = await self._backends.runtime.launch(
                ContainerSpec(
                    name=f"{self._job.name}-{host.name}",
                    image=image,
                    command=container_command(self._spec, image.command),
                    environment=platform_environment(
                        self._spec,
                        self._job.arn,
                        host.name,
                        endpoint_url=self._backends.endpoint_url,
                        credentials=credentials,
                    ),
                    opt_ml=host.opt_ml,
                    on_line=partial(self._read_line, host),
                )
            )

    def _read_line(self, host: _Host, timestamp_ms: int, line: str) -> None:
        host.stream.write(timestamp_ms, line)
        self._metrics.read(timestamp_ms, line)

    async def _watch(
        self, hosts: list[_Host], background: list[asyncio.Task[None]]
    ) -> tuple[dict[str, ExitStatus], bool, bool]:
        """Wait for all hosts to end well, for the first to fail, for a stop or for the time limit.

        Returns the statuses of the hosts that ended by themselves, and whether stop or limit ended the rest.
        """
        running = {asyncio.create_task(host.container.wait()): host for host in hosts if host.container is not None}
        stop = asyncio.create_task(self._session.stop.wait())
        limit = asyncio.create_task(self._session.clock.sleep(self._seconds_left()))
        statuses: dict[str, ExitStatus] = {}
        done: set[asyncio.Task[Any]]
        try:
            while running:
                done, _ = await asyncio.wait({*running, stop, limit, *background}, return_when=asyncio.FIRST_COMPLETED)
                for task in [task for task in running if task in done]:
                    statuses[running.pop(task).name] = task.result()
                # First: a program that was fed half of its data may well end, even well, for that reason.
                for broken in [task for task in background if task in done]:
                    broken.result()  # raises: a background task has no other way to end
                if any(not status.ok for status in statuses.values()) or not running:
                    break
                if stop in done:
                    return statuses, True, False
                if limit in done:
                    return statuses, False, True
            return statuses, False, False
        finally:
            for unfinished in (*running, stop, limit):
                unfinished.cancel()

    def _seconds_left(self) -> float:
        """The time limit counts from the job's start, over all attempts."""
        started = self._job.started_at or self._session.clock.now()
        used = (self._session.clock.now() - started).total_seconds()
        return max(0.0, self._spec.max_runtime_seconds - used)

    async def _end(self, hosts: list[_Host], background: list[asyncio.Task[None]]) -> None:
        stopping = [host.container.stop(self._grace) for host in hosts if host.container is not None]
        await asyncio.gather(*stopping)
        for task in background:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task

    def _failure(self, hosts: list[_Host], statuses: Mapping[str, ExitStatus], image: Image) -> str | None:
        """Return the FailureReason of the first host that failed, or None.

        Source:
            containers.md 2.7; algorithms.md 4 for the built-in algorithms' exit code 2.
        """
        for host in hosts:
            status = statuses.get(host.name)
            if status is None or status.ok:
                continue
            text = _read_failure(host.opt_ml / "output" / "failure")
            if not text and host.stream.tail:
                text = host.stream.tail[-1]
            by_user = image.built_in is not None and status.code == USER_FAULT_EXIT_CODE
            return _exit_reason(text, status, label="ClientError" if by_user else "AlgorithmError")
        return None

    async def _upload(self, hosts: list[_Host], *, with_model: bool) -> str | None:
        """Store model and output data; return the model's URI.

        Raises:
            LeaseLost: Another attempt has taken over; what it stored is left alone.
        """
        target = ObjectPrefix(self._spec.output.bucket, self._spec.output.join(f"{self._job.name}/output").key)
        models = [host.opt_ml / "model" for host in hosts]
        outputs = [host.opt_ml / "output" / "data" for host in hosts]
        if any(any(tree.iterdir()) for tree in outputs if tree.is_dir()):
            await self._upload_trees(outputs, target, "output.tar.gz", "data")
        if not with_model:
            return None
        return await self._upload_trees(models, target, "model.tar.gz", "model")

    async def _upload_trees(self, trees: list[Path], target: ObjectPrefix, archive: str, plain: str) -> str:
        check_lease = self._session.check_lease
        await check_lease()  # before work that would be for nothing
        if self._spec.compress_output:
            ref = target.join(archive)
            await upload_stream(self._backends.objects, ref, lambda sink: pack(trees, sink), check_lease=check_lease)
            return str(ref)
        folder = ObjectPrefix(target.bucket, target.join(plain).key)
        for tree in trees:
            await upload_tree(self._backends.objects, tree, folder, check_lease=check_lease)
        return f"{folder}/"


def _exit_reason(text: str, status: ExitStatus, *, label: str) -> str:
    """Word a container's failure; a long text is cut so that the exit code still fits behind it."""
    if not text.startswith(_LABELS):
        text = f"{label}: {text}"
    killed = " (killed: most likely out of memory)" if status.code == 137 else ""
    suffix = f"{killed}, exit code: {status.code}"
    return text[: FAILURE_REASON_LIMIT - len(suffix)] + suffix


def _read_failure(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FAILURE_BYTES).decode("utf-8", "replace").strip()
    except OSError:
        return ""
