"""Feed a run: open objects in key order, and read them as long as there is room."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Protocol

from millrace.clock import Clock
from millrace.dataplane.checkpoints import Checkpoints
from millrace.dataplane.finished import find_finished
from millrace.dataplane.formats.unreadable import UNREADABLE
from millrace.dataplane.inputs import Inputs
from millrace.dataplane.joining import Joining
from millrace.dataplane.lane import Lane
from millrace.dataplane.limits import Budget
from millrace.dataplane.long_records import PassingOver
from millrace.dataplane.object_failures import Told, reading_told, refused_output_told, writing_told
from millrace.dataplane.object_output import ObjectOutput
from millrace.dataplane.output_bucket import NoOutputBucket
from millrace.dataplane.payload import PayloadTooLarge, UnusableRecord
from millrace.dataplane.plan import InputObject
from millrace.dataplane.progress import Counters
from millrace.dataplane.reading import ObjectChanged, ObjectReader
from millrace.dataplane.record_starts import StartsKept
from millrace.dataplane.room import Room
from millrace.dataplane.rules import Rules
from millrace.dataplane.small_outputs import SmallOutputs
from millrace.dataplane.streaming import Streaming
from millrace.dataplane.writing import Commits
from millrace.ports.objects import NoSuchBucket, NoSuchKey, ObjectStore, ObjectUnreadable, SmallObjects

__all__ = ["Feeding", "FeedingOwner"]

SMALL_WINDOW = 32
"""Small objects that are read before answers are looked at: half a millisecond."""

PASSED_OVER = 128
"""Objects that may be done already, of a job that is taken up, before others have their turn: a few milliseconds.

There may be a million, and who is not heard of for so long has lost the work.
"""

_UNREADABLE = (NoSuchKey, NoSuchBucket, ObjectUnreadable, ObjectChanged, *UNREADABLE)
"""What is the input's own fault; other errors of the store end the run."""


