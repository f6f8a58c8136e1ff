"""A bounded set of connections to PostgreSQL, which outlives the server's restarts.

A connection is lent to one thread at a time. One that broke is closed, and so are the idle ones beside it: most likely
they are broken too. While the server is away, borrowers wait for it up to a bound; beyond it they fail at once, each
after one attempt, until it is back.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg.rows import DictRow, dict_row

from millrace.errors import StoreUnavailable

__all__ = ["Connection", "Connections"]

Connection = psycopg.Connection[DictRow]

CONNECT_SECONDS = 10
RETRY_SECONDS = 0.1


def _parsed(url: str) -> dict[str, Any]:
    """Return the parts of a database's address; raises StoreUnavailable, which never repeats it.

    What stands at the wrong place in it may be a password: libpq's own message quotes that, and so would those about a
    host or port that can't be reached.
    """
    try:
        parts = conninfo_to_dict(url)
    except psycopg.Error:
        parts = None
    if parts is None or "@" in f"{parts.get('host', '')}{parts.get('dbname', '')}" or not _is_port(parts.get("port")):
        raise StoreUnavailable(
            "MILLRACE_DATABASE_URL must be postgresql://user:password@host:port/database as libpq reads it; in user "
            "and password, all but letters and digits is percent-encoded (%40 for @, %25 for %). Its value is not shown"
        )
    return parts


def _is_port(text: Any) -> bool:
    """Tell whether a port is left out, or one number or several for as many hosts."""
    return text is None or all(part.isdigit() or not part for part in str(text).split(","))


class Connections:
    """Lends connections; as many are open as were lent at a time."""

    def __init__(self, url: str, *, statement_seconds: float, wait_seconds: float) -> None:
        """Take the server's address, how long a statement may take, and how long to wait for a server that is away.

        Raises:
            StoreUnavailable: The address does not parse.
        """
        self._parameters = {
            "connect_timeout": CONNECT_SECONDS,
            # A server whose machine is gone says nothing at all; without these, a read would wait for it for hours.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 30_000,
            "application_name": "millrace",
            "client_encoding": "UTF8",
        } | _parsed(url)
        milliseconds = int(statement_seconds * 1000)
        limits = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
        given = self._parameters.get("options")
        self._parameters["options"] = " ".join(
            [f"-c {limit}={milliseconds}" for limit in limits] + ([str(given)] if given else [])
        )
        self._wait = wait_seconds
        self._idle: list[Connection] = []
        self._mutex = threading.Lock()
        self._down_since: float | None = None
        self._closing = threading.Event()
        self._backends: dict[Connection, int] = {}

    @property
    def name(self) -> str:
        """The database, for messages: without user or password."""
        where = self._parameters
        return f"PostgreSQL database {where.get('dbname', '')!r} on {where.get('host', 'the local socket')}"

    def is_ours(self, backend: int) -> bool:
        """Whether a server's process works for one of these connections."""
        return backend in list(self._backends.values())

    def connect(self) -> Connection:
        """Open a connection that is nobody else's; the caller closes it.

        Raises:
            StoreUnavailable: Right away.
        """
        try:
            return psycopg.connect(**self._parameters, autocommit=True, row_factory=dict_row)  # type: ignore[arg-type]
        except psycopg.OperationalError as exc:
            raise StoreUnavailable(f"{self.name}: {exc}") from exc

    @contextmanager
    def lend(self) -> Iterator[Connection]:
        """Lend a connection; what is not idle when it comes back is closed."""
        connection = self._take()
        try:
            yield connection
        finally:
            self._take_back(connection)

    def _take(self) -> Connection:
        with self._mutex:
            if self._idle:
                return self._idle.pop()  # the one used last: those that a burst has left over stay idle
        connection = self._connect_patiently()
        with self._mutex:
            self._backends[connection] = connection.info.backend_pid
        return connection

    def _connect_patiently(self) -> Connection:
        while True:
            try:
                connection = self.connect()
            except StoreUnavailable:
                with self._mutex:
                    now = time.monotonic()
                    self._down_since = now if self._down_since is None else self._down_since
                    is_enough = now - self._down_since >= self._wait
                if is_enough or self._closing.wait(RETRY_SECONDS):
                    raise
            else:
                self._down_since = None
                return connection

    def _take_back(self, connection: Connection) -> None:
        if connection.closed:
            self._close([connection, *self._forget_idle()])
        elif connection.info.transaction_status is not TransactionStatus.IDLE:
            self._close([connection])
        else:
            with self._mutex:
                self._idle.append(connection)

    def _forget_idle(self) -> list[Connection]:
        with self._mutex:
            idle, self._idle = self._idle, []
        return idle

    def _close(self, connections: list[Connection]) -> None:
        for connection in connections:
            with self._mutex:
                self._backends.pop(connection, None)
            connection.close()

    def stop_waiting(self) -> None:
        """Let those who wait for a server that is away fail now."""
        self._closing.set()

    def close(self) -> None:
        """Close what is idle; nothing may be lent any more."""
        self._close(self._forget_idle())
