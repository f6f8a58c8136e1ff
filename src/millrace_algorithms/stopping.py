"""Turn SIGTERM into an early end of the data, so that an algorithm saves what it has learned.

A stop breaks off waits for data, and nothing else, so that no sum is left half done. A wait watches a pipe of our own
beside what it waits for, and a stop writes to that pipe: whether it comes before, in or after the system call, the wait
ends. To raise from the signal's handler instead would lose a signal that comes after Python last looked for one and
before the kernel has begun to wait.
"""

import os
import select
import signal
import weakref
from contextlib import suppress
from types import FrameType

__all__ = ["StopRequested", "StopSignal"]

_DRAIN_BYTES = 4096


class StopRequested(BaseException):
    """Raised by waits only; not an Exception, so that nothing takes it for a fault of the data."""


class StopSignal:
    """Notes SIGTERM, or a request from any thread, and ends waits for data."""

    def __init__(self) -> None:
        self.requested = False
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(self._wake, False)
        weakref.finalize(self, _close, self._woken, self._wake)

    def install(self) -> None:
        """Listen to SIGTERM; call from the main thread."""
        # The C handler writes to the pipe at once; Python's own runs only when the interpreter next looks.
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._on_signal)

    def request(self) -> None:
        """Ask for a stop, as the signal does."""
        self.requested = True
        with suppress(BlockingIOError):  # if the pipe is full, whoever waits is woken anyway
            os.write(self._wake, b"\0")

    def wait_readable(self, descriptor: int) -> None:
        """Return once there are data or the end to be read; a FIFO's end comes after its first writer.

        Raises:
            StopRequested: A stop was requested, before or meanwhile.
        """
        while not self._wait(descriptor, None):
            pass

    def pause(self, seconds: float) -> None:
        """Let at most that time pass; raises StopRequested as `wait_readable`."""
        self._wait(None, seconds)

    def _wait(self, descriptor: int | None, seconds: float | None) -> bool:
        """Wait once, until something happens; return whether the descriptor is ready."""
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        if descriptor is not None:
            poll.register(descriptor, select.POLLIN)
        if self.requested:
            raise StopRequested
        ready = {one for one, _ in poll.poll(None if seconds is None else seconds * 1000)}
        if self._woken in ready:
            # Not all signals are a stop. Python's handler of one that is runs by now or soon, and writes once more.
            os.read(self._woken, _DRAIN_BYTES)
        if self.requested:
            raise StopRequested
        return descriptor in ready

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.request()


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
