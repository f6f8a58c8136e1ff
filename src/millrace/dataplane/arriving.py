"""Keep what has arrived of answers that are not complete within the bounds of memory.

Theory. Each byte of an answer takes room as it arrives. While too much is held, only the answer to the earliest request
under way is read on, and that only if nothing is left to write: then all that is held waits for it, and it waits for
nothing. If that request is on no connection, for it connects or backs off, then none is read on. Whenever room is given
back, or the earliest request is another one, there may be answers to read on.
"""

from collections.abc import Callable

from millrace.dataplane.client_errors import AnswerTooLarge
from millrace.dataplane.connection import Connection
from millrace.dataplane.limits import Budget

__all__ = ["ArrivingAnswers"]


class ArrivingAnswers:
    """Counts what arrives, and pauses connections while there is no room.

    `earliest` returns the connection of the earliest request under way, None if it is on none or if results can be
    written first. `flush` has all of those written. The time for which a request is paused is none of its own:
    `started` moves on.
    """

    def __init__(
        self,
        budget: Budget,
        *,
        answer_bytes: int,
        monotonic: Callable[[], float],
        earliest: Callable[[], Connection | None],
        flush: Callable[[], None],
    ) -> None:
        self._budget = budget
        self._answer_bytes = answer_bytes
        self._monotonic = monotonic
        self._earliest = earliest
        self._flush = flush
        self._taken: dict[Connection, int] = {}
        self.paused: dict[Connection, float] = {}
        """Connections that are not read, and since when."""

    def grew(self, connection: Connection, size: int) -> None:
        """Take room for the next bytes of an answer; give the answer up if it is too long."""
        self._budget.take(size)
        self._taken[connection] = self._taken.get(connection, 0) + size
        declared = connection.declared_length()
        if max(declared, connection.body_size) > self._answer_bytes:
            connection.give_up(AnswerTooLarge(self._answer_bytes, status=connection.status, size=declared or None))
        elif self._budget.held > self._budget.limit and self._earliest() is not connection:
            connection.transport.pause_reading()
            self.paused[connection] = self._monotonic()
            self._flush()

    def forget(self, connection: Connection) -> int:
        """Return the room that an answer took, for the caller to give back: it is complete, or is given up."""
        self.paused.pop(connection, None)
        return self._taken.pop(connection, 0)

    def read_on(self) -> None:
        """Read on what there is room for."""
        if self._budget.held <= self._budget.limit:
            for connection in list(self.paused):
                self._resume(connection)
        elif (first := self._earliest()) is not None and first in self.paused:
            self._resume(first)

    def _resume(self, connection: Connection) -> None:
        connection.started += self._monotonic() - self.paused.pop(connection)
        connection.transport.resume_reading()
