"""Turn SIGTERM into an early end of the data, so that an algorithm saves what it has learned."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["StopRequested", "StopSignal"]


class StopRequested(BaseException):
    """Raised inside `waiting()` only; not an Exception, so that nothing takes it for a fault of the data."""


class StopSignal:
    """Notes SIGTERM; breaks off waits for data, and nothing else, so that no sum is left half done."""

    def __init__(self) -> None:
        self.requested = False
        self._waiting = False

    def install(self) -> None:
        """Listen to SIGTERM; call from the main thread."""
        signal.signal(signal.SIGTERM, self._on_signal)

    def request(self) -> None:
        """Ask for a stop, as the signal does."""
        self.requested = True
        if self._waiting:
            raise StopRequested

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.request()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Let a stop break off the block, which only waits for data."""
        self._waiting = True
        try:
            if self.requested:
                raise StopRequested
            yield
        finally:
            self._waiting = False
