"""One instance of a transform job: a model server, and the data plane that feeds it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from millrace.agents.backends import AgentBackends
from millrace.agents.capture import write_manifests
from millrace.agents.chain import Chain, ChainLimits, Link, named_failure
from millrace.agents.endpoint import instance_id
from millrace.agents.instance_inputs import InstanceInputs
from millrace.agents.kept_containers import keep_containers
from millrace.agents.log_stream import LogStream
from millrace.agents.serving import (
    ContainerPlan,
    ServedContainer,
    ServedModel,
    exit_failure,
    plan_containers,
    serve_model,
)
from millrace.dataplane.capture import manifest_meta, plan_manifests
from millrace.dataplane.checkpoints import Checkpoints
from millrace.dataplane.client import Client
from millrace.dataplane.execution_parameters import EffectiveSettings, container_environment, effective_settings
from millrace.dataplane.failures import data_log_line
from millrace.dataplane.inputs import Inputs, KnownInputs, ListedInputs
from millrace.dataplane.limits import Limits
from millrace.dataplane.plan import InputObject
from millrace.dataplane.run import run_transform
from millrace.dataplane.standing import ContainerEnds
from millrace.errors import JobFailure
from millrace.jobs.endpoint import ModelContainer
from millrace.jobs.job import InstanceStarted, ResumedJob, work_name
from millrace.jobs.transform import InstanceOutcome, Progress, TransformSpec
from millrace.jobs.transform_options import OnError, job_options
from millrace.names import Arn

__all__ = ["LOG_GROUP", "DataPlane", "TransformAgent"]

log = logging.getLogger(__name__)

DataPlane = Callable[..., Awaitable[InstanceOutcome]]
"""Something with the parameters of `run_transform`."""

LOG_GROUP = "/aws/sagemaker/TransformJobs"

HALT_SECONDS = 30.0
"""How long the data plane may take to end after it was told to: as long as a commit under way."""


class TransformAgent:
    """Runs one instance's share of a transform job.

    `find_start` returns when the job started; without it the job started when this instance did. `resumed` are the
    jobs whose work this one goes on with, the latest first. With data capture, memory holds each object of this
    instance that was committed. `data_plane` is what is run once the container is healthy; `on_committed` is told of
    each object that has its output.
    """

    def __init__(
        self,
        spec: TransformSpec,
        containers: Sequence[ModelContainer],
        arn: Arn,
        created_at: datetime,
        folder: Path,
        *,
        backends: AgentBackends,
        grace_seconds: float,
        ping_window_seconds: float,
        limits: Limits,
        find_start: Callable[[], Awaitable[datetime | None]] | None = None,
        resumed: Sequence[ResumedJob] = (),
        data_plane: DataPlane = run_transform,
        on_committed: Callable[[InputObject], None] | None = None,
    ) -> None:
        self._spec = spec
        self._containers = containers
        self._arn = arn
        self._created_at = created_at
        self._folder = folder
        self._backends = backends
        self._session = backends.session
        self._grace = grace_seconds
        self._ping_window = ping_window_seconds
        self._limits = limits
        self._find_start = find_start
        self._resumed = resumed
        self._data_plane = data_plane
        self._on_committed = on_committed
        self._job_start = created_at
        self._captured: list[InputObject] = []
        self._own = InstanceInputs(
            spec,
            arn,
            created_at,
            folder,
            objects=backends.objects,
            journal=backends.journal,
            session=backends.session,
            resumed=resumed,
            report=self._report,
        )
        self._progress = Progress()
        self._inputs: Inputs = ListedInputs(())
        self._halted: InstanceOutcome | None = None
        instance = instance_id(str(arn), backends.session.ref.index)
        self._stream_name = f"{arn.name}/{instance}-{int(created_at.timestamp() * 1000)}"
        self._data_log = LogStream(backends.logs, LOG_GROUP, f"{self._stream_name}/data-log")
        backends.session.read_progress = self._read_progress

    @property
    def progress(self) -> Progress:
        """The live counters."""
        inputs = self._inputs  # which are being listed while the model starts
        return replace(self._progress, objects_total=inputs.objects, bytes_total=inputs.size, listed=inputs.is_complete)

    @property
    def unfinished(self) -> InstanceOutcome:
        """What was done, and which objects failed, by an instance that failed as a whole."""
        return replace(self._halted or InstanceOutcome(progress=self.progress), stopped=True)

    async def run(self) -> InstanceOutcome:
        """Do this instance's share.

        Raises:
            JobFailure: The instance as a whole failed: input, model or container.
            LeaseLost: Another agent has taken over.
        """
        session = self._session
        self._job_start = session.clock.now()
        await session.post(InstanceStarted(at=self._job_start, index=session.ref.index, attempt=session.ref.attempt))
        try:
            async with await self._own.plan() as inputs:
                outcome = await self._serve(inputs)
            self._progress = outcome.progress
            await self._write_manifests()
            return outcome
        except JobFailure:
            await self._write_manifests()
            raise
        finally:
            await self._own.forget()
            self._data_log.flush()

    async def _serve(self, inputs: Inputs) -> InstanceOutcome:
        """Start the model, and transform the objects, if there are any."""
        self._inputs = inputs
        if not await inputs.has_any():
            return InstanceOutcome(progress=Progress(), stopped=self._session.stop.is_set())
        async with serve_model(
            await self._plan_containers(),
            self._folder,
            name=f"{self._arn.name}-{self._session.ref.index}",
            chain=self._chain,
            backends=self._backends,
            grace_seconds=self._grace,
        ) as served:
            return await self._transform(served, inputs)

    async def _plan_containers(self) -> list[ContainerPlan]:
        return await plan_containers(
            self._containers,
            region=self._arn.region,
            name=self._arn.name,
            group=LOG_GROUP,
            stream=self._stream_name,
            backends=self._backends,
            environment=partial(container_environment, self._spec),
        )

    def _chain(self, links: Sequence[Link]) -> Chain:
        """Return what asks several containers: within the bounds of the data plane, which asks it."""
        limits = ChainLimits(
            answer_bytes=self._limits.answer_bytes,
            held_bytes=self._limits.inflight_bytes,
            seconds=self._spec.invocation_timeout_seconds,
        )
        return Chain(links, limits=limits, failure_body=named_failure)

    async def _transform(self, served: ServedModel, inputs: Inputs) -> InstanceOutcome:
        """Wait for health, run the data plane.

        A container that ends meanwhile ends the instance, unless bad records are to be left out: it may be one's fault.
        """
        ended = asyncio.create_task(served.wait())
        stop_waiting = asyncio.create_task(self._session.stop.wait())
        halt = asyncio.Event()
        work: asyncio.Task[InstanceOutcome] | None = None
        try:
            if not await self._healthy(served, ended, stop_waiting):
                return InstanceOutcome(progress=self.progress, stopped=True)
            ends = ContainerEnds()
            work = asyncio.create_task(self._run_data_plane(served, inputs, halt, ends))
            if job_options(self._spec.environment).on_error is not OnError.FAIL:
                ended.cancel()
                ended = asyncio.create_task(self._keep_containers(served, ends))
            await asyncio.wait({work, ended, stop_waiting}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                halt.set()
                # It ends what it is committing and tells of it: what is visible in the store must be counted too.
                await asyncio.wait({work}, timeout=HALT_SECONDS)
                if work.done() and work.exception() is None:
                    self._halted = work.result()
                if ended.done() and not stop_waiting.done():
                    done, total = self._progress.objects_done, self._progress.objects_total
                    more = "" if self._progress.listed else " or more"
                    raise await exit_failure(ended.result(), f"after {done} of {total}{more} objects")
            return await work
        finally:
            if work is not None and not work.done():
                work.cancel()
                await asyncio.wait({work})
            for task in (ended, stop_waiting):
                task.cancel()
            await asyncio.wait({ended})
            _ = ended.cancelled() or ended.exception()  # else the loop complains of one that nobody was told of

    async def _keep_containers(self, served: ServedModel, ends: ContainerEnds) -> NoReturn:
        await keep_containers(
            served,
            ends=ends,
            ends_in_vain=self._limits.ends_in_vain,
            count_answers=lambda: sum(self._progress.latency_counts),
            ping_window_seconds=self._ping_window,
            clock=self._session.clock,
            report=self._report,
        )

    async def _healthy(
        self, served: ServedModel, ended: "asyncio.Task[ServedContainer]", stop: "asyncio.Task[Any]"
    ) -> bool:
        """Return once /ping answers 200; False if a stop came first.

        Raises:
            AlgorithmFailure: The container ended, or the window passed.
        """
        healthy = asyncio.create_task(
            served.wait_until_healthy(window_seconds=self._ping_window, clock=self._session.clock)
        )
        await asyncio.wait({healthy, ended, stop}, return_when=asyncio.FIRST_COMPLETED)
        if not healthy.done():
            healthy.cancel()
        if stop.done():
            return False
        if ended.done():
            raise await exit_failure(ended.result(), "before it answered /ping")
        healthy.result()
        return True

    async def _run_data_plane(
        self, served: ServedModel, inputs: Inputs, halt: asyncio.Event, ends: ContainerEnds
    ) -> InstanceOutcome:
        effective = await self._settle_settings(served, halt)
        if effective is None:
            return InstanceOutcome(progress=self.progress, stopped=True)
        if self._spec.capture is not None and self._find_start is not None:
            # Not before this instance has reported: then there is a start, the first one reported.
            self._job_start = await self._find_start() or self._job_start
        outcome = await self._data_plane(
            self._spec,
            inputs,
            options=job_options(self._spec.environment),
            checkpoints=await self._checkpoints(inputs.known),
            scratch=self._folder,
            objects=self._backends.objects,
            address=served.address,
            containers=[it.address for it in served.containers],
            ends=ends,
            effective=effective,
            data_log=self._data_log.write_now,
            on_progress=self._note_progress,
            stop=halt,
            commit_guard=self._session.check_lease,
            clock=self._session.clock,
            limits=self._limits,
            job_start=self._job_start,
            on_committed=self._on_committed if self._spec.capture is None else self._capture,
        )
        return replace(outcome, effective=effective)

    async def _settle_settings(self, served: ServedModel, halt: asyncio.Event) -> EffectiveSettings | None:
        """Ask the container for its settings; None if the work is to end first, for nobody knows when it answers."""
        halted = asyncio.create_task(halt.wait())
        async with Client(served.address) as client:
            asking = asyncio.create_task(effective_settings(client, self._spec))
            try:
                await asyncio.wait({asking, halted}, return_when=asyncio.FIRST_COMPLETED)
                return asking.result() if asking.done() else None
            finally:
                for task in (asking, halted):
                    task.cancel()
                await asyncio.wait({asking, halted})

    def _capture(self, entry: InputObject) -> None:
        self._captured.append(entry)
        if self._on_committed is not None:
            self._on_committed(entry)

    async def _checkpoints(self, inputs: KnownInputs | None) -> Checkpoints | None:
        """Return where parts of outputs are committed, and what was committed before: by us, or a job we resume."""
        journal = self._backends.journal
        if journal is None:
            return None
        checkpoints = Checkpoints(
            journal=journal,
            work=work_name(self._arn, self._created_at),
            earlier=[resumed.work for resumed in self._resumed],
            resumes=self._session.ref.attempt > 1 or bool(self._resumed),
            job_id=self._session.ref.job_id,
            instance=self._session.ref.index,
        )
        await checkpoints.take_up(inputs, [resumed.id for resumed in self._resumed])
        return checkpoints

    async def _write_manifests(self) -> None:
        """Tell where the job's owner asked for it which objects this instance transformed."""
        capture = self._spec.capture
        if capture is None:
            return
        plans = plan_manifests(
            capture,
            sorted(self._captured, key=lambda entry: (entry.ref.bucket, entry.ref.key.encode())),
            output=self._spec.output,
            arn=self._arn,
            created_at=self._created_at,
            job_start=self._job_start,
            index=self._session.ref.index,
        )
        await write_manifests(
            plans,
            manifest_meta(capture),
            objects=self._backends.objects,
            check_lease=self._session.check_lease,
            report=self._report,
        )

    def _report(self, text: str) -> None:
        self._data_log.write_now(data_log_line(self._session.clock.now(), text))

    def _note_progress(self, progress: Progress) -> None:
        self._progress = progress

    def _read_progress(self) -> Mapping[str, Any]:
        return {**asdict(self.progress), "at": self._session.clock.now().timestamp()}
