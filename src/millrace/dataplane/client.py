"""Speak HTTP/1.1 to one container over keep-alive connections.

Two callers with different needs share one `Connection`. The transform loop hands a finished request to a connection
and gets one plain callback per answer: no future, no task, no timer per request. Everybody else calls
`Client.invoke` or `Client.stream`.

A connection carries one exchange at a time; requests are never pipelined, for many model servers cannot take it.
"""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import httptools

from millrace.dataplane.handed import receive_socket
from millrace.ports.runtime import Address

__all__ = [
    "Answer",
    "AnswerTooLarge",
    "Body",
    "Client",
    "ClientError",
    "Connection",
    "ConnectionFailed",
    "InvocationTimeout",
    "OpenAnswer",
    "StreamedAnswer",
    "open_connection",
    "request_head",
    "send_chunked",
]

Buffers = bytes | Sequence[bytes | memoryview]
"""A body in memory: one bytes object, or several buffers that are sent one after the other without being joined."""

Body = Buffers | AsyncIterator[bytes]
"""A request body; an iterator is sent chunked."""

Headers = Sequence[tuple[str, str]]

JOIN_BELOW = 64 * 1024
"""Bodies of at most this many bytes are copied behind their head: one buffer is cheaper to write than two."""

SERVING_HOST = "model.aws.local:8080"
"""What the service calls a container's server that has port 8080 of a network of its own."""

STREAM_HIGH_WATER = 1024 * 1024
"""Bytes of a streamed answer that wait for the reader before the socket is no longer read."""


_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f]")


class ClientError(Exception):
    """The exchange gave no complete answer."""


class ConnectionFailed(ClientError):
    """The connection could not be made, or ended before the answer was complete.

    `stale` tells that a reused connection was closed before one byte of the answer came: the server had most likely
    given it up while it was idle, and the request may be sent again. `absent` tells that nobody listens there.
    """

    def __init__(self, message: str, *, stale: bool = False, absent: bool = False) -> None:
        super().__init__(message)
        self.stale = stale
        self.absent = absent


class InvocationTimeout(ClientError):
    """No complete answer within the time allowed."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no complete answer within {seconds:g} seconds")
        self.seconds = seconds


class AnswerTooLarge(ClientError):
    """The answer's body is longer than the caller takes; `status` is the answer's.

    `size` is the length that the container declared; None if it declared none and sent more than the limit.
    """

    def __init__(self, limit: int, *, status: int, size: int | None = None) -> None:
        got = "more" if size is None else f"{size}"
        super().__init__(f"the body of an answer must be at most {limit} bytes, got {got}")
        self.limit = limit
        self.status = status
        self.size = size


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer; header names are lower-case."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the first value of a header, by its lower-case name."""
        return next((value for key, value in self.headers if key == name), None)


class _SecondAnswer(Exception):
    """Another answer follows in the same segment, though one request was sent."""


def _never(_: "Connection") -> None:
    """Stand in for a listener while no exchange is under way."""


