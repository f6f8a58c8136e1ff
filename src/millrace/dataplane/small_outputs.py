"""Write the outputs of small objects in groups, so that each costs little and the disk is waited for once for many.

Theory. An output of its own costs a task, a wait for its turn, and a wait for the disk. Of an object that is one small
payload nothing is written before its answer is there, so there is nothing to do for it but to be in the next group. A
group is written when enough objects are ready, when somebody waits for the room that they hold, when nothing else is
under way, and at each tick. Meanwhile the next one gathers, and if it is large, it is written while the first one waits
for the disk. So groups are large where objects come quickly, and where
they come slowly an output is written in the usual way, a tick later at most than it would be alone. The usual way is
also that of whatever the store leaves, for it knows how to tell what is wrong.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

from millrace.dataplane.assemble import assemble
from millrace.dataplane.lane import Lane
from millrace.dataplane.progress import Counters
from millrace.dataplane.rules import Rules
from millrace.dataplane.writing import Commits, WritingOwner
from millrace.ports.objects import SmallObjects, SmallOutput

__all__ = ["SmallOutputs", "SmallOwner"]

LEAST_GROUP = 16
"""Fewer are not worth a sync of a whole file system, which waits for others' bytes, too."""
FULL_GROUP = 64
"""So many are written without waiting for more."""
NEXT_GROUP = 256
"""So many are written while another group is: less would have the disk sync for few."""
LARGEST_GROUP = 512
"""Larger ones would not be written quicker, and give room back later."""


class SmallOwner(WritingOwner, Protocol):
    """The run whose outputs are written."""

    def spawn(self, actor: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a task of the run."""
        ...

    def write_alone(self, lane: Lane) -> None:
        """Write the output of a lane in the usual way: it is to have a writer of its own."""
        ...

    def is_idle(self) -> bool:
        """Return whether no answer will come, and no object be read, before what is held is written."""
        ...


class SmallOutputs:
    """Writes what is ready of the lanes that it has taken."""

    def __init__(
        self,
        small: SmallObjects,
        rules: Rules,
        owner: SmallOwner,
        *,
        commits: Commits,
        counters: Counters,
    ) -> None:
        self._small = small
        self._rules = rules
        self._owner = owner
        self._commits = commits
        self._counters = counters
        self._ready: list[Lane] = []
        self._writing = 0
        """Groups that are being written."""
        self._nobody = asyncio.Event()
        """Wakes nobody up."""

    def take(self, lane: Lane) -> None:
        """Write the output of a lane, which has no writer of its own."""
        lane.wake = _Turn(self, lane)

    def flush(self) -> None:
        """Write what is ready, unless it is better to wait for more."""
        if group := self._next_group():
            self._writing += 1
            self._owner.spawn(self._write_groups(group))

    def look(self, lane: Lane) -> bool:
        """Take note that something has happened to a lane; return whether nothing more need be noted."""
        if lane.closing:
            self._close(lane)
            return True
        if lane.failure is not None or not lane.answers:
            return False
        if len(lane.answers) != 1 or lane.room > 2 * self._rules.limits.small_object_bytes:
            self._owner.write_alone(lane)
            return True
        self._ready.append(lane)
        if len(self._ready) >= FULL_GROUP or self._owner.is_idle():
            self.flush()
        return True

    def _next_group(self) -> list[Lane]:
        """Take what is to be written beside what is being written; nothing if it is better to wait."""
        if self._writing >= self._rules.limits.small_groups or len(self._ready) < (NEXT_GROUP if self._writing else 1):
            return []
        group, self._ready = self._ready[:LARGEST_GROUP], self._ready[LARGEST_GROUP:]
        return group

    async def _write_groups(self, group: Sequence[Lane]) -> None:
        while group:
            if len(group) < LEAST_GROUP:
                for lane in group:
                    self._owner.write_alone(lane)
            else:
                await self._write(group)
            self._writing -= 1
            group = self._next_group()
            self._writing += bool(group)

    async def _write(self, lanes: Sequence[Lane]) -> None:
        outputs = [SmallOutput(lane.input.output, self._body(lane), lane.output.origin(lane.counts)) for lane in lanes]
        left: Sequence[int] = ()

        async def store() -> None:
            nonlocal left
            left = await self._small.write(outputs, self._rules.meta)

        if not await self._commits.keep(store):
            for lane in lanes:
                self._close(lane)
            return
        alone = set(left)
        for number, lane in enumerate(lanes):
            if number in alone:
                self._owner.write_alone(lane)
                continue
            self._counters.bytes_out += len(outputs[number].body)
            self._commits.count(lane.input)
            self._close(lane)
        self._owner.pump()

    def _body(self, lane: Lane) -> bytes:
        buffers = assemble(lane.answers, self._rules.line_end)
        if len(buffers) == 1 and isinstance(buffers[0], bytes):
            return buffers[0]
        return b"".join(buffers)

    def _close(self, lane: Lane) -> None:
        lane.wake = self._nobody  # a lane and its turn know each other: they would wait for the collector of garbage
        self._owner.give_back_results(*lane.drop())
        self._owner.close_lane(lane)


class _Turn(asyncio.Event):
    """Stands for the event of a lane that has no writer to be woken up."""

    def __init__(self, outputs: SmallOutputs, lane: Lane) -> None:
        super().__init__()
        self._outputs = outputs
        self._lane = lane
        self._is_noted = False

    def set(self) -> None:
        """Have the lane looked at."""
        if not self._is_noted:
            self._is_noted = self._outputs.look(self._lane)
