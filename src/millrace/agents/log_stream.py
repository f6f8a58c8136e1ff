"""A log stream's writer: lines are gathered for a moment and appended together."""

import asyncio
import logging
import time
from collections import deque

from millrace.ports.logs import LogEvent, LogStore

__all__ = ["LogStream"]

log = logging.getLogger(__name__)

FLUSH_SECONDS = 0.05
"""How long a line may wait for company."""

MAX_WAITING_LINES = 2000
TAIL_LINES = 10


class LogStream:
    """One stream of a group. Lines keep their order; `tail` remembers the last few for failure texts.

    Lines that can't be stored, as on a full disk, are lost rather than the work that wrote them; the stream tells how
    many once it can.
    """

    def __init__(self, store: LogStore, group: str, name: str) -> None:
        self._store = store
        self._group = group
        self.name = name
        self._waiting: list[LogEvent] = []
        self._lost = 0
        self._timer: asyncio.TimerHandle | None = None
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        store.create(group, name)

    def write(self, timestamp_ms: int, line: str) -> None:
        """Add a line; to be called on the event loop."""
        self._waiting.append(LogEvent(timestamp_ms, line))
        if line.strip():
            self.tail.append(line)
        if len(self._waiting) >= MAX_WAITING_LINES:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)

    def write_now(self, line: str) -> None:
        """Add a line of the platform's own, with the present time."""
        self.write(time.time_ns() // 1_000_000, line)

    def flush(self) -> None:
        """Append what waits; what can't be stored is counted and dropped."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        lost = f"{self._lost} log lines before this one could not be stored"
        told = [LogEvent(waiting[0].timestamp_ms, lost)] if self._lost else []
        try:
            self._store.append(self._group, self.name, [*told, *waiting])
        except OSError:
            if not self._lost:  # once, not for every line
                log.exception("log lines lost", extra={"group": self._group, "stream": self.name})
            self._lost += len(waiting)
        else:
            self._lost = 0
