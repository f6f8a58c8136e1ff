"""Keep an agent's lease while its event loop is busy with one long step.

Theory. To filter and join a payload of 100 MB may take the event loop longer than a lease lasts, above all beside other
work, and each further attempt would take as long and be given up like the first. So a thread looks how long ago the
loop has beaten. When that is too long, it beats in its place; the interpreter gives it a turn every few milliseconds.
That does not go on for ever: a loop that hangs is to lose its lease.
"""

import logging
import threading
from collections.abc import Callable

from millrace.clock import Clock
from millrace.errors import LeaseLost, StoreUnavailable

__all__ = ["MOST_SECONDS", "BusyLoop"]

log = logging.getLogger(__name__)

MOST_SECONDS = 300.0
"""A loop that has not beaten for longer hangs: the longest steps that are known take tens of seconds."""


class BusyLoop:
    """Beats from a thread, while the block runs, when the loop has not done so for a while.

    Args:
        beat: Sends one heartbeat; called in the thread, so that nothing of the loop's may be used in it.
        clock: Tells how long ago the loop has beaten.
        after_seconds: For so long nobody minds.
    """

    def __init__(self, beat: Callable[[], None], *, clock: Clock, after_seconds: float) -> None:
        self._beat = beat
        self._monotonic = clock.monotonic
        self._after = after_seconds
        self._heard = self._monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="millrace-busy-loop", daemon=True)

    def __enter__(self) -> "BusyLoop":
        self._heard = self._monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()  # and not joined: it may be waiting for the state, and ends with that, or with the process

    def has_beaten(self) -> None:
        """Take note that the loop has beaten by itself."""
        self._heard = self._monotonic()

    def is_silent(self) -> bool:
        """Return whether somebody must beat in the loop's place."""
        return self._after <= self._monotonic() - self._heard < MOST_SECONDS

    def _watch(self) -> None:
        while not self._over.wait(self._after / 2):
            if not self.is_silent():
                continue
            try:
                self._beat()
            except LeaseLost:
                return  # the loop will hear of it, too
            except StoreUnavailable as exc:
                log.warning("heartbeat beside a busy loop failed", extra={"detail": str(exc)})
