"""A clock that only moves when it is told to."""

import asyncio
import heapq
from datetime import UTC, datetime, timedelta

__all__ = ["ManualClock"]

START = datetime(2020, 1, 1, tzinfo=UTC)


class ManualClock:
    """Time stands still until `advance`; whoever sleeps wakes in order of his time.

    `await sleepers(n)` returns once n tasks sleep, so that a test knows that what it waits for has gone to sleep.
    """

    def __init__(self, start: datetime = START) -> None:
        self._start = start
        self._elapsed = 0.0
        self._sleeping: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0
        self._changed = asyncio.Event()

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleeping, (self._elapsed + seconds, self._count, waiting))
        self._changed.set()
        await waiting

    def advance(self, seconds: float) -> None:
        """Move the time on and wake whoever's time has come."""
        self._elapsed += seconds
        while self._sleeping and self._sleeping[0][0] <= self._elapsed:
            waiting = heapq.heappop(self._sleeping)[2]
            if not waiting.done():
                waiting.set_result(None)

    @property
    def pending(self) -> list[float]:
        """The seconds for which each sleeper still sleeps, shortest first."""
        return sorted(due - self._elapsed for due, _, waiting in self._sleeping if not waiting.done())

    async def sleepers(self, count: int) -> None:
        """Return once at least that many tasks sleep."""
        while len(self.pending) < count:
            self._changed.clear()
            await self._changed.wait()
