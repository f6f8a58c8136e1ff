"""Carry connections from a listening socket to an address, byte by byte."""

import asyncio
import socket
from typing import cast

__all__ = ["open_relay"]


async def open_relay(listening: socket.socket, host: str, port: int) -> asyncio.Server:
    """Serve a listening socket: each connection is carried to an address, until the server is closed.

    A connection that can't be carried is closed; bytes wait in the kernel where the other side is slow.
    """
    listening.setblocking(False)
    return await asyncio.get_running_loop().create_server(lambda: _Caller(host, port), sock=listening)


class _Half(asyncio.Protocol):
    """One of two connections that get each other's bytes."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: _Half | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        if self.other is not None and self.other.transport is not None and self.other.transport.can_write_eof():
            self.other.transport.write_eof()
        return True  # the other direction may go on

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        other, self.other = self.other, None
        self.transport = None
        if other is not None and other.transport is not None:
            other.transport.close()


class _Caller(_Half):
    """The side that came in; it connects onward before it reads."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__()
        self._host = host
        self._port = port
        self._connecting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.pause_reading()
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        try:
            _, onward = await asyncio.get_running_loop().create_connection(_Half, self._host, self._port)
        except OSError:
            if self.transport is not None:
                self.transport.abort()
            return
        if self.transport is None:  # the caller did not wait
            assert onward.transport is not None
            onward.transport.close()
            return
        self.other, onward.other = onward, self
        self.transport.resume_reading()
