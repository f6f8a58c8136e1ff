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
import random
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing
from datetime import datetime
from functools import partial
from typing import Any

from millrace.clock import Clock
from millrace.dataplane.arriving import ArrivingAnswers
from millrace.dataplane.assemble import assemble
from millrace.dataplane.bad_records import BadRecord, Isolation, halves
from millrace.dataplane.batch import Payload, PayloadTooLarge, UnusableRecord, payload_former
from millrace.dataplane.checkpoints import Checkpoints, Origin
from millrace.dataplane.client import (
    AnswerTooLarge,
    Client,
    Connection,
    ConnectionFailed,
    open_connection,
    request_head,
)
from millrace.dataplane.connection import AnswerBody
from millrace.dataplane.execution_parameters import EffectiveSettings
from millrace.dataplane.failures import data_log_line, failure_lines, select_failures
from millrace.dataplane.gzip import CorruptGzip
from millrace.dataplane.lane import NOTHING, Lane
from millrace.dataplane.limits import Budget, Limits
from millrace.dataplane.long_body import BufferPool
from millrace.dataplane.object_output import NoOutputBucket, ObjectOutput
from millrace.dataplane.placeholders import counts_rows, placeholder
from millrace.dataplane.plan import InputObject
from millrace.dataplane.processing import RecordError, locate, processing_of
from millrace.dataplane.progress import Counters
from millrace.dataplane.reading import ObjectReader
from millrace.dataplane.record_count import record_count
from millrace.dataplane.retry import (
    AttemptFailure,
    Trouble,
    failure_of_large_answer,
    failure_of_status,
    failure_of_trouble,
    retry_after_seconds,
    retry_delay,
)
from millrace.dataplane.streamed import StreamedAttempt
from millrace.errors import NO_ROOM, InternalFailure
from millrace.jobs.transform import (
    MIB,
    AssembleWith,
    BatchStrategy,
    Compression,
    InstanceOutcome,
    ObjectFailure,
    Progress,
    SplitType,
    TransformSpec,
)
from millrace.jobs.transform_options import JobOptions, OnError
from millrace.ports.objects import NoSuchBucket, NoSuchKey, ObjectMeta, ObjectStore, ObjectWriter
from millrace.ports.runtime import Address
from millrace.told import shortened

__all__ = ["output_meta", "run_transform"]

PATH = "/invocations"
PRODUCT_LIMIT_BYTES = 100 * MIB