class FeedingOwner(Protocol):
    """The run that is fed."""

    def spawn(self, actor: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a task of the run."""
        ...

    def begin_output(self, lane: Lane) -> None:
        """Have the output of an object written as its answers come."""
        ...

    async def write_object(self, lane: Lane) -> None:
        """Write the output of an object; return when that is done with."""
        ...

    def pump(self) -> None:
        """Send what may be sent."""
        ...

    def give_back(self, size: int) -> None:
        """Give room back."""
        ...

    def fail(self, lane: Lane, index: int, told: Told) -> None:
        """Fail an object."""
        ...

    def fail_unusable(self, lane: Lane, error: UnusableRecord) -> None:
        """Fail an object of which no payload can be formed."""
        ...

    def close_lane(self, lane: Lane) -> None:
        """Take note that nothing more happens to an object."""
        ...

    def all_fed(self) -> None:
        """Take note that no further object comes."""
        ...


class Feeding:
    """Feeds the objects of a run; `over` when no further object may be begun, `done` when none is left.

    `lanes` and `small_lanes` take the objects in work, `forming` those with payloads to form.
    """

    def __init__(
        self,
        rules: Rules,
        owner: FeedingOwner,
        *,
        inputs: Inputs,
        objects: ObjectStore,
        lanes: set[Lane],
        small_lanes: set[Lane],
        forming: deque[Lane],
        room: Room,
        budget: Budget,
        counters: Counters,
        commits: Commits,
        joining: Joining,
        streaming: Streaming,
        small: SmallObjects | None,
        small_outputs: SmallOutputs | None,
        checkpoints: Checkpoints | None,
        scratch: Path | None,
        clock: Clock,
        log: Callable[[str], None],
    ) -> None:
        self._rules = rules
        self._limits = rules.limits
        self._owner = owner
        self._inputs = inputs
        self._objects = objects
        self._lanes = lanes
        self._small_lanes = small_lanes
        self._forming = forming
        self._room = room
        self._budget = budget
        self._counters = counters
        self._commits = commits
        self._joining = joining
        self._streaming = streaming
        self._small = small
        self._small_outputs = small_outputs
        self._checkpoints = checkpoints
        self._scratch = scratch or Path()
        self._monotonic = clock.monotonic
        self._log = log
        self._starts = StartsKept(objects, rules.formats.record_scan())
        self.over = False
        self.done = False

    async def run(self) -> None:
        """Feed every object that has no output yet, then be `done`."""
        order = 0
        while not self.over and (entries := await self._inputs.take()):
            await self._feed_objects(entries, order)
            order += len(entries)
        self.done = True
        self._owner.all_fed()

    async def _feed_objects(self, entries: Sequence[InputObject], order: int) -> None:
        """Feed objects, the first of which is the one of that number, until it is `over`."""
        window: list[tuple[int, InputObject]] = []
        """Small objects that are read together."""
        size = 0
        for number, entry in enumerate(entries, start=order):
            if number % PASSED_OVER == 0:
                await asyncio.sleep(0)
            if entry.refused is not None:
                self._refuse(entry, number)
                continue
            if self._checkpoints is not None and self._checkpoints.resumes and await self._is_done(entry):
                continue
            is_small = self._small is not None and self._rules.reads_small(entry)
            if is_small:
                window.append((number, entry))
                size += entry.size
            if window and (not is_small or len(window) == SMALL_WINDOW or 4 * size > self._budget.limit):
                await self._feed_small_objects(window, size)
                window, size = [], 0
            if self.over:
                return
            if not is_small:
                await self._feed_object(entry, number)
        if window:
            await self._feed_small_objects(window, size)

    async def _feed_object(self, entry: InputObject, order: int) -> None:
        reserved = self._reservation(entry)
        await self._wait_for_lane(reserved)
        if self.over:
            return
        lane = self._open_lane(entry, order)
        if self._rules.streams:
            self._owner.spawn(self._streaming.run(lane))
        elif self._rules.splits:
            await self._feed_split_object(lane)
        else:
            self._budget.take(reserved)
            if self._may_grow(entry):  # beyond any bound: no other one is read meanwhile
                await self._feed_whole_object(lane, reserved)
                self._owner.spawn(self._owner.write_object(lane))
            else:
                self._owner.spawn(self._transform_whole_object(lane, reserved))

    async def _feed_small_objects(self, window: Sequence[tuple[int, InputObject]], size: int) -> None:
        """Read objects that are one small payload each, `size` bytes in all; their lanes have no tasks."""
        assert self._small is not None and self._small_outputs is not None, "the store reads small objects"
        most = max(0, self._limits.small_objects_open - len(window))
        while len(self._small_lanes) > most or not self._budget.has_room(size):
            await self._room.wait()
        at_most = self._limits.small_object_bytes
        if limit := self._rules.effective.max_payload_bytes:
            at_most = min(limit, at_most)
        bodies = self._small.read([entry.ref for _, entry in window], at_most=at_most)
        for (order, entry), body in zip(window, bodies, strict=True):
            if body is None:
                self._owner.pump()  # what was read must be on its way: its room may be waited for
                await self._feed_object(entry, order)
                continue
            lane = self._open_lane(entry, order, self._small_lanes)
            self._small_outputs.take(lane)
            self._budget.take(len(body))
            lane.reader.skip(0, len(body))
            lane.former.feed(body)
            lane.former.finish()
            lane.ended = lane.exhausted = True  # by the one payload, whose answer can be written at once
            self._forming.append(lane)
        self._owner.pump()
        await asyncio.sleep(0)  # for the answers

    def _open_lane(self, entry: InputObject, order: int, lanes: set[Lane] | None = None) -> Lane:
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
            kept_text=self._scratch,
            checkpoints=self._checkpoints,
            in_parts=rules.commits_parts,
            monotonic=self._monotonic,
            tells=rules.isolates,
        )
        former = formats.former(rules.effective.strategy, rules.effective.max_payload_bytes, reader.header)
        lane = Lane(entry, former, reader, output, order=order)
        lane.widening = rules.widening()
        (self._lanes if lanes is None else lanes).add(lane)
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

    async def _was_just_made(self, entry: InputObject) -> bool:
        """Return whether there is nothing to go on with since another process has made the output meanwhile.

        It joined the ranges of the object; or it was in the midst of the commit when it lost its work to us.
        """
        was_begun = self._checkpoints is not None and self._checkpoints.position(entry) is not None
        return was_begun and await self._is_done(entry)

    def _refuse(self, entry: InputObject, order: int) -> None:
        """Fail an object that can have no output."""
        lane = self._open_lane(entry, order)
        self._owner.fail(lane, 0, writing_told(lane, "ClientError", entry.refused or ""))
        self._owner.close_lane(lane)

    async def _feed_split_object(self, lane: Lane) -> None:
        """Go on where an earlier attempt was, if there was one, and read the object."""
        try:
            position = await lane.output.begin()
        except (NoOutputBucket, OSError) as exc:
            await lane.output.suspend()
            if isinstance(exc, NoOutputBucket):
                told = writing_told(lane, "ClientError", str(exc))
            else:
                told = refused_output_told(lane, exc)
            self._owner.fail(lane, 0, told)
            self._owner.close_lane(lane)
            return
        if position is None and await self._was_just_made(lane.input):
            self._owner.close_lane(lane)
            return
        if position is not None:
            lane.start, lane.start_offset = position.counts, position.offset
            if lane.widening is not None and position.answer_columns is not None:
                lane.widening.columns = position.answer_columns
            at = position.began_at + position.offset
            self._log(f"{lane.input.ref.bucket}/{lane.input.ref.key}: going on at byte {at}")
        self._forming.append(lane)
        self._owner.begin_output(lane)
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

    def _may_grow(self, entry: InputObject) -> bool:
        """Return whether an object that is one payload may need more room than is reserved for it."""
        return not self._rules.effective.max_payload_bytes and not self._rules.reads_as_stored(entry)

    async def _wait_for_lane(self, size: int) -> None:
        while len(self._lanes) >= self._limits.objects_open or not self._budget.has_room(size):
            await self._room.wait()

    async def _read_split_object(self, lane: Lane) -> None:
        chunk_bytes = self._limits.chunk_bytes
        is_known = not lane.start_offset
        try:
            await lane.reader.locate()
            async with aclosing(lane.reader.chunks(lane.start_offset)) as chunks:
                while True:
                    while not self._may_read(lane, chunk_bytes):
                        await self._room.wait(enough_read=not self._wants_chunk(lane))
                    if lane.failure is not None:
                        return
                    chunk = await anext(chunks, None)
                    if lane.failure is not None:
                        return
                    if not is_known:  # it had to be waited for, since the version was compared with that of the parts
                        await lane.reader.check_version()
                        is_known = True
                    if chunk is None:
                        break
                    self._budget.take(len(chunk))
                    lane.former.feed(chunk)
                    if isinstance(lane.former, PassingOver):
                        self._owner.give_back(lane.former.let_go())
                    lane.starved = False
                    self._owner.pump()
            await lane.reader.check_unchanged()
        except _UNREADABLE as exc:
            self._owner.fail(lane, lane.next_index, reading_told(lane, exc, splits=True))
            return
        self._end_of_object(lane)

    def _end_of_object(self, lane: Lane) -> None:
        """Take note that all of an object was read."""
        lane.former.finish()
        lane.ended = True
        self._owner.pump()

    def _may_read(self, lane: Lane, size: int) -> bool:
        if lane.failure is not None:
            return True
        return self._wants_chunk(lane) and self._budget.has_room(size, forming=lane.former.buffered)

    def _wants_chunk(self, lane: Lane) -> bool:
        return lane.starved or lane.former.buffered < self._rules.read_ahead

    async def _transform_whole_object(self, lane: Lane, reserved: int) -> None:
        """Read an object that is one payload, then write its result; `reserved` bytes of room are taken already."""
        await self._feed_whole_object(lane, reserved)
        await self._owner.write_object(lane)

    async def _feed_whole_object(self, lane: Lane, reserved: int) -> None:
        """Read an object that is one payload, and have it sent."""
        trouble: Exception | None = None
        try:
            await self._read_whole_object(lane)
        except (*_UNREADABLE, PayloadTooLarge) as exc:
            trouble = exc
        self._budget.take(lane.former.buffered - reserved)  # never both: they are the same bytes
        self._owner.give_back(0)
        if isinstance(trouble, PayloadTooLarge):
            self._owner.fail_unusable(lane, trouble)
        elif trouble is not None:
            self._owner.fail(lane, lane.next_index, reading_told(lane, trouble, splits=False))
        if lane.failure is None:
            lane.former.finish()
            lane.ended = True
            self._forming.append(lane)
            self._owner.pump()

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
