"""Keep what was read of a state for as long as nobody writes to it."""

from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from millrace.store.database import Database

__all__ = ["KeptReads"]

V = TypeVar("V")


class KeptReads(Generic[V]):
    """Answers of a database that are given again while its state is the very same, `limit` of them at most.

    Programs that wait, and pages that are open, ask the same over and over. Where the database can't tell whether it
    was written to, everything is read each time. An answer is kept when it is asked for the second time: who walks
    through all jobs asks nothing twice, and each page took a tenth longer while those before it were kept.
    """

    def __init__(self, database: Database, *, limit: int) -> None:
        self._database = database
        self._limit = limit
        self._mark: int | None = None
        self._asked: set[Hashable] = set()
        self._kept: dict[Hashable, V] = {}

    async def get(self, key: Hashable, read: Callable[[], Awaitable[V]]) -> V:
        """Return what `read` returns, or what it returned when the state was the same."""
        mark = self._database.state_mark()  # before reading: what is committed in between must not pass for older
        if mark is None:
            return await read()
        if mark != self._mark:
            self._kept.clear()
            self._mark = mark
        elif key in self._kept:
            return self._kept[key]
        value = await read()
        if mark == self._mark:
            self._admit(key, value)
        return value

    def _admit(self, key: Hashable, value: V) -> None:
        if key in self._asked:
            if len(self._kept) >= self._limit:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = value
            return
        if len(self._asked) >= self._limit:
            self._asked.clear()
        self._asked.add(key)
