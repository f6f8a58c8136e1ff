"""Run one instance's share of a transform job: pull objects through the container, write their outputs in order.

Theory. Three kinds of actors share one event loop and the state of one `_Run`:

* the *feeder* (a task) opens objects in key order and reads chunks, but only when there is room;
* the *pump* (a plain function) forms the next payload whenever a request may be sent, and sends it. It runs when a
  chunk was read, when an answer came and when room was given back; per record there is no task and no await;
* a *writer* (a task for each open object) writes answers in input order, in batches, and commits.

Room is counted in bytes. It is taken when a chunk is read and as its answer arrives, and given back when the result
is written: whatever is slow, reading stops. Nothing waits for room that it holds itself: a payload being formed may
always be completed once it is alone, and a request may always be sent when none is under way.

Payloads are sent by `sending`, and by `inner_loop` where all is plain; `settling` settles what becomes of them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

from millrace.clock import Clock
from millrace.dataplane.autotune_settings import AutotuneSettings
from millrace.dataplane.checkpoints import Checkpoints
from millrace.dataplane.execution_parameters import EffectiveSettings
from millrace.dataplane.failures import data_log_line, select_failures
from millrace.dataplane.feeding import Feeding
from millrace.dataplane.inner_loop import inner_loop
from millrace.dataplane.inputs import Inputs, ListedInputs
from millrace.dataplane.joining import Joining
from millrace.dataplane.lane import Lane
from millrace.dataplane.lanes_in_work import LanesInWork
from millrace.dataplane.limits import Budget, Limits
from millrace.dataplane.object_failures import Told
from millrace.dataplane.payload import Payload, UnusableRecord
from millrace.dataplane.plan import InputObject
from millrace.dataplane.progress import Counters
from millrace.dataplane.rare_collections import rare_collections
from millrace.dataplane.requests import Requests
from millrace.dataplane.retry import AttemptFailure
from millrace.dataplane.room import Room
from millrace.dataplane.rules import Rules
from millrace.dataplane.run_tasks import RunTasks
from millrace.dataplane.sending import Sending
from millrace.dataplane.settling import Settling
from millrace.dataplane.small_outputs import SmallOutputs
from millrace.dataplane.standing import ContainerEnds, Inquiry
from millrace.dataplane.streaming import Streaming
from millrace.dataplane.tuning import Tuning
from millrace.dataplane.writing import Commits, Writing
from millrace.jobs.transform import MIB, InstanceOutcome, Progress, TransformSpec, TuningOutcome
from millrace.jobs.transform_options import JobOptions
from millrace.ports.objects import ObjectStore
from millrace.ports.runtime import Address

__all__ = ["run_transform"]

PRODUCT_LIMIT_BYTES = 100 * MIB


async def run_transform(
    spec: TransformSpec,
    inputs: Inputs | Sequence[InputObject],
    *,
    objects: ObjectStore,
    address: Address,
    effective: EffectiveSettings,
    data_log: Callable[[str], None],
    on_progress: Callable[[Progress], None],
    stop: asyncio.Event,
    commit_guard: Callable[[], Awaitable[None]],
    clock: Clock,
    limits: Limits | None = None,
    options: JobOptions | None = None,
    checkpoints: Checkpoints | None = None,
    job_start: datetime | None = None,
    on_committed: Callable[[InputObject], None] | None = None,
    budget: Budget | None = None,
    scratch: Path | None = None,
    autotune: AutotuneSettings | None = None,
    tells_rows: bool = False,
    containers: Sequence[Address] = (),
    ends: ContainerEnds | None = None,
) -> InstanceOutcome:
    """Transform `inputs` in order and return how it went; a failing object never keeps the others from their output.

    Args:
        spec: What the client asked for.
        inputs: This instance's objects, in key order; those that are listed meanwhile are entered by the caller.
        objects: Where inputs are read and outputs written.
        address: The container, healthy.
        effective: Its settled concurrency, payload limit and strategy.
        data_log: Called with each line of the data log, prefix included.
        on_progress: Called every `limits.tick_seconds` and at the end.
        stop: When set, requests are dropped, open outputs aborted and the outcome says `stopped`.
        commit_guard: Awaited right before each commit; raises LeaseLost if the work is no longer ours.
        clock: Measures time-outs and back-off, stamps the data log.
        limits: Bounds on memory.
        options: What the client asked for beyond SageMaker; nothing if None.
        checkpoints: Where parts of outputs are committed, to go on from them another time; outputs are only committed
            whole if None.
        job_start: What rows tell as the time of their inference, if they tell one; now if None.
        on_committed: Called with each input whose output was committed, in the order of the commits.
        autotune: Bounds of the search for concurrency and payload size; if None, `options` say whether there is one.
        tells_rows: Whether rows of answers are counted, as they are where a report is asked for; it takes 0.4 ms a MB.
        containers: Where each container answers /ping, if not at `address`.
        ends: Tells of containers that end and are started again at the same addresses; none are if None.
        scratch: A folder for text that is converted when it is complete; needed by jobs that write other formats.
        budget: Where room is taken and given back, all of it by the end of a run that nothing broke off; one of its
            own of `limits.inflight_bytes` if None.

    Raises:
        LeaseLost: From the guard; nothing is committed any more.
        InfrastructureError, OSError: The object store does not work; outputs in work were aborted.
    """
    limits = limits or Limits()
    options = options or JobOptions()
    start = job_start or clock.now()
    rules = Rules(
        spec,
        effective=effective,
        options=options,
        limits=limits,
        address=address,
        job_start=start,
        autotune=autotune,
        tells_rows=tells_rows,
    )
    run = _Run(
        rules,
        ListedInputs(inputs) if isinstance(inputs, Sequence) else inputs,
        objects=objects,
        address=address,
        data_log=data_log,
        on_progress=on_progress,
        stop=stop,
        commit_guard=commit_guard,
        clock=clock,
        checkpoints=checkpoints,
        on_committed=on_committed,
        budget=budget or Budget(limits.inflight_bytes),
        scratch=scratch,
        inquiry=Inquiry(containers or (address,), window_seconds=limits.recovery_seconds, clock=clock, ends=ends),
    )
    with rare_collections():
        return await run.run()


class _Run:
    """The state of one run; see the module's theory."""

    def __init__(
        self,
        rules: Rules,
        inputs: Inputs,
        *,
        objects: ObjectStore,
        address: Address,
        data_log: Callable[[str], None],
        on_progress: Callable[[Progress], None],
        stop: asyncio.Event,
        commit_guard: Callable[[], Awaitable[None]],
        clock: Clock,
        checkpoints: Checkpoints | None,
        on_committed: Callable[[InputObject], None] | None,
        budget: Budget,
        scratch: Path | None,
        inquiry: Inquiry,
    ) -> None:
        self._rules = rules
        self._inputs = inputs
        self._data_log = data_log
        self._on_progress = on_progress
        self._stop = stop
        self._clock = clock
        self._limits = rules.limits
        self._checkpoints = checkpoints
        self._budget = budget
        self._counters = Counters()
        self._lanes = lanes = LanesInWork(rules, inputs=inputs, counters=self._counters)
        self._tuning: Tuning | None = None
        if rules.autotune is not None:
            self._tuning = Tuning(rules.autotune, in_flight=self._count_sent, remaining_bytes=lanes.remaining_bytes)
        self._room = Room(budget, read_ahead=rules.read_ahead, flush=self.flush)
        self._stopped = False

        self._requests = Requests(
            rules,
            self,
            address=address,
            clock=clock,
            budget=budget,
            counters=self._counters,
            may_write=lanes.may_write,
            inquiry=inquiry,
        )
        self._arriving = self._requests.arriving
        self._settling = Settling(
            rules,
            self,
            forming=lanes.forming,
            requests=self._requests,
            tuning=self._tuning,
            budget=budget,
            counters=self._counters,
            clock=clock,
            log=self._log,
        )
        self._sending = Sending(
            rules,
            self,
            forming=lanes.forming,
            requests=self._requests,
            settling=self._settling,
            tuning=self._tuning,
            budget=budget,
            counters=self._counters,
            monotonic=clock.monotonic,
        )
        self._requests.on_answer = inner_loop(
            rules,
            take_answer=self._settling.take_answer,
            pump=self._sending.pump,
            crash=self.crash,
            budget=budget,
            counters=self._counters,
            monotonic=clock.monotonic,
            forming=lanes.forming,
            again=self._settling.isolator.again,
            idle=self._requests.idle,
            arriving=self._arriving,
        )
        self._commits = Commits(
            counters=self._counters, guard=commit_guard, is_over=self._is_over, on_committed=on_committed
        )
        self._tasks = RunTasks(self._commits.tasks)
        joining = Joining(
            rules, objects=objects, checkpoints=checkpoints, commits=self._commits, clock=clock, inputs=inputs.known
        )
        self._writing = Writing(
            rules,
            self,
            requests=self._requests,
            commits=self._commits,
            counters=self._counters,
            joining=joining,
        )
        small = objects.small_objects() if rules.writes_small else None
        self._small_outputs: SmallOutputs | None = None
        if small is not None:
            self._small_outputs = SmallOutputs(small, rules, self, commits=self._commits, counters=self._counters)
        self._streaming = Streaming(
            rules,
            self,
            requests=self._requests,
            commits=self._commits,
            counters=self._counters,
            clock=clock,
            address=address,
            give_up=self._settling.give_up_streamed,
        )
        self._feeding = Feeding(
            rules,
            self,
            inputs=inputs,
            objects=objects,
            lanes=lanes.alone,
            small_lanes=lanes.small,
            forming=lanes.forming,
            room=self._room,
            budget=budget,
            counters=self._counters,
            commits=self._commits,
            joining=joining,
            streaming=self._streaming,
            small=small,
            small_outputs=self._small_outputs,
            checkpoints=checkpoints,
            scratch=scratch,
            clock=clock,
            log=self._log,
        )

    # -- life

    async def run(self) -> InstanceOutcome:
        """Run to the end."""
        effective = self._rules.effective
        self._log(str(effective))
        product = effective.max_concurrent_transforms * effective.max_payload_bytes
        if product > PRODUCT_LIMIT_BYTES:
            self._log(
                f"The product of MaxConcurrentTransforms and MaxPayloadInMB is {product // MIB}, "
                "more than the 100 that SageMaker allows where both are given."
            )
        for actor in (self._tick(), self._watch_stop(), self._feeding.run()):
            self.spawn(actor)
        try:
            await self._tasks.wait()
        finally:
            await self._shut_down()
            self._on_progress(self._lanes.progress())
        return InstanceOutcome(
            progress=self._lanes.progress(),
            failures=select_failures(self._settling.failures, self._limits.failures_kept),
            failure_count=self._settling.failure_count,
            stopped=self._stopped,
            tuning=self._told_tuning(),
        )

    def _told_tuning(self) -> TuningOutcome | None:
        """Return what the autotuner found, and tell it to the data log."""
        if self._tuning is None:
            return None
        self._log(self._tuning.chosen)
        return self._tuning.outcome(keep=self._limits.curve_points)

    def spawn(self, actor: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a task; if it fails, so does the run."""
        return self._tasks.spawn(actor)

    def crash(self, error: BaseException) -> None:
        """Break the run off."""
        self._tasks.crash(error)

    def _is_over(self) -> bool:
        return self._stop.is_set() or self._tasks.is_over

    async def _shut_down(self) -> None:
        self._lanes.forming.clear()  # nothing is sent any more
        self._settling.drop_all(self._requests.close())
        await self._tasks.close(keeps_results=self._stopped)
        async with AsyncExitStack() as outputs:
            for lane in self._lanes.alone:  # whose writers were cancelled before they began
                outputs.push_async_callback(lane.output.suspend)
        self._counters.in_flight = 0

    async def _watch_stop(self) -> None:
        await self._stop.wait()
        self._stopped = True
        self._tasks.end()

    async def _tick(self) -> None:
        while True:
            await self._clock.sleep(self._limits.tick_seconds)
            self._requests.drop_late()
            self._requests.send_untaken()
            if self._tuning is not None:
                self._tuning.look(self._clock.monotonic())
                self.pump()  # more may be asked for now, or what was waited for is not wanted any more
            if self._checkpoints is not None:
                self.flush()  # what is written can be committed in a part
            elif self._small_outputs is not None:
                self._small_outputs.flush()
            self._on_progress(self._lanes.progress())

    def _count_sent(self) -> int:
        return self._counters.in_flight - self._requests.resting

    def _log(self, text: str) -> None:
        self._data_log(data_log_line(self._clock.now(), text))

    # -- what the parts of a run ask of each other

    def flush(self) -> None:
        """Have everything written that may be: somebody waits for the room."""
        self._lanes.wake_writers()
        if self._small_outputs is not None:
            self._small_outputs.flush()

    def is_idle(self) -> bool:
        """Return whether no answer will come, and no object be read, before what is held is written."""
        answers = self._counters.in_flight - 1  # the last one, which is being taken, may be counted still
        if not self._feeding.done or self._settling.isolator.again or answers > 0:
            return False
        return not self._lanes.unformed_bytes()

    def begin_output(self, lane: Lane) -> None:
        """Have the output of an object written as its answers come."""
        writes = None if self._checkpoints is None else lane
        self._tasks.spawn(self._writing.write_object(lane), writes=writes)

    async def write_object(self, lane: Lane) -> None:
        """Write the output of an object; return when that is done with."""
        await self._writing.write_object(lane)

    def write_alone(self, lane: Lane) -> None:
        """Write the output of a lane in the usual way: it is to have a writer of its own."""
        self._lanes.part_from_small(lane)
        self.spawn(self._writing.write_object(lane))

    def give_back(self, size: int) -> None:
        """Give room back to whoever waits for it."""
        self._budget.give_back(size)
        if self._budget.awaited:
            self._room.look()
        if self._arriving.paused:
            self._arriving.read_on()

    def give_back_results(self, count: int, room: int) -> None:
        """Take note that results were written."""
        self._budget.results -= count
        self.give_back(room)

    def pump(self) -> None:
        """Send what may be sent."""
        self._sending.pump()

    def send_again(self, lane: Lane, payload: Payload) -> None:
        """Send a payload whose back-off is over."""
        self._sending.send_again(lane, payload)

    def fail(self, lane: Lane, index: int, told: Told) -> None:
        """Fail an object."""
        self._settling.fail(lane, index, told)

    def fail_unusable(self, lane: Lane, error: UnusableRecord) -> None:
        """Fail an object of which no payload can be formed."""
        self._settling.fail_unusable(lane, error)

    def on_failed_attempt(self, lane: Lane, payload: Payload, failure: AttemptFailure, detail: str) -> None:
        """Take an attempt that got no answer."""
        self._settling.attempt_failed(lane, payload, failure, detail=detail)

    def wants_chunk(self, lane: Lane) -> None:
        """Take note that a lane can give no payload before it is fed again."""
        self._room.wants_chunk(lane)

    def took_payload(self, lane: Lane) -> None:
        """Take note that a payload was formed of what a lane was fed."""
        self._room.took_payload(lane)

    def room_may_be_there(self) -> None:
        """Have those look who wait for room."""
        self._room.look()

    def begin_no_more(self) -> None:
        """Begin no further object: more records are bad than the job's owner allows."""
        self._feeding.over = True

    def close_lane(self, lane: Lane) -> None:
        """Take note that nothing more happens to an object."""
        self._lanes.close(lane)
        self._room.look()
        self._end_if_done()

    def all_fed(self) -> None:
        """Take note that no further object comes."""
        if self._small_outputs is not None and self.is_idle():
            self._small_outputs.flush()
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._feeding.done and not self._lanes:
            self._tasks.end()
