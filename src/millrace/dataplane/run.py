"""Run one instance's share of a transform job: pull objects through the container, write their outputs in order.

Theory. Three kinds of actors share one event loop and the state of one `_Run`:

* the *feeder* (a task) opens objects in key order and reads chunks, but only when there is room;
* the *pump* (a plain function) forms the next payload whenever a request may be sent, and sends it. It runs when a
  chunk was read, when an answer came and when room was given back; per record there is no task and no await;
* a *writer* (a task for each open object) writes answers in input order, in batches, and commits.

Room is counted in bytes. It is taken when a chunk is read and as its answer arrives, and given back when the result
is written: whatever is slow, reading stops. Nothing waits for room that it holds itself: a payload being formed may
always be completed once it is alone, and a request may always be sent when none is under way.

A request keeps its slot while it backs off. The first failing payload (by position, not by time) decides what is told
of an object: a failure is final once no earlier payload of that object is under way. Earlier ones are sent again as
often as if nothing had failed, later ones no more.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from millrace.clock import Clock
from millrace.dataplane.autotune_settings import AutotuneSettings
from millrace.dataplane.bad_records import BadRecord
from millrace.dataplane.batch import ManyLines
from millrace.dataplane.chain_failures import FAILURE_HEADER, failure_in_place
from millrace.dataplane.checkpoints import Checkpoints
from millrace.dataplane.connection import AnswerBody, Connection
from millrace.dataplane.execution_parameters import EffectiveSettings
from millrace.dataplane.failures import data_log_line, failure_lines, select_failures
from millrace.dataplane.finished import find_finished
from millrace.dataplane.formats.unreadable import UNREADABLE
from millrace.dataplane.inner_loop import inner_loop
from millrace.dataplane.isolating import Isolator
from millrace.dataplane.joining import Joining
from millrace.dataplane.lane import Lane
from millrace.dataplane.limits import Budget, Limits
from millrace.dataplane.long_records import PassingOver
from millrace.dataplane.object_failures import (
    Told,
    attempt_told,
    full_disk_told,
    over_told,
    reading_told,
    record_told,
    unusable_told,
    writing_told,
)
from millrace.dataplane.object_output import NoOutputBucket, ObjectOutput
from millrace.dataplane.open_objects import bytes_done, open_objects
from millrace.dataplane.payload import Payload, PayloadTooLarge, UnusableRecord
from millrace.dataplane.plan import InputObject, count_objects
from millrace.dataplane.processing import RecordError
from millrace.dataplane.progress import Counters
from millrace.dataplane.reading import ObjectChanged, ObjectReader
from millrace.dataplane.record_starts import StartsKept
from millrace.dataplane.requests import Requests
from millrace.dataplane.retry import (
    AttemptFailure,
    failure_of_large_answer,
    failure_of_status,
    retry_after_seconds,
)
from millrace.dataplane.rules import Rules
from millrace.dataplane.streamed import FailedAttempt
from millrace.dataplane.streaming import Streaming
from millrace.dataplane.tuning import TOO_LARGE, Tuning
from millrace.dataplane.writing import Commits, Writing
from millrace.jobs.transform import (
    MIB,
    InstanceOutcome,
    ObjectFailure,
    Progress,
    TransformSpec,
    TuningOutcome,
)
from millrace.jobs.transform_options import JobOptions
from millrace.ports.objects import NoSuchBucket, NoSuchKey, ObjectStore
from millrace.ports.runtime import Address

__all__ = ["run_transform"]

PRODUCT_LIMIT_BYTES = 100 * MIB

_UNREADABLE = (NoSuchKey, NoSuchBucket, ObjectChanged, *UNREADABLE)
"""What is the input's own fault; other errors of the store end the run."""


