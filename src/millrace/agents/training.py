"""One training job: data in, containers run, artifacts out."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from millrace.agents.archives import Tree, pack
from millrace.agents.backends import AgentBackends
from millrace.agents.channels import Member, feed_pipe, list_channel, materialise, shard
from millrace.agents.confined import is_folder, read_head
from millrace.agents.folder_sync import FolderSync
from millrace.agents.hosts import Ending, Host, HostGroup, exit_reason
from millrace.agents.job_config import container_command
from millrace.agents.links import follow_here, follow_in_container
from millrace.agents.metrics import MetricReader
from millrace.agents.objects import upload_stream, upload_tree
from millrace.agents.training_config import config_files, training_environment
from millrace.errors import ClientFailure, ImageUnavailable, JobFailure, RuntimeUnavailable
from millrace.jobs.channel import Channel, InputMode
from millrace.jobs.hosts import hosts_of_groups
from millrace.jobs.job import InstanceStarted, SecondaryStatus, StageEntered, TrainingJob
from millrace.jobs.training import TrainingOutcome
from millrace.names import ObjectPrefix
from millrace.ports.objects import ObjectStoreError
from millrace.ports.runtime import Image

__all__ = ["LOG_GROUP", "TrainingAgent"]

log = logging.getLogger(__name__)

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
MAX_FAILURE_BYTES = 4096
USER_FAULT_EXIT_CODE = 2
"""With this a built-in algorithm says that its input is at fault (algorithms.md 4)."""

_PARTS = ("input/config", "input/data", "model", "output/data", "code")


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
        self._group: HostGroup | None = None
        self._metrics = MetricReader(job.spec.metrics, report=self._report)

    async def run(self) -> TrainingOutcome:
        """Do the whole job; failures of the job are in the outcome, LeaseLost passes through."""
        session = self._session
        ref = session.ref
        await session.post(InstanceStarted(at=session.clock.now(), index=ref.index, attempt=ref.attempt))
        started = session.clock.monotonic()
        try:
            image = self._backends.images.resolve(self._spec.image)
            if image.single_host:  # its one program reads what all hosts would get
                channels = tuple(replace(channel, groups=()) for channel in self._spec.channels)
                self._spec = replace(self._spec, channels=channels)
            group = self._group = await HostGroup.prepare(
                self._job,
                self._spec.hosts,
                self._folder,
                image=image,
                parts=_PARTS,
                log_group=LOG_GROUP,
                backends=self._backends,
                max_runtime_seconds=self._spec.max_runtime_seconds,
                stop_grace_seconds=self._grace,
            )
            outcome = await self._work(group, image)
        except JobFailure as failure:
            outcome = TrainingOutcome(failure_reason=failure.reason)
        except (ImageUnavailable, RuntimeUnavailable, ObjectStoreError) as exc:
            outcome = TrainingOutcome(failure_reason=ClientFailure(str(exc)).reason)
        if self._group is not None:
            self._group.flush()
        seconds = round(self._session.clock.monotonic() - started)
        return TrainingOutcome(
            failure_reason=outcome.failure_reason,
            stopped=outcome.stopped,
            time_limit_reached=outcome.time_limit_reached,
            model=outcome.model,
            metrics=self._metrics.values,
            training_seconds=max(1, seconds),
        )

    def _report(self, line: str) -> None:
        """Tell the job's owner of what is no reason to fail."""
        if self._group is not None:
            self._group.hosts[0].stream.write_now(line)

    async def _stage(self, stage: SecondaryStatus) -> None:
        session = self._session
        await session.post(
            StageEntered(at=session.clock.now(), index=session.ref.index, attempt=session.ref.attempt, stage=stage)
        )

    async def _work(self, group: HostGroup, image: Image) -> TrainingOutcome:
        for host in group.hosts:
            for file, text in config_files(self._spec, host.name).items():
                (host.opt_ml / "input" / "config" / file).write_text(text, "utf-8")
        await self._stage(SecondaryStatus.DOWNLOADING)
        pipes = await self._bring_channels(group.hosts, image)
        await self._stage(SecondaryStatus.TRAINING)
        ending = await self._train(group, image, pipes)
        reason = self._failure(ending, image)
        await self._stage(SecondaryStatus.UPLOADING)
        model = await self._upload(group.hosts, image, with_model=reason is None)
        return TrainingOutcome(
            failure_reason=reason,
            stopped=ending.interrupted,
            time_limit_reached=ending.time_limit_reached,
            model=model,
        )

    async def _bring_channels(self, hosts: Sequence[Host], image: Image) -> list[tuple[Path, Channel, list[Member]]]:
        """Materialise file channels; return what is to be piped: folder, channel, objects."""
        pipes = []
        for channel in self._spec.channels:
            members = await list_channel(self._backends.objects, channel)
            chosen = hosts_of_groups(self._spec.groups, channel.groups)
            getting = [host for host in hosts if host.name in chosen]
            for number, host in enumerate(getting):
                mine = shard(members, channel, number, len(getting))
                data = host.opt_ml / "input" / "data"
                if channel.mode is InputMode.PIPE:
                    pipes.append((data, channel, mine))
                else:
                    await materialise(
                        self._backends.objects, mine, data / channel.name, link=image.built_in is not None
                    )
        return pipes

    async def _train(self, group: HostGroup, image: Image, pipes: list[tuple[Path, Channel, list[Member]]]) -> Ending:
        spec, arn = self._spec, self._job.arn
        command = container_command(image, spec.entrypoint, spec.arguments, default=("train",))
        syncs = await self._restore_checkpoints(group.hosts)
        background = [
            asyncio.create_task(feed_pipe(self._backends.objects, channel, it, path)) for path, channel, it in pipes
        ]
        background += [asyncio.create_task(sync.run()) for sync in syncs]
        try:
            return await group.run(
                image,
                command,
                lambda host, credentials: training_environment(
                    spec, arn, host.name, endpoint_url=self._backends.endpoint_url, credentials=credentials
                ),
                background=background,
                network_isolation=spec.network_isolation,
                read_only=[f"input/data/{it.name}" for it in spec.channels if it.mode is InputMode.FAST_FILE],
                on_line=self._metrics.read,
            )
        finally:
            for sync in syncs:
                await sync.finish()

    async def _restore_checkpoints(self, hosts: Sequence[Host]) -> list[FolderSync]:
        config = self._spec.checkpoints
        if config is None:
            return []
        syncs = []
        for host in hosts:
            inside = config.local_path.removeprefix("/opt/ml/").strip("/") or "checkpoints"
            sync = FolderSync(
                self._backends.objects,
                host.opt_ml,
                inside,
                config.target,
                self._session.clock,
                what="checkpoints",
                mirror_deletions=True,
                # also once suspended: the attempt that follows goes on from them
                check_lease=self._session.check_attempt,
                report=host.stream.write_now,
            )
            await sync.restore()
            syncs.append(sync)
        return syncs

    def _failure(self, ending: Ending, image: Image) -> str | None:
        """Return the FailureReason of the first host that failed, or None.

        Source:
            containers.md 2.7; algorithms.md 4 for the built-in algorithms' exit code 2.
        """
        if ending.failed is None:
            return None
        host, status = ending.failed
        text = read_head(host.opt_ml, "output/failure", MAX_FAILURE_BYTES).decode("utf-8", "replace").strip()
        if not text and host.stream.tail:
            text = host.stream.tail[-1]
        by_user = image.built_in is not None and status.code == USER_FAULT_EXIT_CODE
        return exit_reason(text, status, label="ClientError" if by_user else "AlgorithmError")

    async def _upload(self, hosts: Sequence[Host], image: Image, *, with_model: bool) -> str | None:
        """Store model and output data; return the model's URI.

        Raises:
            LeaseLost: Another attempt has taken over; what it stored is left alone.
        """
        target = ObjectPrefix(self._spec.output.bucket, self._spec.output.join(f"{self._job.name}/output").key)
        models = self._trees(hosts, "model", image)
        outputs = self._trees(hosts, "output/data", image)
        if any(any(tree.folder.iterdir()) for tree in outputs):
            await self._upload_trees(outputs, target, "output.tar.gz", "data")
        if not with_model:
            return None
        return await self._upload_trees(models, target, "model.tar.gz", "model")

    def _trees(self, hosts: Sequence[Host], inside: str, image: Image) -> list[Tree]:
        """Return what the hosts have in a folder below /opt/ml; one that the program made a link holds nothing."""
        return [
            Tree(host.opt_ml / inside, follow_here if image.root is None else follow_in_container(host.opt_ml))
            for host in hosts
            if is_folder(host.opt_ml, inside)
        ]

    async def _upload_trees(self, trees: Sequence[Tree], target: ObjectPrefix, archive: str, plain: str) -> str:
        check_lease = self._session.check_lease
        await check_lease()  # before work that would be for nothing
        if self._spec.compress_output:
            ref = target.join(archive)
            await upload_stream(self._backends.objects, ref, lambda sink: pack(trees, sink), check_lease=check_lease)
            return str(ref)
        folder = ObjectPrefix(target.bucket, target.join(plain).key)
        for tree in trees:
            await upload_tree(self._backends.objects, tree.folder, folder, check_lease=check_lease)
        return f"{folder}/"
