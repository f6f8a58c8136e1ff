"""Listen for requests to a chain of containers: HTTP/1.1 on a Unix socket of the instance's own folder."""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import httptools

from millrace.agents.chain import INVOCATIONS, Chain, Failure, Passage
from millrace.agents.chain_body import ArrivingBody
from millrace.agents.chain_lane import Lane
from millrace.agents.chain_stream import ask_first, pass_through
from millrace.dataplane.connection import Buffers
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

KNOWN_HEADS = 256
"""Heads of requests that are remembered. A job sends the same one with every payload, but for the length."""

LENGTH = b"Content-Length: "

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


@asynccontextmanager
async def serve_chain(chain: Chain, folder: Path) -> AsyncIterator[Address]:
    """Answer requests while the block runs; yields where."""
    loop = asyncio.get_running_loop()
    listener = _Listener(chain)
    path = folder / SOCKET_NAME
    if len(str(path).encode()) < SOCKET_PATH_LIMIT:
        path.unlink(missing_ok=True)  # left by an agent that was killed
        server = await loop.create_unix_server(lambda: _Connection(listener), str(path), backlog=BACKLOG)
        address = Address(path=str(path))
    else:
        server = await loop.create_server(lambda: _Connection(listener), "127.0.0.1", 0, backlog=BACKLOG)
        address = Address(port=server.sockets[0].getsockname()[1])
    try:
        yield address
    finally:
        server.close()
        ending = [task for connection in list(listener.connections) if (task := connection.abort()) is not None]
        if ending:
            await asyncio.wait(ending)
        await asyncio.sleep(0)  # the loop closes sockets one turn later
        await server.wait_closed()