class Connection(asyncio.Protocol):
    """One keep-alive connection, one exchange at a time.

    `on_answer` is called once the answer is complete, `on_lost` if the connection ends before that or while idle
    (`error` then says how). Both run on the event loop and may start the next exchange at once. Callers may hang facts
    about the exchange under way on `lane`, `payload` and `started`.
    """

    __slots__ = (
        "_closing",
        "_complete",
        "_feed",
        "_framed",
        "_headers",
        "_in_answer",
        "_parser",
        "_pieces",
        "_writable",
        "busy",
        "error",
        "keep_alive",
        "lane",
        "on_answer",
        "on_lost",
        "on_piece",
        "payload",
        "served",
        "started",
        "status",
        "transport",
    )

    def __init__(self) -> None:
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.on_answer: Callable[[Connection], None] = _never
        self.on_lost: Callable[[Connection], None] = _never
        self.on_piece: Callable[[bytes], None] | None = None
        self.lane: Any = None
        self.payload: Any = None
        self.started = 0.0
        self.status = 0
        self.served = 0
        self.busy = False
        self.keep_alive = False
        self.error: ConnectionFailed | None = None
        self._writable: asyncio.Future[None] | None = None
        self._closing = False
        self._complete = False
        self._in_answer = False
        self._framed = False
        self._headers: list[tuple[bytes, bytes]] = []
        self._pieces: list[bytes] = []
        self._parser = httptools.HttpResponseParser(self)
        self._feed: Callable[[bytes], None] = self._parser.feed_data

    # -- sending

    def send(self, head: bytes, body: Buffers, size: int) -> None:
        """Send a request whose head ends before the value of Content-Length, and its body of `size` bytes."""
        self.busy = True
        self.status = 0
        self._in_answer = False
        if size <= JOIN_BELOW:
            data = body if isinstance(body, bytes) else b"".join(body)
            self.transport.write(b"%b%d\r\n\r\n%b" % (head, size, data))
        elif isinstance(body, bytes):
            self.transport.writelines((b"%b%d\r\n\r\n" % (head, size), body))
        else:
            self.transport.writelines((b"%b%d\r\n\r\n" % (head, size), *body))

    def send_raw(self, data: Iterable[bytes | memoryview]) -> None:
        """Send the first bytes of a request just as they are."""
        self.busy = True
        self.status = 0
        self._in_answer = False
        self.transport.writelines(data)

    async def send_more(self, data: Iterable[bytes | memoryview]) -> None:
        """Send further bytes of the request; returns when there is room for more."""
        self.transport.writelines(data)
        if self._writable is not None:
            await self._writable

    # -- the answer

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers of the answer, names as sent; valid until the next exchange begins."""
        return self._headers

    def header(self, name: bytes) -> bytes | None:
        """Return the first value of a header of the answer, by its lower-case name."""
        return next((value for key, value in self._headers if key.lower() == name), None)

    def take_body(self) -> bytes | list[bytes]:
        """Return the body of the answer that is complete: bytes, or its pieces if it came in several."""
        pieces = self._pieces
        if not pieces:
            return b""
        self._pieces = []
        return pieces[0] if len(pieces) == 1 else pieces

    def abort(self) -> None:
        """Close at once, telling nobody."""
        self._closing = True
        self.busy = False
        self.on_answer = self.on_lost = _never
        self.on_piece = None
        self._pieces = []
        if self.transport is not None:
            self.transport.abort()

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        if not self.busy:
            self._fail("the server sent data that nobody asked for")
            return
        try:
            self._feed(data)
        except httptools.HttpParserError as exc:
            if not self._complete:
                self._fail(f"the answer is no HTTP/1.1: {exc}")
                return
            self.keep_alive = False  # something follows the answer: take the answer, drop the rest and the connection
        if self._complete:
            self._finish()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        if self._closing:
            return
        if self.busy and exc is None and self.status and not self._framed:
            # RFC 9112 6.3: without Content-Length or chunked coding the body ends with the connection.
            self.keep_alive = False
            self._finish()
            return
        self._fail(str(exc) if exc else "the server closed the connection")

    def pause_writing(self) -> None:
        self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    def _finish(self) -> None:
        self._complete = False
        self.busy = False
        self.served += 1
        self.on_answer(self)

    def _fail(self, message: str) -> None:
        stale = self.busy and self.served > 0 and not self._in_answer
        self.error = ConnectionFailed(message, stale=stale)
        self._closing = True
        self.busy = False
        self._pieces = []
        self.transport.abort()
        self.on_lost(self)

    # -- httptools callbacks

    def on_message_begin(self) -> None:
        if self._complete:
            raise _SecondAnswer  # the parser stops here and raises HttpParserError: not one byte of it is taken
        self._in_answer = True
        self._framed = False
        if self._headers:
            self._headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))
        if len(name) in (14, 17) and name.lower() in (b"content-length", b"transfer-encoding"):
            self._framed = True

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self.keep_alive = self._parser.should_keep_alive()
        if self.on_piece is not None and self.status >= 200:
            self.on_piece(b"")  # whoever waits for the head need not wait for the body's first bytes

    def on_body(self, body: bytes) -> None:
        if self.on_piece is not None:
            self.on_piece(body)
        else:
            self._pieces.append(body)

    def on_message_complete(self) -> None:
        if self.status < 200:  # 100 Continue and its like: the answer itself is still to come
            self.status = 0
            return
        self._complete = True


async def open_connection(address: Address) -> Connection:
    """Connect to an address.

    Raises:
        ConnectionFailed: Nobody listens there; the message names the address.
    """
    loop = asyncio.get_running_loop()
    try:
        if address.handed is not None:
            _, connection = await loop.create_connection(Connection, sock=await receive_socket(address.handed))
        elif address.path is not None:
            _, connection = await loop.create_unix_connection(Connection, address.path)
        else:
            _, connection = await loop.create_connection(Connection, address.host, address.port)
    except OSError as exc:
        # Its owner reads it, and knows the container's port but not our folders.
        place = "port 8080 of the container" if address.handed is not None else address
        raise ConnectionFailed(f"cannot connect to {place}: {exc}", absent=True) from exc
    return connection


def request_head(method: str, path: str, address: Address, headers: Headers = ()) -> bytes:
    """Return the head of a request up to and with its last header line; framing headers are the caller's.

    Raises:
        ValueError: A header would break out of its line.
    """
    if address.handed is not None:
        host = SERVING_HOST
    else:
        host = "localhost" if address.path is not None else str(address)
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "User-Agent: millrace"]
    for name, value in headers:
        if _CONTROL.search(value):
            raise ValueError(f"header {name} must not contain control characters, got {value!r}")
        lines.append(f"{name}: {value}")
    return ("\r\n".join(lines) + "\r\n").encode()


async def send_chunked(connection: Connection, head: bytes, chunks: AsyncIterator[bytes]) -> None:
    """Send a request with a chunked body as it is read; stops early if the answer is complete before the body."""
    connection.send_raw([head, b"Transfer-Encoding: chunked\r\n\r\n"])
    async for chunk in chunks:
        if not connection.busy:
            connection.keep_alive = False  # the rest of the body was never sent: nothing can follow on this connection
            return
        if chunk:
            await connection.send_more((b"%x\r\n" % len(chunk), chunk, b"\r\n"))
    if connection.busy:
        await connection.send_more((b"0\r\n\r\n",))


class StreamedAnswer:
    """An answer whose body is read as it arrives; header names are lower-case."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._pieces: list[bytes] = []
        self._waiting = 0
        self._paused = False
        self._ended = False
        self._error: Exception | None = None
        self._sending: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        connection.status = 0
        connection.on_piece = self._arrived
        connection.on_answer = self._completed
        connection.on_lost = self._lost

    @property
    def status(self) -> int:
        return self._connection.status

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        return _decoded(self._connection.headers)

    @property
    def raw_headers(self) -> list[tuple[bytes, bytes]]:
        """The headers as the container sent them."""
        return self._connection.headers

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._read()

    def send_meanwhile(self, head: bytes, chunks: AsyncIterator[bytes]) -> None:
        """Send the request's body beside: a server may answer while it still reads, and stop reading to do so."""
        self._sending = asyncio.create_task(send_chunked(self._connection, head, chunks))
        self._sending.add_done_callback(self._sent)

    def _sent(self, sending: asyncio.Task[None]) -> None:
        if not sending.cancelled() and (error := sending.exception()) is not None:
            self._error = error if isinstance(error, Exception) else ConnectionFailed(repr(error))
            self._changed.set()

    async def finish_sending(self) -> bool:
        """Stop sending; return whether the whole request went out."""
        if self._sending is None:
            return True
        whole = self._sending.done()
        self._sending.cancel()
        await asyncio.wait([self._sending])
        return whole and not self._sending.cancelled() and self._sending.exception() is None

    async def started(self) -> None:
        """Wait for the status and the headers; raises ConnectionFailed, or what the request's body raised."""
        while not self._connection.status and self._error is None:
            self._changed.clear()
            await self._changed.wait()
        if self._error is not None and not self._connection.status:
            raise self._error

    def fail(self, error: ClientError) -> None:
        """End the reading of the body with an error, unless all of it is there."""
        if not self._ended and self._error is None:
            self._error = error
            self._changed.set()

    @property
    def complete(self) -> bool:
        """Whether the whole body has arrived."""
        return self._ended

    async def _read(self) -> AsyncIterator[bytes]:
        while True:
            while self._pieces:
                pieces, self._pieces, self._waiting = self._pieces, [], 0
                if self._paused:
                    self._paused = False
                    self._connection.transport.resume_reading()
                for piece in pieces:
                    yield piece
            if self._error is not None:
                raise self._error
            if self._ended:
                return
            self._changed.clear()
            await self._changed.wait()

    def _arrived(self, piece: bytes) -> None:
        if piece:
            self._pieces.append(piece)
            self._waiting += len(piece)
        if self._waiting >= STREAM_HIGH_WATER and not self._paused:
            self._paused = True
            self._connection.transport.pause_reading()
        self._changed.set()

    def _completed(self, _: Connection) -> None:
        self._ended = True
        self._changed.set()

    def _lost(self, connection: Connection) -> None:
        self._error = connection.error
        self._changed.set()


