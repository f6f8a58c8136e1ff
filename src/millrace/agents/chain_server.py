"""Listen for requests to a chain of containers: HTTP/1.1 on a Unix socket of the instance's own folder."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import cast

import httptools

from millrace.agents.chain import Chain, ChainRequest
from millrace.dataplane.client import Body, Headers
from millrace.ports.runtime import Address

__all__ = ["serve_chain"]

log = logging.getLogger(__name__)

SOCKET_NAME = "chain.sock"
SOCKET_PATH_LIMIT = 100
"""Longer paths don't fit into an address; then a port of loopback is taken."""

BACKLOG = 1024
HEAD_BYTES = 64 * 1024
"""Longest head of a request; whoever asks is a part of ours and sends some hundred bytes."""

JOIN_BELOW = 64 * 1024
"""Bodies of at most this many bytes are copied behind their head: one buffer is cheaper to write than several."""

BODY_HIGH_WATER = 1024 * 1024
"""Bytes of a request without a length that wait for a container before no more of it is read."""

_NOT_PASSED_ON = frozenset(
    {
        b"connection",
        b"content-length",
        b"expect",
        b"host",
        b"keep-alive",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"user-agent",
    }
)
"""Headers of requests that concern one connection; those to containers get their own."""

_PHRASES = {status.value: status.phrase for status in HTTPStatus}


@asynccontextmanager
async def serve_chain(chain: Chain, folder: Path) -> AsyncIterator[Address]:
    """Answer requests while the block runs; yields where."""
    loop = asyncio.get_running_loop()
    connections: set[_Connection] = set()
    path = folder / SOCKET_NAME
    if len(str(path).encode()) < SOCKET_PATH_LIMIT:
        path.unlink(missing_ok=True)  # left by an agent that was killed
        server = await loop.create_unix_server(lambda: _Connection(chain, connections), str(path), backlog=BACKLOG)
        address = Address(path=str(path))
    else:
        server = await loop.create_server(lambda: _Connection(chain, connections), "127.0.0.1", 0, backlog=BACKLOG)
        address = Address(port=server.sockets[0].getsockname()[1])
    try:
        yield address
    finally:
        server.close()
        ending = [task for connection in list(connections) if (task := connection.abort()) is not None]
        if ending:
            await asyncio.wait(ending)
        await server.wait_closed()


class _ArrivingBody:
    """The body of a request without a length; no more of it is read from the socket while too much of it waits."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._pieces: list[bytes] = []
        self._waiting = 0
        self._paused = False
        self._ended = False
        self._unwanted = False
        self._changed = asyncio.Event()

    def add(self, piece: bytes) -> None:
        """Take what arrived."""
        if self._unwanted:
            return
        self._pieces.append(piece)
        self._waiting += len(piece)
        if self._waiting >= BODY_HIGH_WATER and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._changed.set()

    def end(self) -> None:
        """Take note that all has arrived."""
        self._ended = True
        self._changed.set()

    def discard(self) -> None:
        """Throw the rest away: the answer is there already."""
        self._unwanted = True
        self._pieces = []
        self._resume()

    async def read(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives."""
        while True:
            while self._pieces:
                pieces, self._pieces, self._waiting = self._pieces, [], 0
                self._resume()
                for piece in pieces:
                    yield piece
            if self._ended:
                return
            self._changed.clear()
            await self._changed.wait()

    def _resume(self) -> None:
        if self._paused and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()


@dataclass(frozen=True, slots=True)
class _Arrival:
    """A request, and what is to be done once it is answered."""

    request: ChainRequest
    keep_alive: bool
    arriving: _ArrivingBody | None


