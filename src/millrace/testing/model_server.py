"""A model server whose behaviour a test chooses, on a real socket."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import cast

import httptools

from millrace.ports.runtime import Address
from millrace.testing.accepting import close_server

__all__ = ["CLOSE", "Behaviour", "Endless", "ModelReply", "ModelRequest", "ModelServer"]


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """A request as the model server got it; header names are lower-case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Endless(Enum):
    """What of an answer has no end."""

    NOTHING = auto()
    BODY = auto()
    HEAD = auto()


@dataclass(frozen=True, slots=True)
class ModelReply:
    """An answer; it is sent with a Content-Length unless `until_close`.

    Of an endless one the body is a chunk (or the value of a header) that is sent again until the client goes away.
    """

    body: bytes = b""
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    until_close: bool = False
    endless: Endless = Endless.NOTHING


CLOSE = ModelReply(status=0)
"""Close the connection without an answer."""

Behaviour = Callable[[ModelRequest], Awaitable[ModelReply]]


class ModelServer:
    """Answers /ping with 200 and everything else as `behaviour` says; keeps all requests and counts those in flight.

    Use it as an async context manager.
    """

    def __init__(self, behaviour: Behaviour, *, ping: Behaviour | None = None, path: str | None = None) -> None:
        self._behaviour = behaviour
        self._ping = ping
        self._path = path
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._arrived = asyncio.Event()
        self.requests: list[ModelRequest] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.poured = 0
        """Bytes of endless answers that were sent, or wait to be."""

    async def __aenter__(self) -> "ModelServer":
        loop = asyncio.get_running_loop()
        if self._path is not None:
            self._server = await loop.create_unix_server(lambda: _Connection(self), self._path)
            self.address = Address(path=self._path)
        else:
            self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", 0)
            self.address = Address(port=self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        await close_server(self._server)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks))
        self.close_connections()
        await self._server.wait_closed()

    def close_connections(self) -> None:
        """Close all connections, as a server does that has no patience with idle ones."""
        for connection in list(self._connections):
            connection.transport.close()

    @property
    def bodies(self) -> list[bytes]:
        """The bodies of all invocations."""
        return [request.body for request in self.requests if request.path == "/invocations"]

    async def received(self, count: int) -> None:
        """Return once that many invocations have arrived."""
        while len(self.bodies) < count:
            self._arrived.clear()
            await self._arrived.wait()

    def _take(self, connection: "_Connection", request: ModelRequest) -> None:
        self.requests.append(request)
        self._arrived.set()
        task = asyncio.create_task(self._answer(connection, request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, connection: "_Connection", request: ModelRequest) -> None:
        if request.path == "/ping":
            connection.write(await self._ping(request) if self._ping else ModelReply())
            return
        self.in_flight += request.path == "/invocations"
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            reply = await self._behaviour(request)
        finally:
            self.in_flight -= request.path == "/invocations"
        connection.write(reply)


class _Connection(asyncio.Protocol):
    """One connection of a client."""

    def __init__(self, server: ModelServer) -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._endless = b""
        self._full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._server._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server._connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._pour()

    def _pour(self) -> None:
        while self._endless and not self._full and not self.transport.is_closing():
            self._server.poured += len(self._endless)
            self.transport.write(self._endless)

    def on_message_begin(self) -> None:
        self._headers = {}
        self._body = []

    def on_url(self, url: bytes) -> None:
        self._url = url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode().lower()] = value.decode()

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        method = self._parser.get_method().decode()
        request = ModelRequest(method, self._url.decode(), self._headers, b"".join(self._body))
        self._server._take(self, request)

    def write(self, reply: ModelReply) -> None:
        """Send an answer."""
        if reply is CLOSE:
            self.transport.close()
            return
        if reply.endless is not Endless.NOTHING:
            self._begin(reply)
            return
        lines = [f"HTTP/1.1 {reply.status} Status", *(f"{name}: {value}" for name, value in reply.headers)]
        if not reply.until_close and reply.status != 204:
            lines.append(f"Content-Length: {len(reply.body)}")
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + reply.body)
        if reply.until_close:
            self.transport.close()

    def _begin(self, reply: ModelReply) -> None:
        head = f"HTTP/1.1 {reply.status} Status\r\n".encode()
        if reply.endless is Endless.HEAD:
            self._endless = b"X-Endless: %b\r\n" % reply.body
        else:
            head += b"Transfer-Encoding: chunked\r\n\r\n"
            self._endless = b"%x\r\n%b\r\n" % (len(reply.body), reply.body)
        self.transport.write(head)
        self._pour()
