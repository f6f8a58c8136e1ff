"""State in a PostgreSQL database: statements, transactions and migrations.

Statements run on threads, one for each connection, so that the event loop never waits for the server. Transactions are
REPEATABLE READ: each sees one state, and of two that change the same row the later is run again. That is what SQLite's
single writer gives, without the wait: what was decided on a row holds when it is committed. Decisions on rows that are
not there need more, a table to themselves.

A statement whose connection breaks is run again on a new one; a COMMIT is not, for nobody can tell whether it was done.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import psycopg
from psycopg import errors
from psycopg.rows import DictRow

from millrace.errors import StoreUnavailable
from millrace.store.change_listener import CHANNEL, ChangeListener
from millrace.store.connections import Connection, Connections
from millrace.store.database import Result, Row, Transaction, migrations
from millrace.store.dialect import parameters_for_postgresql, schema_for_postgresql, statement_for_postgresql

__all__ = ["PostgresqlDatabase"]

T = TypeVar("T")

log = logging.getLogger(__name__)

MAX_RUNS = 20
"""How often a transaction that collides with others is run in all. Each time at least one of the others got through."""

MAX_PAUSE_SECONDS = 0.05
"""The pause before it is run again is drawn from zero to this, growing with the runs."""

MIGRATION_LOCK = 0x6D696C6C72616365
"""The advisory lock under which the schema is changed: "millrace" in ASCII."""

_BEGIN = b"BEGIN ISOLATION LEVEL REPEATABLE READ"
_BEGIN_FLEETING = _BEGIN + b"; SET LOCAL synchronous_commit = off"
_COMMIT = f"NOTIFY {CHANNEL}; COMMIT".encode()

_COLLISIONS = (errors.SerializationFailure, errors.DeadlockDetected, errors.ForeignKeyViolation)
"""What another transaction at the same time causes; a foreign key fails if the row it names was deleted just now."""


class PostgresqlDatabase:
    """A Database on a server that several machines can reach."""

    is_shared = True

    def __init__(
        self,
        url: str,
        *,
        connections: int,
        statement_seconds: float,
        wait_seconds: float,
        waits_at_start: bool = False,
    ) -> None:
        """Connect, and make or migrate the schema.

        Args:
            url: `postgresql://...`, as libpq reads it.
            connections: Open at a time; what hears of changes is one more.
            statement_seconds: A statement that takes longer, or waits longer for a lock, fails.
            wait_seconds: How long calls wait for a server that is away.
            waits_at_start: Whether that holds for the first connection too.

        Raises:
            StoreUnavailable: The server does not answer or refuses, or the schema is of a newer release.
        """
        self._connections = Connections(url, statement_seconds=statement_seconds, wait_seconds=wait_seconds)
        if not waits_at_start:
            self._connections.connect().close()
        try:
            self._run(_migrate)
        except BaseException:
            self._connections.close()
            raise
        self._threads = ThreadPoolExecutor(connections, thread_name_prefix="millrace-db")
        self._changed = asyncio.Event()
        self._listener = ChangeListener(self._connections, self._changed.set)

    async def one(self, statement: str, parameters: Mapping[str, Any]) -> Row | None:
        return await self._in_thread(lambda connection: _execute(connection, statement, parameters).fetchone())

    async def all(self, statement: str, parameters: Mapping[str, Any]) -> list[Row]:
        return await self._in_thread(lambda connection: [*_execute(connection, statement, parameters).fetchall()])

    async def table(self, statement: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        return [tuple(row.values()) for row in await self.all(statement, parameters)]  # type: ignore[attr-defined]

    def state_mark(self) -> int | None:
        return None

    async def write(
        self, work: Callable[[Transaction], T], *, alone_in: str | None = None, is_fleeting: bool = False
    ) -> T:
        begin = _BEGIN_FLEETING if is_fleeting else _BEGIN
        if alone_in is not None:  # LOCK comes before the snapshot is taken, so that it has what the others committed
            begin += f"; LOCK TABLE {alone_in} IN SHARE ROW EXCLUSIVE MODE".encode()
        commit = b"COMMIT" if is_fleeting else _COMMIT

        def transact(connection: Connection) -> T:
            connection.execute(begin)
            result = work(_Translating(connection))
            _commit(connection, commit)
            return result

        writing = self._threads.submit(self._run, transact)
        if not is_fleeting:
            # When the thread is done, not when the caller is: a caller that is cancelled stops no commit.
            writing.add_done_callback(partial(self._tell_of_change, asyncio.get_running_loop()))
        return await asyncio.wrap_future(writing)

    def _tell_of_change(self, loop: asyncio.AbstractEventLoop, writing: Future[Any]) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(self._changed.set)

    async def wait_for_change(self, timeout_seconds: float) -> bool:
        try:
            await self._listener.open()
        except StoreUnavailable as exc:
            log.warning("changes by others can't be heard of", extra={"detail": str(exc)})
            await asyncio.sleep(timeout_seconds)
            return True
        if not self._changed.is_set():
            try:
                async with asyncio.timeout(timeout_seconds):  # wait_for may return although it was cancelled
                    await self._changed.wait()
            except TimeoutError:
                return False
        self._changed.clear()
        return True

    async def _in_thread(self, ask: Callable[[Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._run, ask)

    def _run(self, ask: Callable[[Connection], T]) -> T:
        """Ask, until no other transaction was in the way and the connection held."""
        for run in range(1, MAX_RUNS + 1):
            try:
                with self._connections.lend() as connection:
                    return _ask(connection, ask)
            except _Again as again:
                cause = again.__cause__
            except (psycopg.OperationalError, psycopg.InterfaceError) as exc:
                raise StoreUnavailable(f"{self._connections.name}: {exc}") from exc
            time.sleep(random.uniform(0, MAX_PAUSE_SECONDS * run / MAX_RUNS))
        raise StoreUnavailable(f"{self._connections.name}: in vain {MAX_RUNS} times, at last: {cause}") from cause

    def close(self) -> None:
        self._listener.close()
        self._connections.stop_waiting()
        self._threads.shutdown(wait=True)
        self._connections.close()


class _Again(Exception):
    """Nothing was done, through no fault of what was asked; the cause tells why."""


class _Translating:
    """A Transaction over the driver's connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def execute(self, statement: str, parameters: Mapping[str, Any] | None = None, /) -> Result:
        return _execute(self._connection, statement, parameters or {})


