"""Speak HTTP/1.1 over one keep-alive connection to a container.

A connection carries one exchange at a time; requests are never pipelined, for many model servers cannot take it. It
gives one plain callback per answer: no future, no task, no timer per request.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import httptools

from millrace.dataplane.answer_text import AnswerBody
from millrace.dataplane.client_errors import ClientError, ConnectionFailed
from millrace.dataplane.container_socket import has_taken_nothing, set_up
from millrace.dataplane.known_heads import known_heads, remember_head
from millrace.dataplane.long_body import BufferPool, LongBody, LongBodyReceiver

__all__ = ["Buffers", "Connection", "no_listener"]

Buffers = bytes | Sequence[bytes | memoryview]
"""A body in memory: one bytes object, or several buffers that are sent one after the other without being joined."""

JOIN_BELOW = 64 * 1024
"""Bodies of at most this many bytes are copied behind their head: one buffer is cheaper to write than two."""

HEAD_BYTES = 256 * 1024
"""Longest head of an answer (status line, headers, and 1xx answers before it); servers send a few hundred bytes."""

ERROR_KEPT_BYTES = 8 * 1024
"""Of the body of an answer that is no success as much is kept, if it comes in several pieces."""

ERROR_READ_BYTES = 1024 * 1024
"""Of such an answer as much is read to use the connection again; behind that the connection is dropped."""

SMALL_PIECE_BYTES = 4096
"""Smaller pieces of a body are joined as they come: each costs some fifty bytes more than it holds."""

LONG_BODY_BYTES = 64 * 1024
"""From as many bytes on that are still to come, a body of stated length is received into memory that is used again."""


class _SecondAnswer(Exception):
    """Another answer follows in the same segment, though one request was sent."""


def no_listener(_: "Connection") -> None:
    """Stand in for a listener while no exchange is under way."""


class Connection(LongBodyReceiver):
    """One keep-alive connection, one exchange at a time.

    `on_answer` is called once the answer is complete, `on_lost` if the connection ends before that or while idle
    (`error` then says how). Both run on the event loop and may start the next exchange at once. Callers may hang facts
    about the exchange under way on `lane`, `payload` and `started`.

    `body` is the answer's, for as long as `on_answer` takes: bytes, its pieces if it came in several, or with `pool` a
    view on a buffer of that, to be given back.

    An answer that came whole in one segment costs nothing more. Of one that did not, `received` is how many bytes came
    before the segment that completed it, `body_size` how many of those were body, and `on_growth` is called with each
    such segment's length: it may pause the transport, or `give_up`. Without it, and without `on_piece`, a body is held
    however long it is.
    """

    __slots__ = (
        "_acknowledge_now",
        "_closing",
        "_complete",
        "_feed",
        "_framed",
        "_gathered",
        "_headers",
        "_in_answer",
        "_parser",
        "_pieces",
        "_usual_head",
        "_usual_headers",
        "_usual_size",
        "_writable",
        "_write",
        "body",
        "body_size",
        "busy",
        "error",
        "keep_alive",
        "lane",
        "on_answer",
        "on_growth",
        "on_lost",
        "on_piece",
        "payload",
        "pool",
        "received",
        "served",
        "started",
        "status",
        "transport",
    )

    def __init__(self) -> None:
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.on_answer: Callable[[Connection], None] = no_listener
        self.on_lost: Callable[[Connection], None] = no_listener
        self.on_growth: Callable[[Connection, int], None] | None = None
        self.on_piece: Callable[[bytes], None] | None = None
        self.pool: BufferPool | None = None
        self.body: AnswerBody = b""
        self.received = 0
        self.body_size = 0
        self.lane: Any = None
        self.payload: Any = None
        self.started = 0.0
        self.status = 0
        self.served = 0
        self.busy = False
        self.keep_alive = False
        self.error: ClientError | None = None
        self._writable: asyncio.Future[None] | None = None
        self._acknowledge_now: Callable[[], None] | None = None
        self._closing = False
        self._complete = False
        self._in_answer = False
        self._framed = False
        self._gathered = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._pieces: list[bytes] = []
        self._usual_head = b""
        self._usual_size = -1
        self._usual_headers: list[tuple[bytes, bytes]] = []
        self._write: Callable[[bytes], None] = cast("Callable[[bytes], None]", None)
        self._new_parser()

    def _new_parser(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._feed: Callable[[bytes], None] = self._parser.feed_data

    # -- sending

    def send(self, head: bytes, body: Buffers, size: int) -> None:
        """Send a request whose head ends before the value of Content-Length, and its body of `size` bytes."""
        self.busy = True
        self.status = self.received = 0
        if size <= JOIN_BELOW:
            data = body if isinstance(body, bytes) else b"".join(body)
            self._write(b"%b%d\r\n\r\n%b" % (head, size, data))
        elif isinstance(body, bytes):
            self.transport.writelines((b"%b%d\r\n\r\n" % (head, size), body))
        else:
            self.transport.writelines((b"%b%d\r\n\r\n" % (head, size), *body))

    def send_raw(self, data: Iterable[bytes | memoryview]) -> None:
        """Send the first bytes of a request just as they are."""
        self.busy = True
        self.status = self.received = 0
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

    def declared_length(self) -> int:
        """Return the value of Content-Length, 0 without one; the parser has refused what is no number of 64 bits."""
        return int(self.header(b"content-length") or 0)

    def give_up(self, error: ClientError) -> None:
        """Drop an answer that is not complete: `on_lost` is called, and finds the error."""
        self._lose(error)

    def abort(self) -> None:
        """Close at once, telling nobody."""
        self._closing = True
        self.busy = False
        self.on_answer = self.on_lost = no_listener
        self.on_piece = None
        self._pieces = []
        self.body = b""
        if self.transport is not None:
            self.transport.abort()

    def is_untaken(self) -> bool:
        """Return whether nothing of the first request has come to the server, nor will for long.

        A server that has no room in its queue of connections drops the last segment of the handshake. This end takes
        the connection for established then, and sends again and again, ever more rarely, for minutes. What the other
        end has taken it has acknowledged: on one machine nothing of that gets lost.
        """
        sock = self.transport.get_extra_info("socket") if self.transport is not None else None
        return not self.served and sock is not None and has_taken_nothing(sock)

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._write = self.transport.write
        self._acknowledge_now = set_up(transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        if not self.busy:
            self._fail("the server sent data that nobody asked for")
            return
        if not self._in_answer and self.on_piece is None:
            # Most answers begin as the one before did, and are as long; others begin as one did that is remembered.
            usual = len(data) == self._usual_size and data.startswith(self._usual_head)
            if usual or self._is_usual_now(data):
                self.status = 200
                self._headers = self._usual_headers
                self.keep_alive = True
                self.body = data[len(self._usual_head) :]
                self.busy = False
                self.served += 1
                self.on_answer(self)
                self.body = b""
                return
        try:
            self._feed(data)
        except httptools.HttpParserError as exc:
            if not self._complete:
                self._fail(f"the answer is no HTTP/1.1: {exc}")
                return
            self.keep_alive = False  # something follows the answer: take the answer, drop the rest and the connection
        if self._complete:
            if not self.received and self.keep_alive and self.status == 200:
                remember_head(data, self._headers, sum(map(len, self._pieces)))
            self._finish()
        elif self.busy:
            self._wait_for_more(len(data))

    def _is_usual_now(self, data: bytes) -> bool:
        """Return whether a segment is a whole answer with a head that is remembered, which then is the usual one."""
        head = data[: data.find(b"\r\n\r\n") + 4]
        known = known_heads.get(head)
        if known is None or len(data) - len(head) != known[0]:
            return False
        self._usual_head, self._usual_size, self._usual_headers = head, len(data), known[1]
        return True

    def _wait_for_more(self, size: int) -> None:
        """Bound what is held of an answer of which `size` more bytes came that did not complete it."""
        if not self.received:
            if self._acknowledge_now is not None:
                self._acknowledge_now()
            self.body_size = self._gathered = 0
        self.received += size
        if not self.status:
            if self.received > HEAD_BYTES:
                self._fail(f"the head of an answer must have at most {HEAD_BYTES} bytes, got more")
        elif self.on_piece is not None:
            return
        elif self.status >= 300:
            self._pieces = [b"".join(self._pieces)[:ERROR_KEPT_BYTES]]
            if self.received > ERROR_READ_BYTES:
                self.keep_alive = False
                self._finish()
        else:
            self._gather()
            if self.on_growth is not None:
                self.on_growth(self, size)
            if self.pool is not None and self.busy:
                self._receive_long(self.pool)

    def _receive_long(self, pool: BufferPool) -> None:
        """Have the rest of the body received into a buffer of the pool, if its length is stated and worth it.

        While the pool has none, it goes on to come in pieces; each is as good an occasion as the first.
        """
        length = self.declared_length()
        if length - self.body_size < LONG_BODY_BYTES or (view := pool.take(length)) is None:
            return
        pieces, self._pieces = self._pieces, []
        LongBody(self, self.transport, view, pieces)

    def long_body_grew(self, size: int) -> None:
        """Take note that a body that is received into a buffer grew without being complete."""
        self.received += size
        self.body_size += size
        if self.on_growth is not None:
            self.on_growth(self, size)

    def long_body_complete(self, body: memoryview) -> None:
        """Take a body that was received into a buffer; the parser waits in the midst of it, and is replaced."""
        self._new_parser()
        self.body = body
        self._end_exchange()

    def _gather(self) -> None:
        """Join what the segment brought of the body to one piece, and to the piece before if that is small."""
        pieces, start = self._pieces, self._gathered
        if start == len(pieces):
            return
        if start and len(pieces[start - 1]) < SMALL_PIECE_BYTES:
            start -= 1
            self.body_size -= len(pieces[start])
        if len(pieces) - start > 1:
            pieces[start:] = [b"".join(pieces[start:])]
        self.body_size += len(pieces[start])
        self._gathered = start + 1

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
        pieces = self._pieces
        if pieces:
            self._pieces = []
            self.body = pieces[0] if len(pieces) == 1 else pieces
        else:
            self.body = b""
        self._end_exchange()

    def _end_exchange(self) -> None:
        """Tell of the answer; whoever is told may begin the next exchange."""
        self.busy = self._in_answer = self._complete = False
        self.served += 1
        self.on_answer(self)
        self.body = b""  # else it would be held until the next answer, by as many connections as there are

    def _fail(self, message: str) -> None:
        stale = self.busy and self.served > 0 and not self._in_answer
        self._lose(ConnectionFailed(message, stale=stale))

    def _lose(self, error: ClientError) -> None:
        self.error = error
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
        if self.status:
            return  # RFC 9110 6.5.1: "a recipient MAY merge or discard" trailer fields; they may have no end
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
