"""Hear of changes that other processes commit to PostgreSQL: LISTEN on a connection that the event loop watches."""

import asyncio
import logging
from collections.abc import Callable

import psycopg

from millrace.store.connections import Connection, Connections

__all__ = ["CHANNEL", "ChangeListener"]

log = logging.getLogger(__name__)

CHANNEL = "millrace"


class ChangeListener:
    """Calls back for each notice of another process, and whenever notices may have been missed."""

    def __init__(self, connections: Connections, on_change: Callable[[], None]) -> None:
        self._connections = connections
        self._on_change = on_change
        self._connection: Connection | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._descriptor = -1

    async def open(self) -> None:
        """Listen, if that is not so already.

        Raises:
            StoreUnavailable: The server does not answer.
        """
        if self._connection is not None:
            return
        self._loop = asyncio.get_running_loop()
        connection = await self._loop.run_in_executor(None, self._listen)
        self._connection = connection
        self._descriptor = connection.fileno()
        self._loop.add_reader(self._descriptor, self._read)
        self._on_change()  # nobody has told what was committed before

    def _listen(self) -> Connection:
        connection = self._connections.connect()
        connection.execute(f"LISTEN {CHANNEL}".encode())
        return connection

    def _read(self) -> None:
        assert self._connection is not None
        wire = self._connection.pgconn
        try:
            wire.consume_input()
            heard = False
            while (notice := wire.notifies()) is not None:
                heard = heard or not self._connections.is_ours(notice.be_pid)
        except psycopg.OperationalError as exc:
            log.warning("connection that hears of changes is lost", extra={"detail": str(exc).strip()})
            self.close()
            heard = True
        if heard:
            self._on_change()

    def close(self) -> None:
        """Listen no more."""
        if self._connection is not None and self._loop is not None:
            if not self._loop.is_closed():
                self._loop.remove_reader(self._descriptor)
            self._connection.close()
            self._connection = None
