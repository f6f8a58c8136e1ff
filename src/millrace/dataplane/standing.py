"""Learn whether the containers are there, before a record that got no answer is held to be bad.

Theory. A record that a container breaks down at, and one that was sent while the container was down, look alike: there
is no answer. So it is asked afterwards. If all containers are healthy at once, and none has ended meanwhile, the record
may be to blame. If they had to be waited for, or are others than before, anything that was under way may be: it is sent
once more, by itself. Containers that end are started again where somebody keeps them; elsewhere their end ends the work
of the instance, and whatever was in doubt till then is neither a result nor bad, and is sent by whoever goes on.
"""

import asyncio
import math
from collections.abc import Sequence
from enum import Enum, auto

from millrace.clock import Clock
from millrace.dataplane.client import Client
from millrace.dataplane.container import ping, wait_until_healthy
from millrace.errors import AlgorithmFailure
from millrace.ports.runtime import Address

__all__ = ["ContainerEnds", "Inquiry", "Standing"]


class Standing(Enum):
    """How containers were found."""

    THERE = auto()
    BACK = auto()
    """They had to be waited for, or one was started again."""
    GONE = auto()
    """They were waited for in vain."""


class ContainerEnds:
    """What whoever keeps the containers tells of those that end: when, how, and whether all are up again."""

    def __init__(self) -> None:
        self.down_until = -math.inf
        """When one was last down, by the clock of the run."""
        self.how = ""
        """Which one it was, and its exit status, in words."""
        self._all_up = asyncio.Event()
        self._all_up.set()

    @property
    def is_down(self) -> bool:
        """Whether one has ended and is not up again."""
        return not self._all_up.is_set()

    def note(self, at: float, how: str) -> None:
        """Take note that a container has ended, and is started again."""
        self.down_until, self.how = at, how
        self._all_up.clear()

    def note_up(self, at: float) -> None:
        """Take note that all are healthy again."""
        self.down_until = at
        self._all_up.set()

    async def wait_until_up(self) -> None:
        """Return once all are healthy again: for ever, if whoever keeps them gives them up and stops the run."""
        await self._all_up.wait()


class Inquiry:
    """Asks the containers at `addresses` for their health, and waits for it, up to `window_seconds`.

    Nobody waits a second time for containers that were waited for in vain, before they were there again. Those that
    `ends` tells of are waited for until they are up.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        *,
        window_seconds: float,
        clock: Clock,
        ends: ContainerEnds | None = None,
    ) -> None:
        self._addresses = addresses
        self._window = window_seconds
        self._clock = clock
        self._ends = ends or ContainerEnds()
        self._gone = False
        self._waiting = 0
        self._down_until = -math.inf
        """They were found to be down until then, at least."""

    async def standing(self, *, since: float) -> Standing:
        """Return how the containers are found: none of the answers is older than the question.

        Those that are there now may have been down `since` the record was sent: then they are back.
        """
        if not self._ends.is_down and await self._are_there():
            self._gone = False
            was_down = self._waiting or since <= max(self._down_until, self._ends.down_until)
            return Standing.BACK if was_down else Standing.THERE
        if self._gone:
            return Standing.GONE
        self._waiting += 1
        try:
            await self._wait()
        except AlgorithmFailure:
            self._gone = True
            return Standing.GONE
        finally:
            self._waiting -= 1
            self._down_until = self._clock.monotonic()
        return Standing.BACK

    def how_ended(self, *, since: float) -> str:
        """Return the exit status of the last container that was down since then; nothing if none was."""
        return self._ends.how if since <= self._ends.down_until else ""

    async def _wait(self) -> None:
        """Wait for health; for a container that is started again whoever starts it does, and knows how long."""
        await self._ends.wait_until_up()
        try:
            for address in self._addresses:
                await wait_until_healthy(address, window_seconds=self._window, clock=self._clock)
        except AlgorithmFailure:
            if not self._ends.is_down:
                raise
        await self._ends.wait_until_up()

    async def _are_there(self) -> bool:
        for address in self._addresses:
            async with Client(address) as client:
                if await ping(client) is not None:
                    return False
        return True
