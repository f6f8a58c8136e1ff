"""Read the requests of one client, and write their answers in order."""

import selectors
import socket
from collections import deque
from dataclasses import dataclass, field

import httptools

from millrace_algorithms.serving.invocation import Answer
from millrace_algorithms.serving.limits import Limits
from millrace_algorithms.serving.response import head_of

__all__ = ["Connection", "Request"]


@dataclass(kw_only=True, slots=True)
class Request:
    """A request as it is read."""

    method: str = ""
    target: bytes = b""
    headers: dict[bytes, bytes] = field(default_factory=dict)
    pieces: list[bytes] = field(default_factory=list)
    body_bytes: int = 0
    keep_alive: bool = True
    length: int = 0
    """Of the body, where the head tells it."""
    complete: bool = False
    """Whether all of it has been read."""
    refusal: int | None = None
    """Status with which to refuse it without evaluation."""

    @property
    def path(self) -> bytes:
        return self.target.partition(b"?")[0]

    def header(self, name: bytes) -> str | None:
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")


class Connection:
    """Reads requests of one client and writes their answers in order."""

    def __init__(self, sock: socket.socket, limits: Limits) -> None:
        self._limits = limits
        self.sock = sock
        self._parser = httptools.HttpRequestParser(self)
        self._request = Request()
        self._header_bytes = 0
        self.requests: deque[Request] = deque()
        self.outgoing: deque[memoryview] = deque()
        self.busy = False
        """A worker evaluates a request of this connection."""
        self.receiving = False
        """A request has begun to arrive and has not ended."""
        self.handed_over = False
        """A worker reads the rest of the request that is arriving, or will as soon as one is idle."""
        self.reading = True
        """Whether further requests are read."""
        self.lingering = False
        """What the client still sends is thrown away until it closes, so that it gets to read the last answer."""
        self.closed = False

    # Callbacks of the parser

    def on_message_begin(self) -> None:
        self._request = Request()
        self._header_bytes = 0
        self.receiving = True

    def on_url(self, url: bytes) -> None:
        self._request.target += url
        self._count_header(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._request.headers[name.lower()] = value
        self._count_header(len(name) + len(value))

    def _count_header(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > self._limits.header_bytes:
            self._request.refusal = 431

    def on_headers_complete(self) -> None:
        request = self._request
        request.method = self._parser.get_method().decode("ascii")
        request.keep_alive = self._parser.should_keep_alive()
        if self._parser.should_upgrade():  # a server may ignore the wish, but the parser hands over no body then
            request.keep_alive = False
            request.refusal = 501 if request.method == "POST" else request.refusal
        length = request.headers.get(b"content-length", b"0")
        request.length = int(length) if length.isdigit() else 0
        if request.length > self._limits.body_bytes:
            request.refusal = 413
        elif request.refusal is None and request.headers.get(b"expect", b"").lower() == b"100-continue":
            self._queue_bytes(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        request = self._request
        request.body_bytes += len(body)
        if request.body_bytes > self._limits.body_bytes:
            request.refusal = 413
            request.pieces.clear()
        elif request.refusal is None:
            request.pieces.append(body)

    def on_message_complete(self) -> None:
        self._request.complete = True
        self.requests.append(self._request)
        self._request = Request()
        self.receiving = False

    # What the server asks of it

    def receive(self) -> None:
        """Read what has arrived and queue complete requests."""
        try:
            received = self.sock.recv(self._limits.receive_bytes)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.closed = True
            return
        if not received:
            self.reading = self.lingering = False
        if not self.reading:
            return
        try:
            self._parser.feed_data(received)
        except httptools.HttpParserUpgrade:  # the parser goes no further, so neither does the connection
            self.reading, self.lingering = False, True
        except httptools.HttpParserError:
            self._refuse(self._request.refusal or 400)
        if self._request.refusal is not None:  # its body will not be waited for
            self._refuse(self._request.refusal)

    def _refuse(self, status: int) -> None:
        self.reading, self.lingering = False, True
        self.requests.append(Request(refusal=status, keep_alive=False))

    def arriving(self) -> Request | None:
        """Return the request whose large body is arriving, if it is the next to be answered and its client is local."""
        request = self._request
        ready = self.receiving and self.reading and not (self.requests or self.busy or self.outgoing)
        if not ready or self.sock.family != socket.AF_UNIX:
            return None
        # Only of such a body it is known where it ends, and by its first bytes that the head is complete.
        return request if request.body_bytes and request.length > self._limits.inline_bytes else None

    def was_answered(self, request: Request, rest: bytes) -> None:
        """Go on after a worker has read a request and answered it, but for the rest of the answer."""
        self.receiving = self.handed_over = False
        self._request = Request()
        self._parser = httptools.HttpRequestParser(self)
        if rest:
            self._queue_bytes(rest)
        if not request.keep_alive:
            self._end()

    def fail(self, request: Request, answer: Answer) -> None:
        """Queue an answer to a request whose body may not have been read; it is the last one."""
        request.keep_alive = False
        self.receiving = self.handed_over = False
        self.lingering = True
        self.answer(request, answer)

    def answer(self, request: Request, answer: Answer) -> None:
        """Queue an answer."""
        if not request.keep_alive:
            self._end()
        self._queue_bytes(head_of(answer, keep_alive=request.keep_alive))
        if answer.body and request.method != "HEAD":
            self._queue_bytes(answer.body)

    def _end(self) -> None:
        self.reading = False
        self.requests.clear()

    def _queue_bytes(self, content: bytes) -> None:
        self.outgoing.append(memoryview(content))

    def flush(self) -> None:
        """Write as much as the socket takes."""
        try:
            while self.outgoing:
                sent = self.sock.sendmsg([*self.outgoing][:16])
                while self.outgoing and sent >= len(self.outgoing[0]):
                    sent -= len(self.outgoing.popleft())
                if sent:
                    self.outgoing[0] = self.outgoing[0][sent:]
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.closed = True

    def end_answers(self) -> None:
        """Tell the client that nothing more comes; what it still sends is read and thrown away until it closes too."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.closed = True

    def events(self) -> int:
        """Return the selector events to wait for."""
        wanted = selectors.EVENT_WRITE if self.outgoing else 0
        if self.handed_over:
            return wanted
        if self.lingering or (self.reading and len(self.requests) < self._limits.pipelined_requests):
            wanted |= selectors.EVENT_READ
        return wanted

    def finished(self) -> bool:
        """Return whether nothing is left to do."""
        return self.closed or not (self.reading or self.lingering or self.requests or self.busy or self.outgoing)
