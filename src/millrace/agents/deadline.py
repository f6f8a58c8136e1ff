"""End work of somebody else's making that runs too long: a user's regular expression.

Backtracking takes exponential time with patterns such as `(a+)+$`, and holds the interpreter all the while, so that no
other thread could end it. But CPython's `re` looks for signals as it goes: an alarm whose handler raises ends it. That
costs a microsecond a call, where a process of its own for the patterns would cost a copy of every log line, and an
engine without backtracking would not know all that the patterns may say.
"""

import signal
from types import FrameType

__all__ = ["Deadline", "DeadlineOver"]


class DeadlineOver(Exception):
    """The time is over."""


class Deadline:
    """The process's alarm clock, for its main thread. It counts CPU seconds: a busy machine does not ring it."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._armed = False
        signal.signal(signal.SIGVTALRM, self._ring)

    def _ring(self, number: int, frame: FrameType | None) -> None:
        if self._armed:  # else it rang while it was turned off
            self._armed = False
            raise DeadlineOver

    def __enter__(self) -> None:
        """Raise DeadlineOver out of the block if it takes longer."""
        self._armed = True
        signal.setitimer(signal.ITIMER_VIRTUAL, self._seconds)

    def __exit__(self, *_: object) -> None:
        self._armed = False
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
