"""Keep the objects of a run that are in work, and tell what they come to together."""

import asyncio
from collections import deque

from millrace.dataplane.inputs import Inputs
from millrace.dataplane.lane import Lane
from millrace.dataplane.open_objects import bytes_done, open_objects
from millrace.dataplane.progress import Counters
from millrace.dataplane.rules import Rules
from millrace.jobs.transform import Progress

__all__ = ["LanesInWork"]


class LanesInWork:
    """The lanes of a run; what they came to is added to the counters when they are closed."""

    def __init__(self, rules: Rules, *, inputs: Inputs, counters: Counters) -> None:
        self._rules = rules
        self._inputs = inputs
        self._counters = counters
        self.alone: set[Lane] = set()
        """Those whose outputs are written each from a task of its own."""
        self.small: set[Lane] = set()
        """Those whose outputs are written in groups."""
        self.forming: deque[Lane] = deque()
        """Those with payloads to form, in key order; only the first of them is still fed when objects are split."""

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self.alone or self.small)

    def wake_writers(self) -> None:
        """Have the tasks write what may be written."""
        for lane in self.alone:
            if lane.answers:
                lane.wake.set()

    def may_write(self) -> bool:
        """Return whether anything can be written, or is being written."""
        return any(lane.answers or lane.writing for lanes in (self.alone, self.small) for lane in lanes)

    def part_from_small(self, lane: Lane) -> None:
        """Take note that the output of a small object is to have a task of its own, which begins at once."""
        self.small.discard(lane)
        self.alone.add(lane)
        lane.wake = asyncio.Event()
        lane.wake.set()

    def close(self, lane: Lane) -> None:
        """Take note that nothing more happens to an object; told twice, it is counted once."""
        lanes, counters = self.small if lane in self.small else self.alone, self._counters
        if lane not in lanes:
            return
        lanes.discard(lane)
        counters.count(lane.counts)
        over = lane.complete or lane.failure is not None  # else the run is, and leaves records without a result
        counters.bytes_done += lane.input.size if over else bytes_done(lane, self._rules)
        if lane.complete and lane.failure is None:
            counters.rows_out += lane.told_lines.total

    def unformed_bytes(self) -> int:
        """Return how much was read and is in no payload yet."""
        return sum(lane.former.buffered for lane in self.forming)

    def remaining_bytes(self) -> int | None:
        """Return how much of the input is in no payload yet; None where stored bytes don't tell that."""
        first = self._inputs.first
        if not self._inputs.is_complete or first is None or not self._rules.reads_as_stored(first):
            return None
        return self._inputs.size - self._counters.bytes_in + self.unformed_bytes()

    def progress(self) -> Progress:
        """Return how far the run is."""
        lanes, rules, inputs, counters = self.alone, self._rules, self._inputs, self._counters
        counters.objects_total, counters.bytes_total, counters.listed = inputs.objects, inputs.size, inputs.is_complete
        done = sum(bytes_done(lane, rules) for lane in lanes)  # many small ones are told when they are written
        shown = open_objects(lanes | self.small, rules)
        return counters.snapshot((it.counts for it in lanes), shown, bytes_done=done)
