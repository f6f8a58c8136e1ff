"""Write the outputs of a run: answers as they become ready, in input order, then the commit."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Protocol

from millrace.dataplane.answer_text import AnswerBody
from millrace.dataplane.assemble import assemble
from millrace.dataplane.bad_records import BadRecord
from millrace.dataplane.counts import Counts
from millrace.dataplane.formats.unreadable import UNREADABLE
from millrace.dataplane.joining import Joining, Unjoinable
from millrace.dataplane.lane import Lane
from millrace.dataplane.long_body import BufferPool
from millrace.dataplane.object_failures import Told, reading_told, refused_output_told, writing_told
from millrace.dataplane.output_bucket import NoOutputBucket
from millrace.dataplane.plan import InputObject
from millrace.dataplane.progress import Counters
from millrace.dataplane.requests import Requests
from millrace.dataplane.rules import Rules
from millrace.errors import InternalFailure

__all__ = ["Commits", "Writing", "WritingOwner"]


class WritingOwner(Protocol):
    """The run whose outputs are written."""

    def fail(self, lane: Lane, index: int, told: Told) -> None:
        """Fail an object."""
        ...

    def crash(self, error: BaseException) -> None:
        """Break the run off."""
        ...

    def give_back_results(self, count: int, room: int) -> None:
        """Take note that results were written, and of the room that they held."""
        ...

    def pump(self) -> None:
        """Send what may be sent."""
        ...

    def close_lane(self, lane: Lane) -> None:
        """Take note that nothing more happens to an object."""
        ...


class Commits:
    """Makes outputs visible, behind the guard. A commit that is under way is never cut short.

    Args:
        guard: Awaited right before each; raises LeaseLost.
        is_over: Tells whether the run has been stopped or broken off: then nothing is committed any more.
        on_committed: Told of each input whose output was committed, in the order of the commits.
    """

    def __init__(
        self,
        *,
        counters: Counters,
        guard: Callable[[], Awaitable[None]],
        is_over: Callable[[], bool],
        on_committed: Callable[[InputObject], None] | None,
    ) -> None:
        self._counters = counters
        self._guard = guard
        self.is_over = is_over
        self._on_committed = on_committed
        self.tasks: set[asyncio.Task[object]] = set()
        """Tasks that are committing."""

    async def make(self, lane: Lane, commit: Callable[[], Awaitable[object]]) -> bool:
        """Make an output visible; False if the run was over before."""
        if not await self.keep(commit):
            return False
        self.count(lane.input)
        return True

    async def keep(self, commit: Callable[[], Awaitable[object]]) -> bool:
        """Commit what is not visible as yet; False if the run was over before."""
        await self._guard()
        if self.is_over():
            return False
        task = asyncio.current_task()
        assert task is not None, "only tasks of a run come here"
        self.tasks.add(task)
        try:
            await commit()
        finally:
            self.tasks.discard(task)
        return True

    def count(self, entry: InputObject) -> None:
        """Count and tell of an input that has its output."""
        self._counters.objects_done += 1
        self.tell(entry)

    def tell(self, entry: InputObject) -> None:
        """Tell of an input that has its output."""
        if self._on_committed is not None:
            self._on_committed(entry)


class Writing:
    """Writes the outputs of a run, each from a task of its own."""

    def __init__(
        self,
        rules: Rules,
        owner: WritingOwner,
        *,
        requests: Requests,
        commits: Commits,
        counters: Counters,
        joining: Joining,
    ) -> None:
        self._joining = joining
        self._rules = rules
        self._owner = owner
        self._requests = requests
        self._pool: BufferPool = requests.pool
        self._commits = commits
        self._counters = counters

    async def write_object(self, lane: Lane) -> None:
        """Write a lane's answers as they become ready, then commit.

        Of a lane that fails, or is stopped, what stands before the first payload without a result is written and
        committed as a part: whoever resumes the job begins with that payload.
        """
        try:
            await self._write_object(lane)
        except Exception as exc:  # noqa: BLE001 - before the lane is closed: with the last one the run would end well
            self._owner.crash(exc)
        finally:
            await lane.output.suspend()
            self._owner.give_back_results(*lane.drop())
            self._owner.close_lane(lane)

    async def _write_object(self, lane: Lane) -> None:
        output = lane.output
        written: tuple[int, Counts] | None = None
        """What is written and in no part yet: up to which byte, and what became of the records before it."""
        try:
            while True:
                await lane.wake.wait()
                lane.wake.clear()
                if lane.answers:
                    await output.open()  # takes long: what is ready is told, and taken, with nothing waited for between
                if lane.answers:
                    records, offset = self._done_until(lane)
                    counts = lane.counts_until(records)
                    lane.in_no_part = True
                    if await self._write_results(lane):
                        written = lane.start_offset + offset, counts
                    if written is not None and output.checkpoint_due:
                        await output.checkpoint(*written)
                        written = None
                        lane.in_no_part = False
                if lane.closing and not lane.answers:
                    if written is not None:
                        await output.checkpoint(*written)
                    break
                if lane.failure is None and lane.complete and not lane.answers:
                    if lane.widening is not None and lane.widening.holds:
                        await self._write(lane, *lane.widening.finish())
                    elif written is not None and output.has_part and self._rules.formats.converts:
                        await output.checkpoint(*written)  # it takes long to convert as much, and it may not fit
                    if not await self._commit(lane) and written is not None:
                        await output.checkpoint(*written)  # the job was stopped before
                    break
        except NoOutputBucket as exc:
            self._owner.fail(lane, 0, writing_told(lane, "ClientError", str(exc)))
            self._owner.pump()
        except UNREADABLE as exc:  # a table is made of its rows at the end
            self._owner.fail(lane, 0, reading_told(lane, exc, splits=False))
            self._owner.pump()
        except OSError as exc:
            self._owner.fail(lane, 0, refused_output_told(lane, exc))
            self._owner.pump()

    async def _write_results(self, lane: Lane) -> bool:
        """Write what may be written, and give its room back; False if some of it waits for rows to be as wide as."""
        results = lane.take_results()
        widening = lane.widening
        lane.writing = True
        try:
            if widening is None:
                await self._write(lane, results.answers, results.bad)
            else:
                await self._write(lane, *widening.take(results.answers, results.bad))
                lane.output.answer_columns = widening.columns
        finally:
            lane.writing = False
            self._owner.give_back_results(len(results.answers), results.room)
        self._owner.pump()
        return widening is None or not widening.holds

    async def _write(self, lane: Lane, answers: Sequence[AnswerBody], bad: Sequence[BadRecord]) -> None:
        for buffer in assemble(answers, self._rules.line_end):
            await lane.output.write(buffer)
            if not self._is_converted(lane):
                self._counters.bytes_out += len(buffer)
            if self._rules.tells_rows:
                lane.told_lines.add(buffer)
            if isinstance(buffer, memoryview):
                self._pool.give_back(buffer)
        await lane.output.tell(bad)

    def _done_until(self, lane: Lane) -> tuple[int, int]:
        """Return how many records, and bytes, of this attempt stand before the first payload without a result."""
        index = lane.next_result
        if lane.gap is not None and index == lane.gap[0]:
            return lane.gap[1:]
        if index == lane.next_index:
            return lane.taken()
        isolation = lane.isolating.get(index)
        first = self._requests.find(lane, index) if isolation is None else isolation.payload
        return lane.before(first)

    async def _commit(self, lane: Lane) -> bool:
        """Make an output visible; False if the job was stopped before."""
        counts, (records, _) = lane.counts, lane.taken()
        if counts.records != lane.start.records + records:
            raise InternalFailure(
                f"We encountered an internal error.  Please try again. (the records of {lane.input.ref} do not add up: "
                f"{counts.ok} ok, {counts.failed} failed and {counts.filtered} filtered of "
                f"{lane.start.records + records})"
            )
        if lane.input.range is not None:
            return await self._commit_range(lane, counts)
        return await self._commits.make(lane, partial(self._commit_output, lane, counts))

    async def _commit_output(self, lane: Lane, counts: Counts) -> None:
        size = await lane.output.commit(counts, empty=self._has_no_output(lane))
        if self._is_converted(lane):
            self._counters.bytes_out += size

    def _is_converted(self, lane: Lane) -> bool:
        """Whether how long an output is shows only when it is complete; ranges become one later."""
        return self._rules.formats.converts and lane.input.range is None

    async def _commit_range(self, lane: Lane, counts: Counts) -> bool:
        """Commit a range, and make the object's output if it was the last one; False if the job was stopped before."""
        if not await self._commits.keep(partial(lane.output.keep, lane.start_offset + lane.taken()[1], counts)):
            return False
        lane.in_no_part = False
        if self._commits.is_over():  # others may be waited for
            return True
        try:
            await self._joining.join(lane)
        except Unjoinable as exc:
            self._owner.fail(lane, 0, writing_told(lane, exc.label, str(exc)))
            self._owner.pump()
        return True

    def _has_no_output(self, lane: Lane) -> bool:
        """Return whether an object that is one record has none because that is bad."""
        return self._rules.leaves_out_whole_objects and lane.failed > 0
