"""Have those wait who want to read more than there is room for."""

import asyncio
from collections.abc import Callable

from millrace.dataplane.lane import Lane
from millrace.dataplane.limits import Budget

__all__ = ["Room"]


class Room:
    """Where the feeder waits. `flush` has everything written that may be, which gives room back."""

    def __init__(self, budget: Budget, *, read_ahead: int, flush: Callable[[], None]) -> None:
        self._budget = budget
        self._read_ahead = read_ahead
        self._flush = flush
        self._may_be_there = asyncio.Event()
        self._wants_buffer = False

    async def wait(self, *, enough_read: bool = False) -> None:
        """Wait until there may be room, or (`enough_read`) until some of what was read went into payloads."""
        self._budget.awaited = not enough_read
        self._wants_buffer = enough_read
        self._may_be_there.clear()
        if self._budget.awaited:
            self._flush()
        await self._may_be_there.wait()
        self._budget.awaited = self._wants_buffer = False

    def look(self) -> None:
        """Have those look who wait: there may be room."""
        self._may_be_there.set()

    def wants_chunk(self, lane: Lane) -> None:
        """Take note that a lane can give no payload before it is fed again."""
        lane.starved = True
        if self._wants_buffer or self._budget.awaited:
            self.look()

    def took_payload(self, lane: Lane) -> None:
        """Take note that a payload was formed of what a lane was fed."""
        if self._wants_buffer and lane.former.buffered < self._read_ahead:
            self.look()
