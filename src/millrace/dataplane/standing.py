"""Learn whether the containers are there, before a record that got no answer is held to be bad.

Theory. A record that a container breaks down at, and one that was sent while the container was down, look alike: there
is no answer. So it is asked afterwards. If all containers are healthy at once, the record is to blame. If they had to
be waited for it may not be, and is sent once more. A container that has ended is never healthy again: its end ends the
work of its instance, and whatever was in doubt till then is neither a result nor bad, and is sent by whoever goes on.
"""

import math
from collections.abc import Sequence
from enum import Enum, auto

from millrace.clock import Clock
from millrace.dataplane.client import Client
from millrace.dataplane.container import ping, wait_until_healthy
from millrace.errors import AlgorithmFailure
from millrace.ports.runtime import Address

__all__ = ["Inquiry", "Standing"]


class Standing(Enum):
    """How containers were found."""

    THERE = auto()
    BACK = auto()
    """They had to be waited for."""
    GONE = auto()
    """They were waited for in vain."""


class Inquiry:
    """Asks the containers at `addresses` for their health, and waits for it, up to `window_seconds`.

    Nobody waits a second time for containers that were waited for in vain, before they were there again.
    """

    def __init__(self, addresses: Sequence[Address], *, window_seconds: float, clock: Clock) -> None:
        self._addresses = addresses
        self._window = window_seconds
        self._clock = clock
        self._gone = False
        self._waiting = 0
        self._down_until = -math.inf
        """They were found to be down until then, at least."""

    async def standing(self, *, since: float) -> Standing:
        """Return how the containers are found: none of the answers is older than the question.

        Those that are there now may have been down `since` the record was sent: then they are back.
        """
        if await self._are_there():
            self._gone = False
            return Standing.BACK if self._waiting or since <= self._down_until else Standing.THERE
        if self._gone:
            return Standing.GONE
        self._waiting += 1
        try:
            for address in self._addresses:
                await wait_until_healthy(address, window_seconds=self._window, clock=self._clock)
        except AlgorithmFailure:
            self._gone = True
            return Standing.GONE
        finally:
            self._waiting -= 1
            self._down_until = self._clock.monotonic()
        return Standing.BACK

    async def _are_there(self) -> bool:
        for address in self._addresses:
            async with Client(address) as client:
                if await ping(client) is not None:
                    return False
        return True