async def run_transform(
    spec: TransformSpec,
    inputs: Sequence[InputObject],
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
) -> InstanceOutcome:
    """Transform `inputs` in order and return how it went; a failing object never keeps the others from their output.

    Args:
        spec: What the client asked for.
        inputs: This instance's objects.
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
        spec, effective=effective, options=options, limits=limits, address=address, job_start=start, autotune=autotune
    )
    run = _Run(
        rules,
        inputs,
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
    )
    return await run.run()


class _Run:
    """The state of one run; see the module's theory."""

    def __init__(
        self,
        rules: Rules,
        inputs: Sequence[InputObject],
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
    ) -> None:
        self._rules = rules
        self._inputs = inputs
        self._objects = objects
        self._data_log = data_log
        self._on_progress = on_progress
        self._stop = stop
        self._clock = clock
        self._monotonic = clock.monotonic
        self._limits = rules.limits
        self._checkpoints = checkpoints
        self._budget = budget
        self._scratch = scratch
        self._starts = StartsKept(objects, rules.formats.record_scan())

        self._counters = Counters(objects_total=count_objects(inputs), bytes_total=sum(entry.size for entry in inputs))
        self._lanes: set[Lane] = set()
        self._forming: deque[Lane] = deque()
        """Lanes with payloads to form, in key order; only the first of them is still fed when objects are split."""
        self._concurrency = rules.effective.max_concurrent_transforms
        self._tuning: Tuning | None = None
        if rules.autotune is not None:
            self._tuning = Tuning(rules.autotune, in_flight=self._count_sent, remaining_bytes=self._remaining_bytes)
            self._concurrency = self._tuning.concurrency
        self._room = asyncio.Event()
        self._wants_buffer = False
        self._all_fed = False
        self._failures: list[ObjectFailure] = []
        self._failure_count = 0
        self._stopped = False
        self._over = False
        """More records are bad than the job's owner allows: no further object is begun."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: dict[asyncio.Task[None], Lane] = {}
        """Those of the tasks that write outputs in parts."""
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        self._requests = Requests(
            rules,
            self,
            address=address,
            clock=clock,
            budget=budget,
            counters=self._counters,
            may_write=self._may_write,
        )
        self._idle = self._requests.idle
        self._arriving = self._requests.arriving
        self._isolator = Isolator(rules, log=self._log, on_too_many=self._stop_over)
        self._again = self._isolator.again
        self._requests.on_answer = inner_loop(
            self,
            rules,
            budget=budget,
            counters=self._counters,
            monotonic=clock.monotonic,
            forming=self._forming,
            again=self._again,
            idle=self._idle,
            arriving=self._arriving,
        )
        self._commits = Commits(
            counters=self._counters, guard=commit_guard, is_over=self._is_over, on_committed=on_committed
        )
        self._joining = Joining(
            rules, objects=objects, checkpoints=checkpoints, commits=self._commits, clock=clock, inputs=inputs
        )
        self._writing = Writing(
            rules,
            self,
            requests=self._requests,
            commits=self._commits,
            counters=self._counters,
            joining=self._joining,
        )
        self._streaming = Streaming(
            rules,
            self,
            requests=self._requests,
            commits=self._commits,
            counters=self._counters,
            clock=clock,
            address=address,
            give_up=self._give_up_streamed,
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
        for actor in (self._tick(), self._watch_stop(), self._feed()):
            self.spawn(actor)
        try:
            await self._ended
        finally:
            await self._shut_down()
            self._on_progress(self._snapshot())
        return InstanceOutcome(
            progress=self._snapshot(),
            failures=select_failures(self._failures, self._limits.failures_kept),
            failure_count=self._failure_count,
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
        task = asyncio.create_task(actor)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._writers.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.crash(error)

    def crash(self, error: BaseException) -> None:
        """Break the run off."""
        if not self._ended.done():
            self._ended.set_exception(error)

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    def _is_over(self) -> bool:
        return self._stop.is_set() or self._ended.done()

    async def _shut_down(self) -> None:
        self._forming.clear()  # nothing is sent any more
        for lane, payload in self._requests.close():
            self._drop_payload(lane, payload)
        while self._again:
            lane, part = self._again.popleft()
            lane.lose(part)
            self._forget_result(part)
        for task in self._tasks - self._commits.tasks - self._writers.keys():
            task.cancel()
        try:
            if self._stopped:
                await self._keep_results()
        finally:
            for task in self._tasks - self._commits.tasks:
                task.cancel()
            while self._tasks:  # a commit under way is waited for: it must be either done or not done
                await asyncio.wait(set(self._tasks))
        async with AsyncExitStack() as outputs:
            for lane in self._lanes:  # whose writers were cancelled before they began
                outputs.push_async_callback(lane.output.suspend)
        self._counters.in_flight = 0

    async def _keep_results(self) -> None:
        """Have what may be written committed in a last part of each object, for a job that resumes this one."""
        writers = [
            writer for writer, lane in self._writers.items() if lane.answers or lane.writing or not lane.complete
        ]  # others have nothing left to write: they commit, or wait for those who join ranges
        for writer in writers:
            lane = self._writers[writer]
            lane.closing = True
            lane.wake.set()
        if writers:
            await asyncio.wait(writers)

    async def _watch_stop(self) -> None:
        await self._stop.wait()
        self._stopped = True
        self._end()

    async def _tick(self) -> None:
        while True:
            await self._clock.sleep(self._limits.tick_seconds)
            self._requests.drop_late()
            if self._tuning is not None:
                self._tuning.look(self._monotonic())
                self._concurrency = self._tuning.concurrency
            if self._checkpoints is not None:
                self.flush()  # what is written can be committed in a part
            self._on_progress(self._snapshot())

    def _count_sent(self) -> int:
        return self._counters.in_flight - self._requests.resting

    def _remaining_bytes(self) -> int | None:
        """Return how much of the input is in no payload yet; None where stored bytes don't tell."""
        if not all(map(self._rules.reads_as_stored, self._inputs[:1])):
            return None
        unread = self._counters.bytes_total - self._counters.bytes_in
        return unread + sum(lane.former.buffered for lane in self._forming)

    def _snapshot(self) -> Progress:
        lanes, rules = self._lanes, self._rules
        done = sum(bytes_done(lane, rules) for lane in lanes)
        return self._counters.snapshot((it.counts for it in lanes), open_objects(lanes, rules), bytes_done=done)

    def _log(self, text: str) -> None:
        self._data_log(data_log_line(self._clock.now(), text))

    # -- feeding

    async def _feed(self) -> None:
        for order, entry in enumerate(self._inputs):
            if entry.refused is not None:
                self._refuse(entry, order)
                continue
            if self._checkpoints is not None and self._checkpoints.resumes and await self._is_done(entry):
                continue
            reserved = self._reservation(entry)
            await self._wait_for_lane(reserved)
            if self._over:
                break
            lane = self._open_lane(entry, order)
            if self._rules.streams:
                self.spawn(self._streaming.run(lane))
            elif self._rules.splits:
                await self._feed_split_object(lane)
            else:
                self._budget.take(reserved)
                self.spawn(self._transform_whole_object(lane, reserved))
        self._all_fed = True
        self._end_if_done()

    def _open_lane(self, entry: InputObject, order: int) -> Lane:
        rules, formats = self._rules, self._rules.formats
        reader = ObjectReader(
            self._objects,
            entry,
            formats=formats,
            chunk_bytes=self._limits.chunk_bytes,
            counters=self._counters,
            starts=self._starts,
        )
        output = ObjectOutput(
            entry,
            objects=self._objects,
            meta=rules.meta,
            formats=formats,
            reader=reader,
            kept_text=self._scratch or Path(),
            checkpoints=self._checkpoints,
            in_parts=rules.commits_parts,
            monotonic=self._monotonic,
            tells=rules.isolates,
        )
        former = formats.former(rules.effective.strategy, rules.effective.max_payload_bytes, reader.header)
        lane = Lane(entry, former, reader, output, order=order)
        self._lanes.add(lane)
        return lane

    async def _is_done(self, entry: InputObject) -> bool:
        """Return whether an earlier attempt has made the output of this very object; then it counts as done."""
        assert self._checkpoints is not None, "asked only of work that is taken up"
        if entry.range is not None:
            counts = await self._joining.take_up(entry)
            if counts is not None:
                self._counters.count_bytes(entry.size)
                self._counters.count(counts)
            return counts is not None
        counts = await find_finished(entry, rules=self._rules, objects=self._objects, checkpoints=self._checkpoints)
        if counts is None:
            return False
        self._counters.count_bytes(entry.size)
        self._counters.objects_done += 1
        self._counters.count(counts)
        self._commits.tell(entry)
        return True

    def _refuse(self, entry: InputObject, order: int) -> None:
        """Fail an object that can have no output."""
        lane = self._open_lane(entry, order)
        self.fail(lane, 0, writing_told(lane, "ClientError", entry.refused or ""))
        self.close_lane(lane)

    async def _feed_split_object(self, lane: Lane) -> None:
        """Go on where an earlier attempt was, if there was one, and read the object."""
        try:
            position = await lane.output.begin()
        except (NoOutputBucket, OSError) as exc:
            await lane.output.suspend()
            if isinstance(exc, NoOutputBucket):
                told = writing_told(lane, "ClientError", str(exc))
            else:
                told = full_disk_told(lane, exc)
            self.fail(lane, 0, told)
            self.close_lane(lane)
            return
        if position is not None:
            lane.start, lane.start_offset = position.counts, position.offset
            at = position.began_at + position.offset
            self._log(f"{lane.input.ref.bucket}/{lane.input.ref.key}: going on at byte {at}")
        self._forming.append(lane)
        writer = self.spawn(self._writing.write_object(lane))
        if self._checkpoints is not None:
            self._writers[writer] = lane
        if position is not None and position.ended_at is not None:
            lane.reader.skip(position.began_at, position.ended_at)
            self._end_of_object(lane)
        else:
            await self._read_split_object(lane)

    def _reservation(self, entry: InputObject) -> int:
        """Return the room that must be there before an object is opened."""
        if self._rules.splits or self._rules.streams:
            return self._limits.chunk_bytes
        limit = self._rules.effective.max_payload_bytes
        if not self._rules.reads_as_stored(entry):
            return max(limit, self._limits.chunk_bytes)
        return min(entry.size, limit) if limit else entry.size

    async def _wait_for_lane(self, size: int) -> None:
        while len(self._lanes) >= self._limits.objects_open or not self._budget.has_room(size):
            await self._wait_for_room()

    async def _wait_for_room(self, *, enough_read: bool = False) -> None:
        """Wait until there may be room, or (`enough_read`) until some of what was read went into payloads."""
        self._budget.awaited = not enough_read
        self._wants_buffer = enough_read
        self._room.clear()
        if self._budget.awaited:
            self.flush()
        await self._room.wait()
        self._budget.awaited = self._wants_buffer = False

    def flush(self) -> None:
        """Have everything written that may be: somebody waits for the room."""
        for lane in self._lanes:
            if lane.answers:
                lane.wake.set()

    def _may_write(self) -> bool:
        return any(lane.answers or lane.writing for lane in self._lanes)

    def give_back(self, size: int) -> None:
        """Give room back to whoever waits for it."""
        self._budget.give_back(size)
        if self._budget.awaited:
            self._room.set()
        if self._arriving.paused:
            self._arriving.read_on()

    def give_back_results(self, count: int, room: int) -> None:
        """Take note that results were written."""
        self._budget.results -= count
        self.give_back(room)

    async def _read_split_object(self, lane: Lane) -> None:
        chunk_bytes = self._limits.chunk_bytes
        try:
            await lane.reader.locate()
            async with aclosing(lane.reader.chunks(lane.start_offset)) as chunks:
                while True:
                    while not self._may_read(lane, chunk_bytes):
                        await self._wait_for_room(enough_read=not self._wants_chunk(lane))
                    if lane.failure is not None:
                        return
                    chunk = await anext(chunks, None)
                    if lane.failure is not None:
                        return
                    if chunk is None:
                        break
                    self._budget.take(len(chunk))
                    lane.former.feed(chunk)
                    if isinstance(lane.former, PassingOver):
                        self.give_back(lane.former.let_go())
                    lane.starved = False
                    self.pump()
            await lane.reader.check_unchanged()
        except _UNREADABLE as exc:
            self.fail(lane, lane.next_index, reading_told(lane, exc, splits=True))
            return
        self._end_of_object(lane)

    def _end_of_object(self, lane: Lane) -> None:
        """Take note that all of an object was read."""
        lane.former.finish()
        lane.ended = True
        self.pump()

    def _may_read(self, lane: Lane, size: int) -> bool:
        if lane.failure is not None:
            return True
        return self._wants_chunk(lane) and self._budget.has_room(size, forming=lane.former.buffered)

    def _wants_chunk(self, lane: Lane) -> bool:
        return lane.starved or lane.former.buffered < self._rules.read_ahead

    async def _transform_whole_object(self, lane: Lane, reserved: int) -> None:
        """Read an object that is one payload, then write its result; `reserved` bytes of room are taken already."""
        trouble: Exception | None = None
        try:
            await self._read_whole_object(lane)
        except (*_UNREADABLE, PayloadTooLarge) as exc:
            trouble = exc
        self._budget.take(lane.former.buffered - reserved)  # never both: they are the same bytes
        self.give_back(0)
        if isinstance(trouble, PayloadTooLarge):
            self._fail_unusable(lane, trouble)
        elif trouble is not None:
            self.fail(lane, lane.next_index, reading_told(lane, trouble, splits=False))
        if lane.failure is None:
            lane.former.finish()
            lane.ended = True
            self._forming.append(lane)
            self.pump()
        await self._writing.write_object(lane)

    async def _read_whole_object(self, lane: Lane) -> None:
        """Read an object that is one record; of one that is too large only as much as is told of it, if it may be bad.

        Raises:
            PayloadTooLarge: It is too large, and may not be bad.
        """
        limit, size = self._rules.effective.max_payload_bytes, lane.input.size
        error = PayloadTooLarge(1, 0)
        is_known = self._rules.reads_as_stored(lane.input)
        if limit and is_known and size > limit:
            if not self._rules.isolates:
                raise error
            lane.former = self._rules.passing_over(lane.former, error, lane.header)
        async with aclosing(lane.reader.chunks()) as chunks:
            async for chunk in chunks:
                lane.former.feed(chunk)
                if not isinstance(lane.former, PassingOver):
                    if limit and lane.former.buffered > limit:
                        if not self._rules.isolates:
                            raise error
                        lane.former = self._rules.passing_over(lane.former, error, lane.header)
                elif is_known and lane.former.is_told:
                    lane.former.skip(size - lane.reader.bytes_read)
                    lane.reader.skip(0, size)
                    break

    # -- sending

    def pump(self, now: float = 0.0) -> None:
        """Form and send payloads as long as requests may be sent; `now` spares the inner loop a look at the clock."""
        counters, budget, forming, again = self._counters, self._budget, self._forming, self._again
        prepares = self._rules.processing is not None
        requests = self._requests
        if requests.due:
            requests.give_turns(self._concurrency + requests.resting - counters.in_flight)
        most = self._concurrency + requests.resting
        while (forming or again) and counters.in_flight < most:
            if again:
                self._send_part(*again.popleft())
                continue
            if counters.in_flight and (budget.held > budget.limit or budget.results >= self._limits.answers_held):
                self.flush()
                return
            if requests.resting > self._limits.payloads_resting:
                return
            lane = forming[0]
            ready = lane.former.ready
            payload = ready.pop() if ready and not prepares else self._next_payload(lane)
            if payload is not None:
                payload.index = lane.next_index
                lane.next_index += 1
                counters.in_flight += 1
                self._budget.results += 1
                self._requests.send(lane, payload, now or self._monotonic())
            elif lane.failure is None and not again:
                if not lane.ended:
                    return
                forming.popleft()
                lane.exhausted = True
                if lane.complete:
                    lane.wake.set()

    def _send_part(self, lane: Lane, part: Payload) -> None:
        """Send a part of a payload whose bad records are being found."""
        self._counters.in_flight += 1
        if self._wants_failure(lane, part):
            self._requests.send(lane, part, self._monotonic())
        else:
            self._drop_payload(lane, part)
            self._settle(lane)

    def _next_payload(self, lane: Lane) -> Payload | None:
        """Return the lane's next payload, ready to send; None if it has none, must be fed first, or failed."""
        processing, isolates = self._rules.processing, self._rules.isolates
        if self._tuning is not None and self._tuning.tunes_payload and isinstance(lane.former, ManyLines):
            lane.former.aim = self._tuning.payload_bytes
        while True:
            try:
                payload = lane.former.take()
            except UnusableRecord as exc:
                if isolates and isinstance(exc, PayloadTooLarge) and exc.may_be_passed_over:
                    self._pass_over(lane, exc)
                    continue
                self._fail_unusable(lane, exc)
                return None
            if payload is None:
                lane.starved = True
                if self._wants_buffer or self._budget.awaited:
                    self._room.set()
                return None
            if self._wants_buffer and not lane.former.ready and lane.former.buffered < self._rules.read_ahead:
                self._room.set()
            if payload.too_large is not None:
                assert isinstance(lane.former, PassingOver) and lane.former.following is not None, "it gave the payload"
                lane.former = lane.former.following
                self._isolate(lane, payload, payload.too_large.told(self._rules.effective.max_payload_bytes))
                if lane.failure is not None:
                    return None
                continue
            if isolates or (lane.header is not None and self._tuning is not None):  # what halves are cut from
                payload.raw = payload.joined()
            try:
                if processing is None or processing.prepare(payload):
                    if lane.header is not None:
                        lane.header.prefix(payload)
                    return payload
            except RecordError as exc:
                if not isolates:
                    payload.index = lane.next_index
                    lane.lose(payload)
                    self.give_back(payload.size)
                    self._fail_record(lane, lane.next_index, payload, exc)
                    return None
                self._isolate(lane, payload, str(exc))
                if self._again or lane.failure is not None:
                    return None
                continue
            lane.drop_records(lane.next_index - 1, payload.records)
            self.give_back(payload.size)

    def _isolate(self, lane: Lane, payload: Payload, message: str) -> None:
        """Find the bad records of a payload that can't be sent."""
        payload.index = lane.next_index
        lane.next_index += 1
        self._budget.results += 1
        self._isolator.take(lane, payload, "ClientError", message)

    def _pass_over(self, lane: Lane, error: PayloadTooLarge) -> None:
        """Look for the end of a record that is too long, and form payloads of what stands behind it."""
        lane.former = passing = self._rules.passing_over(lane.former, error, lane.header)
        if lane.ended:
            passing.finish()
        self.give_back(passing.let_go())

    # -- answers

    def take_answer(self, connection: Connection, lane: Lane, payload: Payload, answer: AnswerBody, now: float) -> None:
        """Take any answer: of a good one the rows are rewritten, if they are to be, others fail the attempt."""
        rules = self._rules
        connection.lane = connection.payload = None
        if connection.received:
            self._budget.give_back(self._arriving.forget(connection))  # it is counted again, if it is kept
        if connection.keep_alive:
            self._idle.append(connection)
        else:
            self._requests.drop(connection)
        if self._tuning is not None and connection.status == 200:
            self._tuning.answered(now, connection.started, payload, _size_of(answer))
            self._concurrency = self._tuning.concurrency
        failure = failure_of_status(connection.status)
        if failure is not None:
            payload.sent_at = connection.started
            seconds, why = rules.spec.invocation_timeout_seconds, connection.header(FAILURE_HEADER)
            failure = failure_in_place(failure, why, timeout_seconds=seconds)
            retry_after = retry_after_seconds(connection.header(b"retry-after"), self._clock.now())
            self._attempt_failed(lane, payload, failure, answer=self._joined(answer), retry_after=retry_after)
            return
        if (size := _size_of(answer)) > self._limits.answer_bytes:
            self._attempt_failed(lane, payload, failure_of_large_answer(self._limits.answer_bytes, size))
            return
        if not lane.may_fail_at(payload.index):
            self._drop_payload(lane, payload)
            return
        if rules.rewrites or rules.counts_rows is not None:
            answer = self._joined(answer)
            try:
                if rules.counts_rows is not None:
                    rules.counts_rows(payload, answer)
                elif rules.processing is not None:
                    answer = rules.processing.complete(payload, answer)
            except RecordError as exc:
                self._refuse_answer(lane, payload, exc)
                return
        if payload.isolation is None:
            self._finish(lane, payload, answer, _size_of(answer))
        elif lane.failure is None:
            whole = self._joined(answer)
            self._counters.in_flight -= 1
            self._budget.held += len(whole)
            self._isolator.answered(lane, payload, whole)
        else:
            self._drop_payload(lane, payload)
        if lane.failure is not None:
            self._settle(lane)

    def _refuse_answer(self, lane: Lane, payload: Payload, error: RecordError) -> None:
        """Take an answer that does not go with its records."""
        if not self._wants_failure(lane, payload):
            self._drop_payload(lane, payload)
            self._settle(lane)
            return
        if self._rules.isolates:
            self._counters.in_flight -= 1
            self._isolator.take(lane, payload, "ClientError", str(error))
            return
        self._drop_payload(lane, payload)
        self._fail_record(lane, payload.index, payload, error)

    def _wants_failure(self, lane: Lane, payload: Payload) -> bool:
        """Return whether the failure of a payload tells anything: bad records say nothing of an object that failed."""
        return lane.failure is None or (not self._rules.isolates and lane.may_fail_at(payload.index))

    def _finish(self, lane: Lane, payload: Payload, answer: AnswerBody, size: int) -> None:
        """Put a result where it is written from, in its turn."""
        self._counters.in_flight -= 1
        self._budget.held += size
        lane.finish(payload, answer, payload.size + size)
        if (
            lane.room >= self._limits.write_bytes
            or self._budget.awaited
            or self._arriving.paused
            or (lane.exhausted and lane.complete)
        ):
            lane.wake.set()

    def _joined(self, answer: AnswerBody) -> bytes:
        """Return an answer as bytes; a buffer of the pool goes back there."""
        if isinstance(answer, bytes):
            return answer
        if isinstance(answer, list):
            return b"".join(answer)
        body = bytes(answer)
        self._requests.pool.give_back(answer)
        return body

    # -- failing

    def on_failed_attempt(self, lane: Lane, payload: Payload, failure: AttemptFailure, detail: str) -> None:
        """Take an attempt that got no answer."""
        self._attempt_failed(lane, payload, failure, detail=detail)

    def _give_up_streamed(self, lane: Lane, payload: Payload, failed: FailedAttempt) -> None:
        """Fail an object that was streamed, as if it had been one payload."""
        self._counters.in_flight += 1
        self._budget.results += 1
        self._attempt_failed(lane, payload, failed.failure, answer=failed.answer, detail=failed.detail)

    def _attempt_failed(
        self,
        lane: Lane,
        payload: Payload,
        failure: AttemptFailure,
        *,
        answer: bytes | None = None,
        detail: str = "",
        retry_after: float | None = None,
    ) -> None:
        payload.failed_attempts += 1
        if not self._wants_failure(lane, payload):
            self._drop_payload(lane, payload)
            self._settle(lane)
            return
        if self._tuning is not None:
            if self._tuning.failed(self._monotonic(), payload, failure):
                payload.failed_attempts -= 1
            self._concurrency = self._tuning.concurrency
            if failure.status == TOO_LARGE and self._isolator.split(lane, payload):
                self._counters.in_flight -= 1
                return
        if failure.may_retry and payload.failed_attempts <= self._rules.spec.invocation_max_retries:
            self._requests.send_later(lane, payload, retry_after)
            return
        text = None if answer is None else answer.decode("utf-8", "replace")[: self._limits.answer_snippet_chars]
        message = f"{failure.message}: {detail}" if detail else failure.message
        if self._rules.isolates:
            self._counters.in_flight -= 1
            self._isolator.take(lane, payload, failure.label, message, status=failure.status, answer=text)
            return
        self._drop_payload(lane, payload)
        self.fail(lane, payload.index, attempt_told(lane, payload, failure, message, text))

    def _drop_payload(self, lane: Lane, payload: Payload) -> None:
        """Forget a payload that was sent and whose result nobody wants."""
        lane.lose(payload)
        self._counters.in_flight -= 1
        self._forget_result(payload)

    def _forget_result(self, payload: Payload) -> None:
        isolation = payload.isolation
        if isolation is None:
            self.give_back_results(1, payload.size)
        elif isolation.skip():
            self.give_back_results(1, isolation.payload.size + isolation.room)

    def _fail_unusable(self, lane: Lane, error: UnusableRecord) -> None:
        limit = self._rules.effective.max_payload_bytes
        self.fail(lane, lane.next_index, unusable_told(lane, error, limit=limit))

    def _fail_record(self, lane: Lane, index: int, payload: Payload, error: RecordError) -> None:
        told = record_told(
            lane,
            payload,
            error,
            answer_chars=self._limits.answer_snippet_chars,
            quoted_newlines=self._rules.formats.keeps_quoted_newlines,
        )
        self.fail(lane, index, told)

    def _stop_over(self, lane: Lane, payload: Payload, bad: BadRecord) -> None:
        """Fail an object, and begin no other: more records are bad than are allowed."""
        self._over = True
        allowed = self._rules.options.failures_allowed
        self.fail(lane, payload.index, over_told(lane, bad, allowed="" if allowed is None else allowed.text))

    def fail(self, lane: Lane, index: int, told: Told) -> None:
        """Record why a lane fails, unless an earlier payload failed already, and stop its requests."""
        if lane.settled:
            return
        first = lane.failure is None
        if lane.may_fail_at(index):
            lane.failure, lane.failure_index, lane.failure_log = told.failure, index, told.log_text
            for payload in self._requests.drop_aside(lane):
                self._drop_payload(lane, payload)
            self.give_back_results(*lane.drop_behind(index))
        if first:
            if lane in self._forming:
                self._forming.remove(lane)
            self._room.set()
        self._settle(lane)

    def _settle(self, lane: Lane) -> None:
        """Make a failure final once no earlier payload of its lane is under way."""
        if lane.settled or lane.failure is None or self._requests.may_show_failure(lane):
            return
        if any(waiting is lane and self._wants_failure(lane, part) for waiting, part in self._again):
            return
        lane.settled = lane.closing = True
        failure = lane.failure
        for line in failure_lines(lane.input.ref, lane.failure_log, failure.answer):
            self._log(line)
        if failure.record is not None:
            self._log(
                f"{lane.input.ref.bucket}/{lane.input.ref.key}: first record of the failing payload: "
                f"{failure.record}, at byte {failure.offset}"
            )
        self._failures.append(failure if lane.input.range is None else replace(failure, is_range=True))
        self._failure_count += 1
        self._counters.objects_failed += 1
        if len(self._failures) > 4 * self._limits.failures_kept + 16:
            self._failures = list(select_failures(self._failures, self._limits.failures_kept))
        lane.wake.set()

    def close_lane(self, lane: Lane) -> None:
        """Take note that nothing more happens to an object."""
        if lane in self._lanes:
            self._lanes.discard(lane)
            self._counters.count(lane.counts)
            over = lane.complete or lane.failure is not None  # else the run is, and leaves records without a result
            self._counters.bytes_done += lane.input.size if over else bytes_done(lane, self._rules)
        self._room.set()
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._all_fed and not self._lanes:
            self._end()


def _size_of(answer: AnswerBody) -> int:
    return sum(map(len, answer)) if isinstance(answer, list) else len(answer)
