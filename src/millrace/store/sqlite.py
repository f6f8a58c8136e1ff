"""State in a SQLite file: connections, migrations, and word of changes.

Reads run where they are called, on one connection: in WAL mode they wait for nobody. Writes run on a thread of their
own, one at a time, on another connection, so that waiting for another process's write lock never stops the event loop.
"""

import asyncio
import os
import sqlite3
import stat as stat_bits
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from millrace.errors import StoreFull, StoreUnavailable
from millrace.private_folder import make_private_folder
from millrace.store.database import Row, Transaction, migrations

__all__ = ["SqliteDatabase"]

T = TypeVar("T")

BUSY_TIMEOUT_SECONDS = 30.0
_NO_ROOM = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE})
"""Codes of a full disk: for the file, and for the index that SQLite keeps of its log."""

POLL_SECONDS = 0.01
"""How often another process's changes are looked for; one look costs about 10 microseconds."""


class SqliteDatabase:
    """A Database in one file. One server uses it at a time; agents and commands have it open too."""

    is_shared = False

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        """Open the file, making or migrating it first. The file, and the folder it is in, become their owner's only.

        Args:
            durable: Whether a write is on disk when it returns. Agents, whose work can be redone, do without.

        Raises:
            StoreUnavailable: The file can't be opened, or is of a newer release.
        """
        self._path = path
        self._durable = durable
        try:
            _make_private(path)
        except OSError as exc:
            raise StoreUnavailable(f"state file {path}: {exc}") from exc
        try:
            with _closing(self._connect()) as connection:
                _migrate(connection)
            self._reader = self._connect()
        except sqlite3.Error as exc:
            raise StoreUnavailable(f"state file {path}: {exc}") from exc
        self._writer_thread = ThreadPoolExecutor(1, thread_name_prefix="millrace-db")
        self._writer: sqlite3.Connection | None = None
        self._seen_version = self.state_mark()
        self._changed = asyncio.Event()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False
        )
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {'FULL' if self._durable else 'NORMAL'}")
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    async def one(self, statement: str, parameters: Mapping[str, Any]) -> Row | None:
        try:
            row: Row | None = self._reader.execute(statement, parameters).fetchone()
        except sqlite3.DatabaseError as exc:
            raise self._unavailable(exc) from exc
        return row

    async def all(self, statement: str, parameters: Mapping[str, Any]) -> list[Row]:
        try:
            rows: list[Row] = self._reader.execute(statement, parameters).fetchall()
        except sqlite3.DatabaseError as exc:
            raise self._unavailable(exc) from exc
        return rows

    async def table(self, statement: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        cursor = self._reader.cursor()
        cursor.row_factory = None
        try:
            rows: list[tuple[Any, ...]] = cursor.execute(statement, parameters).fetchall()
        except sqlite3.DatabaseError as exc:
            raise self._unavailable(exc) from exc
        return rows

    def state_mark(self) -> int:
        # "... will be different if changes were committed to the database by any other connection in the interim": the
        # reader never writes, so that all commits are of others, those of this process's writer among them.
        try:
            return int(self._reader.execute("PRAGMA data_version").fetchone()[0])
        except sqlite3.DatabaseError as exc:
            raise self._unavailable(exc) from exc

    async def write(
        self, work: Callable[[Transaction], T], *, alone_in: str | None = None, is_fleeting: bool = False
    ) -> T:
        """Run `work` in one transaction on the writer's thread; there, all are alone.

        Raises:
            StoreFull: The disk is full.
            StoreUnavailable: The file is damaged, or another process has held the write lock for too long.
        """
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._writer_thread, self._write, work)
        except sqlite3.IntegrityError:  # what was written is wrong, not the file
            raise
        except sqlite3.DatabaseError as exc:
            raise self._unavailable(exc) from exc
        finally:
            self._changed.set()

    def _unavailable(self, exc: sqlite3.DatabaseError) -> StoreUnavailable:
        is_full = getattr(exc, "sqlite_errorcode", None) in _NO_ROOM
        return (StoreFull if is_full else StoreUnavailable)(f"state file {self._path}: {exc}")

    def _write(self, work: Callable[[Transaction], T]) -> T:
        if self._writer is None:
            self._writer = self._connect()
        connection = self._writer
        with _transaction(connection):
            return work(connection)

    async def wait_for_change(self, timeout_seconds: float) -> bool:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_seconds
        while True:
            if self._changed.is_set():
                self._changed.clear()
                self._seen_version = self.state_mark()
                return True
            version = self.state_mark()
            if version != self._seen_version:
                self._seen_version = version
                return True
            left = deadline - loop.time()
            if left <= 0:
                return False
            try:
                async with asyncio.timeout(min(POLL_SECONDS, left)):  # wait_for may return although it was cancelled
                    await self._changed.wait()
            except TimeoutError:
                continue

    def close(self) -> None:
        self._writer_thread.shutdown(wait=True)
        if self._writer is not None:
            self._writer.close()
        self._reader.close()


def _make_private(path: Path) -> None:
    """Keep secret keys from other users, before the first one is written; SQLite gives its -wal and -shm our mode.

    A file that is there is changed by its name and not opened: to close it would drop the locks that this process holds
    on it ("How To Corrupt An SQLite Database File" 2.2).
    """
    make_private_folder(path.parent, known_by=path.name)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    for file in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        with suppress(FileNotFoundError):  # -wal and -shm come and go with the processes that have the file open
            mode = stat_bits.S_IMODE(file.stat().st_mode)
            if mode & 0o077:
                file.chmod(mode & 0o600)


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema up to date; each step is one transaction, numbered by user_version."""
    steps = migrations()
    if connection.execute("PRAGMA user_version").fetchone()[0] == len(steps):
        return
    with _transaction(connection):
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > len(steps):
            raise StoreUnavailable(f"schema version {version} is newer than this release's {len(steps)}")
        for number, step in enumerate(steps[version:], start=version + 1):
            for statement in _statements(step):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")


def _statements(text: str) -> Iterator[str]:
    """Split a script at the semicolons that end statements (executescript would commit the transaction)."""
    pending = ""
    for line in text.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""
    if pending.strip():
        yield pending


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit what happens inside, or roll all of it back; either way the connection can take the next transaction."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # A COMMIT that fails may leave the transaction open; after a full disk SQLite may have rolled back by itself.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def _closing(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    try:
        yield connection
    finally:
        connection.close()