class _Listener:
    """What the connections of one chain share."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.connections: set[_Connection] = set()
        self.known: dict[bytes, Passage] = {}
        """Where requests go, by their heads up to the line of their length: a head is parsed once."""

    def remember(self, head: bytes, passage: Passage) -> None:
        """Remember a head that was parsed."""
        if len(self.known) >= KNOWN_HEADS:
            self.known.clear()
        self.known[head] = passage


@dataclass(slots=True)
class _Request:
    """A request as it is parsed."""

    url: bytes = b""
    headers: list[tuple[str, str]] | None = None
    head_bytes: int = 0
    lengths: int = 0
    chunked: bool = False


class _Connection(asyncio.Protocol):
    """One client, one request at a time; a client that goes away ends the request that it waits for.

    It is also what writes the answer. Requests of known length are a lane's; all others have a task.
    """

    def __init__(self, listener: _Listener) -> None:
        self._listener = listener
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._lane = Lane(listener.chain, self)
        self._parser = httptools.HttpRequestParser(self)
        self._parsing = False
        """The parser is in the midst of a request."""
        self._request = _Request()
        self._segment = b""
        """What began the request that is parsed."""
        self._passage: Passage | None = None
        self._body: list[bytes] = []
        self._missing = 0
        """Bytes of the body to come, of a request whose head was known."""
        self._busy = False
        self._next: tuple[Passage, Buffers, int] | None = None
        self._keep_alive = True
        self._chunked_answer = False
        self._arriving: ArrivingBody | None = None
        self._task: asyncio.Task[None] | None = None
        self._writable: asyncio.Future[None] | None = None

    def abort(self) -> "asyncio.Task[None] | None":
        """Drop the connection; return the task of its request, cancelled, if it has one."""
        self._transport.abort()
        self._lane.close()
        if self._task is not None:
            self._task.cancel()
        return self._task

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._listener.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.connections.discard(self)
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._lane.close()
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        if self._missing:
            self._gather(data)
            return
        if not self._parsing:
            end = data.find(b"\r\n\r\n")
            start = data.rfind(b"\r\n", 0, max(end, 0)) + 2
            passage = self._listener.known.get(data[:start])
            length = data[start + len(LENGTH) : end]
            if passage is not None and data.startswith(LENGTH, start) and length.isdigit():
                self._passage = passage
                self._missing = int(length)
                self._gather(data[end + 4 :])
                return
            self._segment = data
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as exc:
            self._refuse(repr(exc.__context__ or exc))

    def _refuse(self, why: str) -> None:
        log.error("not a request that a chain takes", extra={"detail": why})
        self._transport.abort()

    def _gather(self, data: bytes) -> None:
        """Take a part of the body of a request whose head was known."""
        self._missing -= len(data)
        passage = self._passage
        if self._missing < 0 or passage is None:
            self._missing = 0
            self._refuse("more than one request at a time")
        elif self._body:
            self._body.append(data)
            if not self._missing:
                pieces, self._body = self._body, []
                self._take(passage, pieces, sum(map(len, pieces)))
        elif self._missing:
            self._body.append(data)
        else:
            self._take(passage, data, len(data))

    def pause_writing(self) -> None:
        self._writable = asyncio.get_running_loop().create_future()
        self._lane.pause()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None
        self._lane.resume()

    # -- httptools callbacks

    def on_message_begin(self) -> None:
        self._parsing = True
        self._request = _Request(headers=[])
        self._body = []

    def on_url(self, url: bytes) -> None:
        self._request.url += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_head(len(name) + len(value))
        request = self._request
        name = name.lower()
        request.lengths += name == b"content-length"
        request.chunked |= name == b"transfer-encoding"
        if name not in _NOT_PASSED_ON and request.headers is not None:
            request.headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def _count_head(self, size: int) -> None:
        self._request.head_bytes += size
        if self._request.head_bytes > HEAD_BYTES:
            raise _Refused(f"the head of a request must have at most {HEAD_BYTES} bytes, got more")

    def on_headers_complete(self) -> None:
        if self._request.chunked:
            if self._busy:
                raise _Refused("a client must wait for an answer before it sends another request")
            self._arriving = ArrivingBody(self._transport)
            self._take_parsed(self._arriving)

    def on_body(self, body: bytes) -> None:
        if self._request.chunked and self._arriving is not None:
            self._arriving.add(body)
        elif not self._request.chunked:
            self._body.append(body)

    def on_message_complete(self) -> None:
        self._parsing = False
        if not self._request.chunked:
            self._take_parsed(None)
        elif self._arriving is not None:
            self._arriving.end()

    # -- requests

    def _take_parsed(self, arriving: ArrivingBody | None) -> None:
        """Take a request that was parsed, whole or (one without a length) its head."""
        headers = self._request.headers or []
        method, path = self._parser.get_method().decode("ascii"), self._request.url.decode("latin-1")
        keep_alive = self._parser.should_keep_alive()
        pieces, self._body = self._body, []
        if method != "POST" or path != INVOCATIONS:
            self._begin_task(ask_first(self._listener.chain, method, path, headers, pieces, self), keep_alive)
            return
        passage = self._listener.chain.passage(headers)
        if isinstance(passage, Failure):
            if self._busy:
                raise _Refused("a client must wait for an answer before it sends another request")
            self._busy, self._keep_alive = True, keep_alive
            self._listener.chain.tell(passage, self)
            return
        if arriving is not None:
            self._begin_task(pass_through(self._listener.chain, passage, arriving.read(), self), keep_alive)
            return
        start = self._segment.rfind(b"\r\n", 0, max(self._segment.find(b"\r\n\r\n"), 0)) + 2
        if keep_alive and self._request.lengths == 1 and self._segment.startswith(LENGTH, start):
            self._listener.remember(self._segment[:start], passage)
        self._segment = b""
        self._keep_alive = keep_alive
        self._take(passage, pieces, sum(map(len, pieces)))

    def _take(self, passage: Passage, body: Buffers, size: int) -> None:
        """Take an invocation of known length."""
        if not self._busy:
            self._busy = True
            self._lane.start(passage, body, size)
        elif self._next is None and self._task is not None:
            self._next = passage, body, size  # the last answer is read to its end; its task still puts things away
        else:
            self._refuse("a client must wait for an answer before it sends another request")

    def _begin_task(self, work: Coroutine[None, None, None], keep_alive: bool) -> None:
        if self._busy:
            work.close()
            raise _Refused("a client must wait for an answer before it sends another request")
        self._busy = True
        self._keep_alive = keep_alive
        self._lane.close_idle()
        self._task = asyncio.get_running_loop().create_task(self._run(work))

    async def _run(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except Exception:
            log.exception("chain failed")
            self._transport.abort()
        finally:
            self._task = None
            if self._arriving is not None:
                self._arriving.discard()
            self._end()

    def _end(self) -> None:
        """Be ready for the next request."""
        self._busy = False
        if not self._keep_alive:
            self._transport.close()
        waiting, self._next = self._next, None
        if waiting is not None and not self._transport.is_closing():
            self._take(*waiting)

    # -- the answer

    def send_whole(self, head: bytes, body: Buffers) -> None:
        """Send all of an answer."""
        if isinstance(body, bytes):
            body = (body,)
        size = sum(map(len, body))
        if size <= JOIN_BELOW:
            self._transport.write(b"".join((head, LENGTH, b"%d\r\n\r\n" % size, *body)))
        else:
            self._transport.writelines((head, LENGTH, b"%d\r\n\r\n" % size, *body))
        if self._task is None:
            self._end()

    def begin(self, head: bytes, length: int | None) -> None:
        """Send the head of an answer in pieces."""
        self._chunked_answer = length is None
        framing = b"Transfer-Encoding: chunked" if length is None else LENGTH + b"%d" % length
        self._transport.write(head + framing + b"\r\n\r\n")

    def send_piece(self, piece: bytes) -> None:
        """Send a piece of the body."""
        if self._chunked_answer:
            self._transport.writelines((b"%x\r\n" % len(piece), piece, b"\r\n"))
        else:
            self._transport.write(piece)

    async def room(self) -> None:
        """Wait until the client has taken enough of what was sent."""
        if self._writable is not None:
            await self._writable

    def finish(self) -> None:
        """End an answer in pieces."""
        if self._chunked_answer:
            self._transport.write(b"0\r\n\r\n")
        if self._task is None:
            self._end()

    def break_off(self) -> None:
        """Drop the connection: the answer has begun and can't be completed."""
        log.warning("an answer broke off")
        self._transport.abort()


class _Refused(Exception):
    """The request is none that a part of ours would send; the parser stops and raises HttpParserError."""