class _Connection(asyncio.Protocol):
    """One client, one request at a time; a client that goes away ends the request that it waits for."""

    def __init__(self, chain: Chain, connections: "set[_Connection]") -> None:
        self._chain = chain
        self._connections = connections
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._parser = httptools.HttpRequestParser(self)
        self._task: asyncio.Task[None] | None = None
        self._next: _Arrival | None = None
        self._writable: asyncio.Future[None] | None = None
        self._url = b""
        self._headers: list[tuple[str, str]] = []
        self._head_bytes = 0
        self._body: list[bytes] = []
        self._chunked = False
        self._arriving: _ArrivingBody | None = None

    def abort(self) -> "asyncio.Task[None] | None":
        """Drop the connection; return the task of its request, cancelled, if there is one."""
        self._transport.abort()
        if self._task is not None:
            self._task.cancel()
        return self._task

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self.resume_writing()
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as exc:
            log.error("not a request that a chain takes", extra={"detail": repr(exc.__context__ or exc)})
            self._transport.abort()

    def pause_writing(self) -> None:
        self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    # -- httptools callbacks

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = []
        self._head_bytes = 0
        self._body = []
        self._chunked = False
        self._arriving = None

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_head(len(name) + len(value))
        name = name.lower()
        if name == b"transfer-encoding":
            self._chunked = True
        if name not in _NOT_PASSED_ON:
            self._headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES:
            raise _Refused(f"the head of a request must have at most {HEAD_BYTES} bytes, got more")

    def on_headers_complete(self) -> None:
        if self._chunked:
            self._arriving = _ArrivingBody(self._transport)
            self._take(self._arriving.read())

    def on_body(self, body: bytes) -> None:
        if self._arriving is not None:
            self._arriving.add(body)
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self._arriving is not None:
            self._arriving.end()
        else:
            self._take(self._body[0] if len(self._body) == 1 else self._body)

    # -- requests and answers

    def _take(self, body: Body) -> None:
        request = ChainRequest(
            method=self._parser.get_method().decode("ascii"),
            path=self._url.decode("latin-1"),
            headers=self._headers,
            body=body,
        )
        arrival = _Arrival(request, self._parser.should_keep_alive(), self._arriving)
        if self._task is None:
            self._start(arrival)
        elif self._next is None:  # the client has read the last answer to its end; we are still putting things away
            self._next = arrival
        else:
            raise _Refused("a client must wait for an answer before it sends another request")

    def _start(self, arrival: _Arrival) -> None:
        self._task = asyncio.get_running_loop().create_task(self._answer(arrival))

    async def _answer(self, arrival: _Arrival) -> None:
        try:
            await self._chain.carry(arrival.request, self)
        except (ConnectionError, TimeoutError) as exc:
            log.warning("an answer broke off", extra={"detail": str(exc)})
            self._transport.abort()
        except Exception:
            log.exception("chain failed")
            self._transport.abort()
        finally:
            self._task = None
            if arrival.arriving is not None:
                arrival.arriving.discard()
            if not arrival.keep_alive:
                self._transport.close()
            waiting, self._next = self._next, None
            if waiting is not None and not self._transport.is_closing():
                self._start(waiting)

    def whole(self, status: int, headers: Headers, body: Sequence[bytes]) -> None:
        """Send all of an answer."""
        size = sum(map(len, body))
        head = _head(status, headers, f"Content-Length: {size}")
        if size <= JOIN_BELOW:
            self._transport.write(b"".join((head, *body)))
        else:
            self._transport.writelines((head, *body))

    async def stream(self, status: int, headers: Headers, pieces: AsyncIterator[bytes], length: int | None) -> None:
        """Send an answer as it comes, no faster than the client takes it."""
        chunked = length is None
        framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {length}"
        self._transport.write(_head(status, headers, framing))
        async for piece in pieces:
            self._transport.writelines((b"%x\r\n" % len(piece), piece, b"\r\n") if chunked else (piece,))
            if self._writable is not None:
                await self._writable
        if chunked:
            self._transport.write(b"0\r\n\r\n")


class _Refused(Exception):
    """The request is none that a part of ours would send; the parser stops and raises HttpParserError."""


def _head(status: int, headers: Headers, framing: str) -> bytes:
    lines = [f"HTTP/1.1 {status} {_PHRASES.get(status, 'Status')}", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join((*lines, framing, "", "")).encode("latin-1")