_UNREADABLE = (NoSuchKey, NoSuchBucket, CorruptGzip)
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
        budget: Where room is taken and given back, all of it by the end of a run that nothing broke off; one of its
            own of `limits.inflight_bytes` if None.

    Raises:
        LeaseLost: From the guard; nothing is committed any more.
        InfrastructureError, OSError: The object store does not work; outputs in work were aborted.
    """
    run = _Run(
        spec,
        inputs,
        objects=objects,
        address=address,
        effective=effective,
        data_log=data_log,
        on_progress=on_progress,
        stop=stop,
        commit_guard=commit_guard,
        clock=clock,
        limits=limits or Limits(),
        options=options or JobOptions(),
        checkpoints=checkpoints,
        job_start=job_start or clock.now(),
        on_committed=on_committed,
        budget=budget,
    )
    return await run.run()


def output_meta(spec: TransformSpec) -> ObjectMeta:
    """Return what is attached to an output object.

    Source:
        batch-transform.md 5.1: Accept as its type, else application/octet-stream; KmsKeyId as SSE-KMS.
    """
    headers = {"content-type": spec.accept or "application/octet-stream"}
    if spec.output_kms_key:
        headers["x-amz-server-side-encryption"] = "aws:kms"
        headers["x-amz-server-side-encryption-aws-kms-key-id"] = spec.output_kms_key
    return ObjectMeta(headers=headers)


class _Run:
    """The state of one run; see the module's theory."""

    def __init__(
        self,
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
        limits: Limits,
        options: JobOptions,
        checkpoints: Checkpoints | None,
        job_start: datetime,
        on_committed: Callable[[InputObject], None] | None,
        budget: Budget | None,
    ) -> None:
        self._spec = spec
        self._inputs = inputs
        self._objects = objects
        self._address = address
        self._effective = effective
        self._data_log = data_log
        self._on_progress = on_progress
        self._stop = stop
        self._commit_guard = commit_guard
        self._clock = clock
        self._monotonic = clock.monotonic
        self._limits = limits
        self._options = options
        self._isolates = options.on_error is not OnError.FAIL
        self._checkpoints = checkpoints
        self._on_committed = on_committed

        self._processing = processing_of(spec, job_start)
        self._rewrites = self._processing is not None and self._processing.rewrites_answers
        self._counts_rows = counts_rows(spec) if options.strict_counts and not self._rewrites else None
        looks = self._rewrites or self._isolates or self._counts_rows is not None
        self._plain_answer_bytes = -1 if looks else limits.answer_bytes
        """Good answers of up to this size are written as they are."""
        self._line_after_each = spec.assemble_with is AssembleWith.LINE and not self._rewrites
        self._meta = output_meta(spec)
        self._headers = [
            (name, value) for name, value in (("Content-Type", spec.content_type), ("Accept", spec.accept)) if value
        ]
        self._chunked = effective.max_payload_bytes == 0
        framing = b"Transfer-Encoding: chunked\r\n\r\n" if self._chunked else b"Content-Length: "
        self._head = request_head("POST", PATH, address, self._headers) + framing
        self._splits = spec.split is not SplitType.NONE
        self._streams = (
            self._chunked
            and self._processing is None
            and not (self._splits and effective.strategy is BatchStrategy.SINGLE_RECORD)
        )
        many = self._splits and effective.strategy is BatchStrategy.MULTI_RECORD
        self._read_ahead = limits.read_ahead_chunks * limits.chunk_bytes + (effective.max_payload_bytes if many else 0)

        self._budget = budget or Budget(limits.inflight_bytes)
        self._counters = Counters(objects_total=len(inputs), bytes_total=sum(entry.size for entry in inputs))
        self._latency = self._counters.latency
        self._lanes: set[Lane] = set()
        self._forming: deque[Lane] = deque()
        """Lanes with payloads to form, in key order; only the first of them is still fed when objects are split."""
        self._connections: set[Connection] = set()
        self._idle: list[Connection] = []
        self._again: deque[tuple[Lane, Payload]] = deque()
        """Parts of payloads that failed, to be sent before any new payload; their lanes hold their room."""
        self._aside: dict[asyncio.Task[None], tuple[Lane, Payload]] = {}
        """Payloads on no connection: their tasks connect, or back off. Whoever removes an entry answers for it."""
        self._arriving = ArrivingAnswers(
            self._budget,
            answer_bytes=limits.answer_bytes,
            monotonic=clock.monotonic,
            earliest=self._earliest_request,
            flush=self._flush,
        )
        self._pool = BufferPool(limits.inflight_bytes)
        self._outstanding = 0
        self._room = asyncio.Event()
        self._wants_room = False
        self._wants_buffer = False
        self._all_fed = False
        self._failures: list[ObjectFailure] = []
        self._failure_count = 0
        self._stopped = False
        self._over = False
        """More records are bad than the job's owner allows: no further object is begun."""
        self._bad_records = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._committing: set[asyncio.Task[Any]] = set()
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # -- life

    async def run(self) -> InstanceOutcome:
        """Run to the end."""
        self._log(str(self._effective))
        product = self._effective.max_concurrent_transforms * self._effective.max_payload_bytes
        if product > PRODUCT_LIMIT_BYTES:
            self._log(
                f"The product of MaxConcurrentTransforms and MaxPayloadInMB is {product // MIB}, "
                "more than the 100 that SageMaker allows where both are given."
            )
        for actor in (self._tick(), self._watch_stop(), self._feed()):
            self._spawn(actor)
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
        )

    def _spawn(self, actor: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(actor)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._crash(error)

    def _spawn_aside(self, lane: Lane, payload: Payload, actor: Coroutine[Any, Any, None]) -> None:
        self._aside[self._spawn(actor)] = lane, payload

    def _crash(self, error: BaseException) -> None:
        if not self._ended.done():
            self._ended.set_exception(error)

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    async def _shut_down(self) -> None:
        for connection in self._connections:
            connection.abort()
            self._give_back(self._arriving.forget(connection))
            if connection.payload is not None:  # of an object that failed, or of a run that is broken off
                self._drop_payload(connection.payload)
        for _, payload in self._aside.values():
            self._drop_payload(payload)
        self._aside.clear()
        while self._again:
            self._forget_result(self._again.popleft()[1])
        for task in self._tasks - self._committing:
            task.cancel()
        while self._tasks:  # a commit under way is waited for: it must be either done or not done
            await asyncio.wait(set(self._tasks))
        self._counters.in_flight = 0

    async def _watch_stop(self) -> None:
        await self._stop.wait()
        self._stopped = True
        self._end()

    async def _tick(self) -> None:
        while True:
            await self._clock.sleep(self._limits.tick_seconds)
            self._drop_late_requests()
            if self._checkpoints is not None:
                self._flush()  # what is written can be committed in a part
            self._on_progress(self._snapshot())

    def _snapshot(self) -> Progress:
        return self._counters.snapshot(lane.counts for lane in self._lanes)

    def _log(self, text: str) -> None:
        self._data_log(data_log_line(self._clock.now(), text))

    # -- feeding

    async def _feed(self) -> None:
        slots = asyncio.Semaphore(self._effective.max_concurrent_transforms)
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
            if self._streams:
                self._spawn(self._stream_object(lane, slots))
            elif self._splits:
                await self._feed_split_object(lane)
            else:
                self._budget.take(reserved)
                self._spawn(self._transform_whole_object(lane, reserved))
        self._all_fed = True
        self._end_if_done()

    def _open_lane(self, entry: InputObject, order: int) -> Lane:
        effective = self._effective
        reader = ObjectReader(
            self._objects,
            entry,
            compression=self._spec.compression,
            chunk_bytes=self._limits.chunk_bytes,
            counters=self._counters,
        )
        output = ObjectOutput(
            entry,
            objects=self._objects,
            meta=self._meta,
            checkpoints=self._checkpoints,
            in_parts=self._splits and not self._streams,
            monotonic=self._monotonic,
            tells=self._isolates,
        )
        former = payload_former(self._spec.split, effective.strategy, effective.max_payload_bytes)
        lane = Lane(entry, former, reader, output, order=order)
        self._lanes.add(lane)
        return lane

    async def _is_done(self, entry: InputObject) -> bool:
        """Return whether an earlier attempt has made the output of this very object; then it counts as done."""
        assert self._checkpoints is not None, "asked only of work that is taken up"
        try:
            origin = Origin.decode((await self._objects.get(entry.output)).meta.origin)
        except (NoSuchKey, NoSuchBucket):
            return False
        if origin is None or not self._checkpoints.made_by_us(origin, entry):
            return False
        self._counters.bytes_in += entry.size
        self._counters.objects_done += 1
        self._counters.count(origin.counts)
        if self._on_committed is not None:
            self._on_committed(entry)
        return True

    def _refuse(self, entry: InputObject, order: int) -> None:
        """Fail an object that can have no output."""
        lane = self._open_lane(entry, order)
        self._fail_writing(lane, "ClientError", entry.refused or "")
        self._close_lane(lane)

    async def _feed_split_object(self, lane: Lane) -> None:
        """Go on where an earlier attempt was, if there was one, and read the object."""
        try:
            position = await lane.output.begin()
        except NoOutputBucket as exc:
            self._fail_writing(lane, "ClientError", str(exc))
            self._close_lane(lane)
            return
        if position is not None:
            lane.start, lane.start_offset = position.counts, position.offset
            self._log(f"{lane.input.ref.bucket}/{lane.input.ref.key}: going on at byte {position.offset}")
        self._forming.append(lane)
        self._spawn(self._write_object(lane))
        await self._read_split_object(lane)

    def _reservation(self, entry: InputObject) -> int:
        """Return the room that must be there before an object is opened."""
        if self._splits or self._streams:
            return self._limits.chunk_bytes
        limit = self._effective.max_payload_bytes
        if self._spec.compression is Compression.GZIP:
            return max(limit, self._limits.chunk_bytes)
        return min(entry.size, limit) if limit else entry.size

    async def _wait_for_lane(self, size: int) -> None:
        while len(self._lanes) >= self._limits.objects_open or not self._budget.has_room(size):
            await self._wait_for_room()

    async def _wait_for_room(self, *, enough_read: bool = False) -> None:
        """Wait until there may be room, or (`enough_read`) until some of what was read went into payloads."""
        self._wants_room = not enough_read
        self._wants_buffer = enough_read
        self._room.clear()
        if self._wants_room:
            self._flush()
        await self._room.wait()
        self._wants_room = self._wants_buffer = False

    def _flush(self) -> None:
        """Have everything written that may be: somebody waits for the room."""
        for lane in self._lanes:
            if lane.answers:
                lane.wake.set()

    def _give_back(self, size: int) -> None:
        self._budget.give_back(size)
        if self._wants_room:
            self._room.set()
        if self._arriving.paused:
            self._arriving.read_on()

    async def _read_split_object(self, lane: Lane) -> None:
        chunk_bytes = self._limits.chunk_bytes
        try:
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
                    lane.starved = False
                    self._pump()
        except _UNREADABLE as exc:
            self._fail_reading(lane, exc)
            return
        lane.former.finish()
        lane.ended = True
        self._pump()

    def _may_read(self, lane: Lane, size: int) -> bool:
        if lane.failure is not None:
            return True
        return self._wants_chunk(lane) and self._budget.has_room(size, forming=lane.former.buffered)

    def _wants_chunk(self, lane: Lane) -> bool:
        return lane.starved or lane.former.buffered < self._read_ahead

    async def _transform_whole_object(self, lane: Lane, reserved: int) -> None:
        """Read an object that is one payload, then write its result; `reserved` bytes of room are taken already."""
        limit = self._effective.max_payload_bytes
        trouble: Exception | None = None
        try:
            if limit and self._spec.compression is Compression.NONE and lane.input.size > limit:
                raise PayloadTooLarge(1, 0)
            async with aclosing(lane.reader.chunks()) as chunks:
                async for chunk in chunks:
                    lane.former.feed(chunk)
                    if limit and lane.former.buffered > limit:
                        raise PayloadTooLarge(1, 0)
        except (*_UNREADABLE, PayloadTooLarge) as exc:
            trouble = exc
        self._budget.take(lane.former.buffered)
        self._give_back(reserved)
        if isinstance(trouble, PayloadTooLarge):
            self._fail_too_large(lane, trouble)
        elif trouble is not None:
            self._fail_reading(lane, trouble)
        if lane.failure is None:
            lane.former.finish()
            lane.ended = True
            self._forming.append(lane)
            self._pump()
        await self._write_object(lane)

    # -- sending

    def _pump(self, now: float = 0.0) -> None:
        """Form and send payloads as long as requests may be sent; `now` spares the inner loop a look at the clock."""
        concurrency = self._effective.max_concurrent_transforms
        counters, budget, forming, idle = self._counters, self._budget, self._forming, self._idle
        again = self._again
        while (forming or again) and counters.in_flight < concurrency:
            if again:
                self._send_part(*again.popleft())
                continue
            if counters.in_flight and (budget.held > budget.limit or self._outstanding >= self._limits.answers_held):
                self._flush()
                return
            lane = forming[0]
            ready = lane.former.ready
            payload = ready.pop() if ready and self._processing is None else self._next_payload(lane)
            if payload is not None:
                payload.index = lane.next_index
                lane.next_index += 1
                counters.in_flight += 1
                counters.requests += 1
                self._outstanding += 1
                if idle:
                    self._send_on(idle.pop(), lane, payload, now or self._monotonic())
                else:
                    self._spawn_aside(lane, payload, self._connect_and_send(lane, payload))
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
        if not lane.may_fail_at(part.index):
            self._drop_payload(part)
            return
        self._counters.requests += 1
        if self._idle:
            self._send_on(self._idle.pop(), lane, part, self._monotonic())
        else:
            self._spawn_aside(lane, part, self._connect_and_send(lane, part))

    def _next_payload(self, lane: Lane) -> Payload | None:
        """Return the lane's next payload, ready to send; None if it has none, must be fed first, or failed."""
        while True:
            try:
                payload = lane.former.take()
            except UnusableRecord as exc:
                self._fail_too_large(lane, exc)
                return None
            if payload is None:
                lane.starved = True
                if self._wants_buffer or self._wants_room:
                    self._room.set()
                return None
            if self._wants_buffer and lane.former.buffered < self._read_ahead:
                self._room.set()
            if self._processing is None:
                return payload
            if self._isolates:
                payload.raw = payload.joined()
            try:
                if self._processing.prepare(payload):
                    return payload
            except RecordError as exc:
                if not self._isolates:
                    self._give_back(payload.size)
                    self._fail_record(lane, lane.next_index, payload, exc)
                    return None
                payload.index = lane.next_index
                lane.next_index += 1
                self._outstanding += 1
                self._isolate(lane, payload, "ClientError", str(exc))
                if self._again or lane.failure is not None:
                    return None
                continue
            lane.drop_records(lane.next_index - 1, payload.records)
            self._give_back(payload.size)

    def _send_on(self, connection: Connection, lane: Lane, payload: Payload, now: float) -> None:
        connection.lane = lane
        connection.payload = payload
        connection.started = now
        body = payload.body
        if not self._chunked:
            connection.send(self._head, body, payload.sent_size)
            return
        if not payload.sent_size:  # a chunk of no bytes would end the body, and the end be taken for a request
            connection.send_raw((self._head, b"0\r\n\r\n"))
            return
        parts = (body,) if isinstance(body, bytes) else body
        connection.send_raw((self._head, b"%x\r\n" % payload.sent_size, *parts, b"\r\n0\r\n\r\n"))

    async def _connect_and_send(self, lane: Lane, payload: Payload) -> None:
        timeout = self._spec.invocation_timeout_seconds
        try:
            connection = await asyncio.wait_for(open_connection(self._address), timeout)
        except (ConnectionFailed, TimeoutError) as exc:
            if self._aside.pop(_current_task(), None) is None:
                return
            trouble = Trouble.TIMEOUT if isinstance(exc, TimeoutError) else Trouble.NO_ANSWER
            self._attempt_failed(lane, payload, failure_of_trouble(trouble, timeout_seconds=timeout), detail=str(exc))
            self._pump()
            return
        if self._aside.pop(_current_task(), None) is None:  # wait_for may return although it was cancelled
            connection.abort()
            return
        connection.on_answer = self._answered
        connection.on_lost = self._lost
        connection.on_growth = self._arriving.grew
        connection.pool = self._pool
        self._connections.add(connection)
        self._send_on(connection, lane, payload, self._monotonic())

    # -- answers

    def _answered(self, connection: Connection) -> None:
        """Take an answer and send what comes next: this is the inner loop, once for every request."""
        try:
            lane, payload = connection.lane, connection.payload
            connection.lane = connection.payload = None
            now = self._monotonic()
            self._latency.add(now - connection.started)
            answer = connection.body
            plain = connection.status == 200 and type(answer) is bytes and lane.failure is None
            if connection.received:
                self._budget.give_back(self._arriving.forget(connection))  # it is counted again, if it is kept
            if connection.keep_alive:
                self._idle.append(connection)
            else:
                self._connections.discard(connection)
                connection.abort()
            if plain and len(answer) <= self._plain_answer_bytes:
                self._finish(lane, payload, answer, len(answer))
            else:
                self._take_answer(connection, lane, payload, answer)
            self._pump(now)
            if self._arriving.paused:
                self._arriving.read_on()  # the earliest request is another one now
        except Exception as exc:  # noqa: BLE001 - a callback of the event loop: the run must end, not only log
            self._crash(exc)

    def _take_answer(self, connection: Connection, lane: Lane, payload: Payload, answer: AnswerBody) -> None:
        """Take any answer: of a good one the rows are rewritten, if they are to be, others fail the attempt."""
        failure = failure_of_status(connection.status)
        if failure is not None:
            retry_after = retry_after_seconds(connection.header(b"retry-after"), self._clock.now())
            self._attempt_failed(lane, payload, failure, answer=self._joined(answer), retry_after=retry_after)
            return
        if (size := _size_of(answer)) > self._limits.answer_bytes:
            self._attempt_failed(lane, payload, failure_of_large_answer(self._limits.answer_bytes, size))
            return
        if not lane.may_fail_at(payload.index):
            self._drop_payload(payload)
            return
        if self._rewrites or self._counts_rows is not None:
            try:
                answer = self._joined(answer)
                if self._rewrites and self._processing is not None:
                    answer = self._processing.complete(payload, answer)
                elif self._counts_rows is not None:
                    self._counts_rows(payload, answer)
            except RecordError as exc:
                self._refuse_answer(lane, payload, exc)
                return
        if lane.failure is not None:
            self._drop_payload(payload)
            self._settle(lane)
        elif payload.isolation is not None:
            self._finish_part(lane, payload, payload.isolation, self._joined(answer))
        else:
            self._finish(lane, payload, answer, _size_of(answer))

    def _refuse_answer(self, lane: Lane, payload: Payload, error: RecordError) -> None:
        """Take an answer that does not go with its records."""
        if self._isolates and lane.failure is None:
            self._counters.in_flight -= 1
            self._isolate(lane, payload, "ClientError", str(error))
            return
        self._drop_payload(payload)
        self._fail_record(lane, payload.index, payload, error)

    def _finish(self, lane: Lane, payload: Payload, answer: AnswerBody, size: int) -> None:
        """Put a result where it is written from, in its turn."""
        self._counters.in_flight -= 1
        self._budget.held += size
        lane.finish(payload, answer, payload.size + size)
        if (
            lane.room >= self._limits.write_bytes
            or self._wants_room
            or self._arriving.paused
            or (lane.exhausted and lane.complete)
        ):
            lane.wake.set()

    # -- bad records

    def _isolate(
        self,
        lane: Lane,
        payload: Payload,
        label: str,
        message: str,
        *,
        status: int | None = None,
        answer: str | None = None,
    ) -> None:
        """Cut a payload that fails in two, or take note that its one record is bad; it is on no connection."""
        isolation = payload.isolation
        if isolation is None:
            isolation = payload.isolation = lane.isolating[payload.index] = Isolation(payload)
        original = payload.raw or payload.joined()
        parts = halves(payload, original, self._spec.split) if payload.records > 1 else [payload]
        if len(parts) > 1:
            isolation.cut(len(parts))
            for part in parts:
                self._try_part(lane, part, isolation)
            return
        record, offset = lane.place(payload.record, payload.offset)
        bad = BadRecord(
            record=record, offset=offset, text=original, label=label, message=message, status=status, answer=answer
        )
        lane.failed += 1
        self._bad_records += 1
        if self._bad_records <= self._limits.failures_kept:
            self._log(f"{lane.input.ref.bucket}/{lane.input.ref.key}: record {record} at byte {offset}: {message}")
        if isolation.fail(payload, bad, self._placeholder(payload, original)):
            self._finish_isolation(lane, isolation)
        allowed = self._options.failures_allowed
        if allowed is not None and allowed.count is not None and self._bad_records > allowed.count:
            self._over = True
            self._fail_over(lane, payload, bad)

    def _try_part(self, lane: Lane, part: Payload, isolation: Isolation) -> None:
        """Have a part sent, unless a filter leaves nothing of it or cannot take it."""
        part.isolation = isolation
        if self._processing is not None:
            part.raw = part.joined()
            try:
                if not self._processing.prepare(part):
                    lane.drop_records(part.index, part.records)
                    if isolation.skip():
                        self._finish_isolation(lane, isolation)
                    return
            except RecordError as exc:
                self._isolate(lane, part, "ClientError", str(exc))
                return
        self._again.append((lane, part))

    def _placeholder(self, payload: Payload, original: bytes) -> bytes | None:
        if self._options.on_error is not OnError.SKIP:
            return None
        if self._rewrites and self._processing is not None:
            return self._processing.placeholder(original)
        return placeholder(self._spec)

    def _finish_part(self, lane: Lane, part: Payload, isolation: Isolation, answer: bytes) -> None:
        self._counters.in_flight -= 1
        self._budget.held += len(answer)
        lane.finish_part(part)
        if isolation.succeed(part, answer):
            self._finish_isolation(lane, isolation)

    def _finish_isolation(self, lane: Lane, isolation: Isolation) -> None:
        """Make what became of the parts of a payload its result."""
        payload, answers = isolation.payload, isolation.answers()
        lane.isolating.pop(payload.index, None)
        answer = (b"\n" if self._line_after_each else b"").join(answers) if answers else NOTHING
        lane.place_result(payload.index, answer, payload.size + isolation.room, isolation.bad_records())
        lane.wake.set()

    def _fail_over(self, lane: Lane, payload: Payload, bad: BadRecord) -> None:
        """Fail an object with whose bad record there are more than the job's owner allows."""
        allowed = self._options.failures_allowed
        text = "" if allowed is None else allowed.text
        failure = ObjectFailure(
            key=lane.input.ref.key,
            label=bad.label,
            message=f"More than {text} records failed (MILLRACE_MAX_FAILED_RECORDS); the last one: {bad.message}",
            record=bad.record,
            offset=bad.offset,
            status=bad.status,
            answer=bad.answer,
        )
        self._fail(lane, payload.index, failure, f"{bad.label}: {failure.message}")

    def _earliest_request(self) -> Connection | None:
        """Return the connection of the earliest request under way, None if that connects or backs off.

        None too while anything can be written: that gives room back all by itself.
        """
        if any(lane.answers or lane.writing for lane in self._lanes):
            return None
        sent = [connection for connection in self._connections if connection.payload is not None]
        first = min(sent, key=lambda one: (one.lane.order, one.payload.index), default=None)
        if first is None:
            return None
        place = (first.lane.order, first.payload.index)
        waits = any((lane.order, payload.index) < place for lane, payload in self._aside.values())
        return None if waits else first

    def _joined(self, answer: AnswerBody) -> bytes:
        """Return an answer as bytes; a buffer of the pool goes back there."""
        if isinstance(answer, bytes):
            return answer
        if isinstance(answer, list):
            return b"".join(answer)
        body = bytes(answer)
        self._pool.give_back(answer)
        return body

    def _lost(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._give_back(self._arriving.forget(connection))
        lane, payload = connection.lane, connection.payload
        if payload is None:
            if connection in self._idle:
                self._idle.remove(connection)
            return
        connection.lane = connection.payload = None
        try:
            error = connection.error
            if isinstance(error, ConnectionFailed) and error.stale and lane.may_fail_at(payload.index):
                # It was closed while it was idle, before this request: no attempt was made on the container.
                self._spawn_aside(lane, payload, self._connect_and_send(lane, payload))
                return
            if isinstance(error, AnswerTooLarge):
                self._attempt_failed(lane, payload, failure_of_large_answer(error.limit, error.size))
            else:
                failure = failure_of_trouble(Trouble.NO_ANSWER, timeout_seconds=self._spec.invocation_timeout_seconds)
                self._attempt_failed(lane, payload, failure, detail=str(error))
            self._pump()
        except Exception as exc:  # noqa: BLE001 - as in _answered
            self._crash(exc)

    def _drop_late_requests(self) -> None:
        """Give up requests whose time is over: one sweep over all, cheaper than a timer for each."""
        timeout = self._spec.invocation_timeout_seconds
        oldest = self._monotonic() - timeout
        paused = self._arriving.paused  # we make them wait
        late = [
            one for one in self._connections if one.payload is not None and one.started < oldest and one not in paused
        ]
        for connection in late:
            lane, payload = connection.lane, connection.payload
            connection.lane = connection.payload = None
            self._connections.discard(connection)
            connection.abort()
            self._give_back(self._arriving.forget(connection))
            self._attempt_failed(lane, payload, failure_of_trouble(Trouble.TIMEOUT, timeout_seconds=timeout))
        if late:
            self._pump()

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
        if not lane.may_fail_at(payload.index):
            self._drop_payload(payload)
            return
        if failure.may_retry and payload.failed_attempts <= self._spec.invocation_max_retries:
            self._counters.retries += 1
            delay = self._retry_delay(payload.failed_attempts, retry_after)
            self._spawn_aside(lane, payload, self._send_again(lane, payload, delay))
            return
        text = None if answer is None else answer.decode("utf-8", "replace")[: self._limits.answer_snippet_chars]
        message = f"{failure.message}: {detail}" if detail else failure.message
        if self._isolates and not self._streams:
            self._counters.in_flight -= 1
            self._isolate(lane, payload, failure.label, message, status=failure.status, answer=text)
            return
        self._drop_payload(payload)
        record, offset = lane.place(payload.record, payload.offset)
        self._fail(
            lane,
            payload.index,
            ObjectFailure(
                key=lane.input.ref.key,
                label=failure.label,
                message=message,
                record=record,
                offset=offset,
                status=failure.status,
                answer=text,
            ),
            failure.log_text,
        )

    def _retry_delay(self, failed_attempts: int, retry_after: float | None) -> float:
        return retry_delay(
            failed_attempts,
            jitter=random.random(),
            retry_after=retry_after,
            ceiling=self._spec.invocation_timeout_seconds,
        )

    async def _send_again(self, lane: Lane, payload: Payload, delay: float) -> None:
        await self._clock.sleep(delay)
        if self._aside.pop(_current_task(), None) is not None:
            self._counters.requests += 1
            if self._idle:
                self._send_on(self._idle.pop(), lane, payload, self._monotonic())
            else:
                self._spawn_aside(lane, payload, self._connect_and_send(lane, payload))

    # -- failing

    def _drop_payload(self, payload: Payload) -> None:
        """Forget a payload that was sent and whose result nobody wants."""
        self._counters.in_flight -= 1
        self._forget_result(payload)

    def _forget_result(self, payload: Payload) -> None:
        isolation = payload.isolation
        if isolation is None:
            self._outstanding -= 1
            self._give_back(payload.size)
        elif isolation.skip():
            self._outstanding -= 1
            self._give_back(isolation.payload.size + isolation.room)

    def _fail_reading(self, lane: Lane, error: Exception) -> None:
        missing = isinstance(error, (NoSuchKey, NoSuchBucket))
        message = f"{shortened(str(lane.input.ref))} does not exist" if missing else str(error)
        record, offset = (None, None) if missing or not self._splits else lane.place(*lane.former.reached())
        failure = ObjectFailure(
            key=lane.input.ref.key, label="ClientError", message=message, record=record, offset=offset
        )
        self._fail(lane, lane.next_index, failure, f"ClientError: {message}")

    def _fail_writing(self, lane: Lane, label: str, message: str) -> None:
        self._fail(lane, 0, ObjectFailure(key=lane.input.ref.key, label=label, message=message), f"{label}: {message}")

    def _fail_without_room(self, lane: Lane, error: OSError) -> None:
        """Fail an object whose output finds no room on the disk; others are tried, for they may be smaller."""
        if error.errno not in NO_ROOM:
            raise error
        output = shortened(str(lane.input.output))
        message = f"output {output} could not be written: the disk of the data directory is full ({error.strerror})"
        self._fail_writing(lane, "InternalServerError", message)

    def _fail_too_large(self, lane: Lane, error: UnusableRecord) -> None:
        record, offset = lane.place(error.record, error.offset)
        failure = ObjectFailure(
            key=lane.input.ref.key,
            label="ClientError",
            message=error.told(self._effective.max_payload_bytes),
            record=record,
            offset=offset,
        )
        self._fail(lane, lane.next_index, failure, f"ClientError: {error}")

    def _fail_record(self, lane: Lane, index: int, payload: Payload, error: RecordError) -> None:
        """Fail an object whose record cannot be filtered or joined: to the data log it is a 400, as on SageMaker."""
        records, size = locate(payload.raw, error.position)
        record, offset = lane.place(payload.record + records, payload.offset + size)
        failure = ObjectFailure(
            key=lane.input.ref.key,
            label="ClientError",
            message=str(error),
            record=record,
            offset=offset,
            answer=str(error)[: self._limits.answer_snippet_chars],
        )
        self._fail(lane, index, failure, "ClientError: 400")

    def _fail(self, lane: Lane, index: int, failure: ObjectFailure, log_text: str) -> None:
        """Record why a lane fails, unless an earlier payload failed already, and stop its requests."""
        if lane.settled:
            return
        first = lane.failure is None
        if lane.may_fail_at(index):
            lane.failure, lane.failure_index, lane.failure_log = failure, index, log_text
            self._drop_aside(lane)
        if first:
            results, room = lane.drop()
            self._outstanding -= results
            self._give_back(room)
            if lane in self._forming:
                self._forming.remove(lane)
            self._room.set()
        self._settle(lane)

    def _drop_aside(self, lane: Lane) -> None:
        """Send no more of a lane's payloads behind its failure."""
        for task, (waiting, payload) in list(self._aside.items()):
            if waiting is lane and not lane.may_fail_at(payload.index):
                del self._aside[task]
                task.cancel()
                self._drop_payload(payload)

    def _settle(self, lane: Lane) -> None:
        """Make a failure final once no earlier payload of its lane is under way."""
        if lane.settled or lane.failure is None:
            return
        for connection in self._connections:
            if connection.lane is lane and lane.may_fail_at(connection.payload.index):
                return
        for waiting, payload in self._aside.values():
            if waiting is lane and lane.may_fail_at(payload.index):
                return
        lane.settled = True
        failure = lane.failure
        for line in failure_lines(lane.input.ref, lane.failure_log, failure.answer):
            self._log(line)
        if failure.record is not None:
            self._log(
                f"{lane.input.ref.bucket}/{lane.input.ref.key}: first record of the failing payload: "
                f"{failure.record}, at byte {failure.offset}"
            )
        self._failures.append(failure)
        self._failure_count += 1
        self._counters.objects_failed += 1
        if len(self._failures) > 4 * self._limits.failures_kept + 16:
            self._failures = list(select_failures(self._failures, self._limits.failures_kept))
        lane.wake.set()

    # -- writing

    async def _write_object(self, lane: Lane) -> None:
        """Write a lane's answers as they become ready, then commit, unless the lane fails."""
        output = lane.output
        told = 0
        try:
            while True:
                await lane.wake.wait()
                lane.wake.clear()
                if lane.settled:
                    break
                if lane.answers:
                    records, offset = self._done_until(lane)
                    told += len(lane.bad)
                    counts = lane.counts_until(records, told)
                    await self._write_results(lane)
                    if output.checkpoint_due and lane.failure is None:
                        await output.checkpoint(lane.start_offset + offset, counts)
                if lane.failure is None and lane.complete and not lane.answers:
                    await self._commit(lane)
                    break
        except NoOutputBucket as exc:
            self._fail_writing(lane, "ClientError", str(exc))
            self._pump()
        except OSError as exc:
            self._fail_without_room(lane, exc)
            await output.abort()
            self._pump()
        finally:
            await output.suspend()
            self._close_lane(lane)

    async def _write_results(self, lane: Lane) -> None:
        """Write what may be written, and give its room back."""
        await lane.output.open()  # while the lane holds them: a failure meanwhile gives their room back itself
        results = lane.take_results()
        lane.writing = True
        try:
            for buffer in assemble(results.answers, line_after_each=self._line_after_each):
                await lane.output.write(buffer)
                self._counters.bytes_out += len(buffer)
                if isinstance(buffer, memoryview):
                    self._pool.give_back(buffer)
            await lane.output.tell(results.bad)
        finally:
            lane.writing = False
            self._outstanding -= len(results.answers)
            self._give_back(results.room)
        self._pump()

    def _done_until(self, lane: Lane) -> tuple[int, int]:
        """Return how many records, and bytes, of this attempt stand before the first payload without a result."""
        index = lane.next_result
        if index == lane.next_index:
            return lane.former.taken()
        if index in lane.isolating:
            first = lane.isolating[index].payload
        else:
            sent = ((one.lane, one.payload) for one in self._connections if one.payload is not None)
            first = next(
                payload for at, payload in (*sent, *self._aside.values()) if at is lane and payload.index == index
            )
        return first.record - 1, first.offset

    async def _commit(self, lane: Lane) -> None:
        """Make an output visible, unless the job was stopped before."""
        counts, (records, _) = lane.counts, lane.former.taken()
        if counts.records != lane.start.records + records:
            raise InternalFailure(
                f"We encountered an internal error.  Please try again. (the records of {lane.input.ref} do not add up: "
                f"{counts.ok} ok, {counts.failed} failed and {counts.filtered} filtered of "
                f"{lane.start.records + records})"
            )
        await self._commit_behind_guard(lane, partial(lane.output.commit, counts, empty=self._has_no_output(lane)))

    async def _commit_behind_guard(self, lane: Lane, commit: Callable[[], Awaitable[object]]) -> bool:
        """Make an output visible; False if the job was stopped before."""
        await self._commit_guard()
        if self._stop.is_set() or self._ended.done():
            return False
        task = _current_task()
        self._committing.add(task)
        try:
            await commit()
        finally:
            self._committing.discard(task)
        self._counters.objects_done += 1
        if self._on_committed is not None:
            self._on_committed(lane.input)
        return True

    def _has_no_output(self, lane: Lane) -> bool:
        """Return whether an object that is one record has none because that is bad."""
        return not self._splits and lane.failed > 0 and self._options.on_error is OnError.QUARANTINE

    def _close_lane(self, lane: Lane) -> None:
        if lane in self._lanes:
            self._lanes.discard(lane)
            self._counters.count(lane.counts)
        self._room.set()
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._all_fed and not self._lanes:
            self._end()

    # -- objects that are streamed through: no payload limit

    async def _open_writer(self, lane: Lane) -> ObjectWriter:
        try:
            return await self._objects.open_writer(lane.input.output, self._meta)
        except NoSuchBucket as exc:
            raise NoOutputBucket(f"bucket {lane.input.output.bucket} of the output does not exist") from exc

    async def _commit_streamed(self, lane: Lane, writer: ObjectWriter, records: int) -> bool:
        lane.ok = records
        origin = lane.output.origin(lane.counts)
        return await self._commit_behind_guard(lane, partial(writer.commit, origin=origin))

    async def _stream_object(self, lane: Lane, slots: asyncio.Semaphore) -> None:
        """Send an object as one chunked request and its answer straight to the output; read it again for a retry."""
        attempt = StreamedAttempt(
            path=PATH,
            headers=self._headers,
            timeout_seconds=self._spec.invocation_timeout_seconds,
            new_count=partial(record_count, self._spec.split),
            line_after=self._line_after_each,
            kept_bytes=4 * self._limits.answer_snippet_chars,
            clock=self._clock,
            counters=self._counters,
        )
        open_writer, commit = partial(self._open_writer, lane), partial(self._commit_streamed, lane)
        try:
            async with slots, Client(self._address) as client:
                attempts = 0
                while lane.failure is None:
                    self._counters.in_flight += 1
                    try:
                        failed = await attempt.make(client, lane.reader.chunks(), open_writer, commit)
                    finally:
                        self._counters.in_flight -= 1
                    if failed is None:
                        break
                    attempts += 1
                    if failed.failure.may_retry and attempts <= self._spec.invocation_max_retries:
                        self._counters.retries += 1
                        await self._clock.sleep(self._retry_delay(attempts, failed.retry_after))
                    else:
                        payload = Payload(b"", 0, 1, 0, 1)
                        payload.failed_attempts = self._spec.invocation_max_retries
                        self._counters.in_flight += 1
                        self._outstanding += 1
                        self._attempt_failed(lane, payload, failed.failure, answer=failed.answer, detail=failed.detail)
        except NoOutputBucket as exc:
            self._fail_writing(lane, "ClientError", str(exc))
        except OSError as exc:
            self._fail_without_room(lane, exc)
        except UnusableRecord as exc:
            self._fail_too_large(lane, exc)
        except _UNREADABLE as exc:
            self._fail_reading(lane, exc)
        finally:
            self._close_lane(lane)


def _size_of(answer: AnswerBody) -> int:
    return sum(map(len, answer)) if isinstance(answer, list) else len(answer)


def _current_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None, "only tasks of this run come here"
    return task
