"""A database whose writes are timed, for who watches the server."""

from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any, TypeVar

from millrace.store.database import Database, Row, Transaction

__all__ = ["TimedDatabase"]

T = TypeVar("T")


class TimedDatabase:
    """Hands everything on, and tells how long each write took, with the wait for its turn."""

    def __init__(self, database: Database, on_write: Callable[[float], None]) -> None:
        self._database = database
        self._on_write = on_write
        self.is_shared = database.is_shared

    async def one(self, statement: str, parameters: Mapping[str, Any]) -> Row | None:
        return await self._database.one(statement, parameters)

    async def all(self, statement: str, parameters: Mapping[str, Any]) -> list[Row]:
        return await self._database.all(statement, parameters)

    async def table(self, statement: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        return await self._database.table(statement, parameters)

    def state_mark(self) -> int | None:
        return self._database.state_mark()

    async def write(
        self, work: Callable[[Transaction], T], *, alone_in: str | None = None, is_fleeting: bool = False
    ) -> T:
        started = perf_counter()
        try:
            return await self._database.write(work, alone_in=alone_in, is_fleeting=is_fleeting)
        finally:
            self._on_write(perf_counter() - started)

    async def wait_for_change(self, timeout_seconds: float) -> bool:
        return await self._database.wait_for_change(timeout_seconds)

    def close(self) -> None:
        self._database.close()
