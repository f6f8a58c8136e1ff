"""Carry connections from a listening socket to an address, byte by byte."""

import asyncio
import socket
from typing import cast

from millrace.relayed import RELAY_ADDRESS

__all__ = ["Relay"]


class Relay:
    """Carries each connection that comes in to an address; one that can't be carried is closed."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._server: asyncio.Server | None = None
        self._callers: set[_Caller] = set()

    async def open(self, listening: socket.socket) -> None:
        """Serve a listening socket, which is the relay's from now on."""
        listening.setblocking(False)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Caller(self), sock=listening)

    def close(self) -> None:
        """Stop listening and end all connections."""
        if self._server is not None:
            self._server.close()
        for caller in list(self._callers):
            caller.end()

    async def connect(self) -> "_Half":
        """Return a connection to the address; raises OSError."""
        # To the server this is no program of this machine. Who connects from another address is none for it anyway.
        source = (RELAY_ADDRESS, 0) if self._host.startswith("127.") else None
        loop = asyncio.get_running_loop()
        _, onward = await loop.create_connection(_Half, self._host, self._port, local_addr=source)
        return onward

    def add(self, caller: "_Caller") -> None:
        """Know of a connection, to end it with the relay."""
        self._callers.add(caller)

    def discard(self, caller: "_Caller") -> None:
        """Forget a connection that has ended."""
        self._callers.discard(caller)


class _Half(asyncio.Protocol):
    """One of two connections that get each other's bytes; those that the other can't take yet wait in the kernel."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: _Half | None = None
        self.has_ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        """Hand the end on; the other direction may go on until it has ended too."""
        self.has_ended = True
        if self.other is None:
            return True  # it is handed on once the way onward is open
        if self.other.transport is None:
            return False
        if self.other.has_ended:
            self.other.transport.close()
            return False
        self.other.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        other, self.other, self.transport = self.other, None, None
        if other is not None and other.transport is not None:
            other.transport.close()

    def end(self) -> None:
        """End both directions at once."""
        if self.transport is not None:
            self.transport.abort()
        if self.other is not None and self.other.transport is not None:
            self.other.transport.abort()


class _Caller(_Half):
    """The side that came in. What it sends before the way onward is open waits; that is one read at most."""

    def __init__(self, relay: Relay) -> None:
        super().__init__()
        self._relay = relay
        self._early: list[bytes] = []
        self._connecting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._relay.add(self)
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    def data_received(self, data: bytes) -> None:
        if self.other is None and self.transport is not None:
            self._early.append(data)
            self.transport.pause_reading()
        else:
            super().data_received(data)

    async def _connect(self) -> None:
        try:
            onward = await self._relay.connect()
        except OSError:
            self.end()
            return
        if self.transport is None:  # the caller did not wait
            onward.end()
            return
        self.other, onward.other = onward, self
        assert onward.transport is not None
        onward.transport.writelines(self._early)
        if self.has_ended:
            onward.transport.write_eof()
        elif self._early:
            self.transport.resume_reading()
        self._early = []

    def connection_lost(self, exc: Exception | None) -> None:
        self._relay.discard(self)
        super().connection_lost(exc)