class OpenAnswer:
    """A streamed answer together with its connection: close it, read or not."""

    def __init__(
        self,
        answer: StreamedAnswer,
        connection: Connection,
        end: Callable[[Connection, bool], None],
        timeout_seconds: float,
    ) -> None:
        self._answer = answer
        self._connection = connection
        self._end: Callable[[Connection, bool], None] | None = end
        self.status = answer.status
        self.headers = answer.headers
        self._timer = asyncio.get_running_loop().call_later(
            timeout_seconds, answer.fail, InvocationTimeout(timeout_seconds)
        )

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives: each chunk that the container sent in a piece of its own if it came alone."""
        return aiter(self._answer)

    def close(self) -> None:
        """Keep the connection if the answer is complete, else drop it; once."""
        if self._end is not None:
            end, self._end = self._end, None
            self._timer.cancel()
            end(self._connection, self._answer.complete)


class _WholeAnswer:
    """An answer that is wanted whole: one future for the exchange, where a streamed one costs a dozen objects."""

    __slots__ = ("_connection", "_limit", "_pieces", "_size", "done")

    def __init__(self, connection: Connection, limit: int | None) -> None:
        self.done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._connection = connection
        self._limit = limit
        self._pieces: list[bytes] = []
        self._size = 0
        connection.on_piece = self._arrived
        connection.on_answer = self._completed
        connection.on_lost = self._lost

    def expire(self, seconds: float) -> None:
        """Give up: the time allowed is over."""
        self._fail(InvocationTimeout(seconds))

    def _arrived(self, piece: bytes) -> None:
        limit = self._limit
        if not piece:  # the head is complete
            if limit is not None and (length := _declared_length(self._connection.headers)) > limit:
                self._fail(AnswerTooLarge(limit, status=self._connection.status, size=length))
            return
        if self.done.done():
            return
        self._pieces.append(piece)
        self._size += len(piece)
        if limit is not None and self._size > limit:
            self._fail(AnswerTooLarge(limit, status=self._connection.status))

    def _completed(self, _: Connection) -> None:
        if not self.done.done():
            pieces = self._pieces
            self.done.set_result(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def _lost(self, connection: Connection) -> None:
        self._fail(connection.error or ConnectionFailed("the connection was lost"))

    def _fail(self, error: ClientError) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class Client:
    """Keep-alive connections to one address, for calls one at a time or many at once.

    `max_connections` bounds the connections open at a time; further calls wait. `max_idle` of them are kept for reuse.
    Close it, or use it as an async context manager.
    """

    def __init__(self, address: Address, *, max_connections: int = 256, max_idle: int = 64) -> None:
        self.address = address
        self._slots = asyncio.Semaphore(max_connections)
        self._max_idle = max_idle
        self._idle: list[Connection] = []

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
        await asyncio.sleep(0)  # the loop closes sockets one turn later

    def close(self) -> None:
        """Close the idle connections."""
        for connection in self._idle:
            connection.abort()
        self._idle.clear()

    async def invoke(
        self,
        method: str,
        path: str,
        headers: Headers = (),
        body: Body = b"",
        *,
        timeout_seconds: float | None = None,
        max_answer_bytes: int | None = None,
    ) -> Answer:
        """Send a request and return the whole answer, whatever its status.

        Of an answer no more than `max_answer_bytes` and what the socket had ready are held; None is no limit.

        Raises:
            AnswerTooLarge: The answer's body is longer than `max_answer_bytes`; the rest of it is not read.
            ConnectionFailed: No connection, or it ended before the answer was complete.
            InvocationTimeout: No complete answer within `timeout_seconds`.
        """
        resent = False
        if self._idle and not self._slots.locked() and not isinstance(body, AsyncIterator):
            try:
                return await self._exchange(
                    request_head(method, path, self.address, headers), body, timeout_seconds, max_answer_bytes
                )
            except ConnectionFailed as exc:
                if not exc.stale:
                    raise
                resent = True
        async with self._stream(method, path, headers, body, timeout_seconds, resent) as answer:
            pieces = await _read_all(answer, max_answer_bytes)
            return Answer(answer.status, answer.headers, b"".join(pieces))

    async def _exchange(self, head: bytes, body: Buffers, timeout_seconds: float | None, limit: int | None) -> Answer:
        """Send a request on an idle connection: nothing is waited for but the answer."""
        await self._slots.acquire()  # it is free: this does not wait
        connection = self._idle.pop()
        whole = _WholeAnswer(connection, limit)
        timer = None
        if timeout_seconds is not None:
            timer = asyncio.get_running_loop().call_later(timeout_seconds, whole.expire, timeout_seconds)
        complete = False
        try:
            size = len(body) if isinstance(body, bytes) else sum(len(part) for part in body)
            connection.send(head + b"Content-Length: ", body, size)
            content = await whole.done
            complete = True
            return Answer(connection.status, _decoded(connection.headers), content)
        finally:
            if timer is not None:
                timer.cancel()
            self._release(connection, complete)
            self._slots.release()

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, headers: Headers = (), body: Body = b"", *, timeout_seconds: float | None = None
    ) -> AsyncIterator[StreamedAnswer]:
        """Send a request; the answer's status and headers are there on entry, its body is read by iterating.

        Leaving early drops the connection. The timeout covers everything until the block is left. Raises as `invoke`.
        """
        async with self._stream(method, path, headers, body, timeout_seconds, False) as answer:
            yield answer

    @asynccontextmanager
    async def _stream(
        self, method: str, path: str, headers: Headers, body: Body, timeout_seconds: float | None, resent: bool
    ) -> AsyncIterator[StreamedAnswer]:
        deadline = asyncio.timeout(timeout_seconds)
        try:
            async with deadline, self._slots:
                head = request_head(method, path, self.address, headers)
                answer, connection = await self._start(head, body, resent)
                try:
                    yield answer
                finally:
                    whole = await answer.finish_sending()
                    self._release(connection, whole and answer.complete)
        except TimeoutError as exc:
            if not deadline.expired():
                raise
            raise InvocationTimeout(timeout_seconds or 0.0) from exc

    async def open(
        self,
        method: str,
        path: str,
        headers: Headers = (),
        body: Buffers = b"",
        *,
        head_timeout_seconds: float,
        timeout_seconds: float,
    ) -> "OpenAnswer":
        """Send a request and return its answer once status and headers are there; whoever gets it closes it.

        For an answer that outlives the function that asked for it. Reading it raises InvocationTimeout when
        `timeout_seconds` are over since the answer began, however slow the reader is. Raises as `invoke`.
        """
        deadline = asyncio.timeout(head_timeout_seconds)
        try:
            async with deadline:
                await self._slots.acquire()
                try:
                    started = await self._start(request_head(method, path, self.address, headers), body)
                except BaseException:
                    self._slots.release()
                    raise
        except TimeoutError as exc:
            if not deadline.expired():
                raise
            raise InvocationTimeout(head_timeout_seconds) from exc
        return OpenAnswer(*started, self._end, timeout_seconds)

    def _end(self, connection: Connection, complete: bool) -> None:
        self._release(connection, complete)
        self._slots.release()

    async def _start(self, head: bytes, body: Body, resent: bool = False) -> tuple[StreamedAnswer, Connection]:
        """Send a request; again if a kept connection was lost before one byte of the answer came.

        `resent` tells that this has happened once already. If nobody listens any more after that, the request may have
        been what the server died of: the failure is not one of absence, after which another server would be asked.
        """
        while True:
            try:
                connection = self._idle.pop() if self._idle else await open_connection(self.address)
            except ConnectionFailed as exc:
                if resent and exc.absent:
                    raise ConnectionFailed(f"the connection was lost before an answer came; then {exc}") from exc
                raise
            answer = StreamedAnswer(connection)
            try:
                if isinstance(body, AsyncIterator):
                    answer.send_meanwhile(head, body)
                else:
                    size = len(body) if isinstance(body, bytes) else sum(len(part) for part in body)
                    connection.send(head + b"Content-Length: ", body, size)
                await answer.started()
            except ConnectionFailed as exc:
                if not exc.stale or isinstance(body, AsyncIterator):
                    await answer.finish_sending()
                    raise
                resent = True
            except BaseException:
                await answer.finish_sending()
                connection.abort()
                raise
            else:
                return answer, connection

    def _release(self, connection: Connection, complete: bool) -> None:
        reusable = complete and connection.keep_alive and len(self._idle) < self._max_idle
        connection.on_answer = _never
        connection.on_piece = None
        if not reusable or connection.transport.is_closing():
            connection.abort()
            return
        connection.on_lost = self._forget
        self._idle.append(connection)

    def _forget(self, connection: Connection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)


async def _read_all(answer: StreamedAnswer, limit: int | None) -> list[bytes]:
    """Return the pieces of an answer's body; raises AnswerTooLarge before the first if its length is declared."""
    if limit is None:
        return [piece async for piece in answer]
    if (length := _declared_length(answer.raw_headers)) > limit:
        raise AnswerTooLarge(limit, status=answer.status, size=length)
    pieces = []
    size = 0
    async for piece in answer:
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            raise AnswerTooLarge(limit, status=answer.status)
    return pieces


def _declared_length(headers: list[tuple[bytes, bytes]]) -> int:
    """Return the value of Content-Length, 0 without one; the parser has refused what is no number of 64 bits."""
    for name, value in headers:
        if len(name) == 14 and name.lower() == b"content-length":
            return int(value)
    return 0


def _decoded(headers: list[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    return tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers)