def _execute(connection: Connection, statement: str, parameters: Mapping[str, Any]) -> psycopg.Cursor[DictRow]:
    return connection.execute(statement_for_postgresql(statement), parameters_for_postgresql(parameters))


def _ask(connection: Connection, ask: Callable[[Connection], T]) -> T:
    """Return the answer; what raises leaves no transaction behind."""
    try:
        return ask(connection)
    except _COLLISIONS as exc:
        _roll_back(connection)
        raise _Again from exc
    except (psycopg.OperationalError, psycopg.InterfaceError) as exc:
        if connection.closed:
            raise _Again from exc
        _roll_back(connection)
        raise
    except BaseException:
        _roll_back(connection)
        raise


def _commit(connection: Connection, commit: bytes) -> None:
    try:
        connection.execute(commit)
    except psycopg.OperationalError as exc:
        if connection.closed:
            raise StoreUnavailable(f"connection lost while a transaction was committed, or not: {exc}") from exc
        raise


def _roll_back(connection: Connection) -> None:
    if not connection.closed:
        with suppress(psycopg.Error):  # a connection that is not idle is closed when it is given back
            connection.execute(b"ROLLBACK")


def _migrate(connection: Connection) -> None:
    """Bring the schema up to date, in one transaction, one process at a time."""
    if _version(connection) == len(migrations()):
        return
    lock = {"key": MIGRATION_LOCK}
    # The lock is the session's, not the transaction's: one that begins with the lock in hand sees what the process
    # before has made, while in one that waited for it the tables may still be known as missing.
    connection.execute(b"SELECT pg_advisory_lock(%(key)s)", lock)
    try:
        connection.execute(b"BEGIN")
        _bring_up_to_date(connection)
        connection.execute(b"COMMIT")
    except BaseException:
        _roll_back(connection)
        raise
    finally:
        if not connection.closed:
            connection.execute(b"SELECT pg_advisory_unlock(%(key)s)", lock)


def _bring_up_to_date(connection: Connection) -> None:
    steps = migrations()
    version = _version(connection)
    if version > len(steps):
        raise StoreUnavailable(f"schema version {version} is newer than this release's {len(steps)}")
    for step in steps[version:]:
        connection.execute(schema_for_postgresql(step))
    connection.execute(b"CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)")
    connection.execute(b"DELETE FROM schema_version")
    connection.execute(b"INSERT INTO schema_version VALUES (%(version)s)", {"version": len(steps)})


def _version(connection: Connection) -> int:
    """Return the schema's version, 0 for a database without one."""
    found = connection.execute(b"SELECT to_regclass('schema_version') IS NOT NULL AS is_there").fetchone()
    if found is None or not found["is_there"]:
        return 0
    row = connection.execute(b"SELECT version FROM schema_version").fetchone()
    return 0 if row is None else int(row["version"])
