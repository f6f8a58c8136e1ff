"""A small HTTP/1.1 server: one selector loop for sockets, forked workers for large payloads.

No asyncio: its import alone costs 40 ms of a start-up that a one-row job waits for, and the life of a request here
(read, evaluate, write, in order on each connection) needs no tasks.
"""

import os
import selectors
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

import httptools

from millrace_algorithms.serving.invocation import Answer, Invocation
from millrace_algorithms.serving.workers import Worker, WorkerDied

__all__ = ["Address", "HttpServer", "Limits"]

_REASONS = {status.value: status.phrase for status in HTTPStatus}


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """The bounds on what the server holds and waits for."""

    body_bytes: int = 100 * 1024 * 1024
    """Largest request body; a larger one gets 413."""
    header_bytes: int = 64 * 1024
    """Largest request line with headers; a larger one gets 431."""
    inline_bytes: int = 64 * 1024
    """Larger bodies are evaluated by a worker; handing over costs more than it gains for smaller ones."""
    inline_seconds: float = 0.005
    """Once one inline evaluation took longer, all are given to workers, so that the server stays responsive."""
    pipelined_requests: int = 16
    """Requests read ahead on one connection before it is left to wait."""
    receive_bytes: int = 256 * 1024
    """Read from a socket at once."""
    drain_seconds: float = 25.0
    """How long requests in flight may take after SIGTERM; SIGKILL follows it after 30."""
    backlog: int = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """Where to listen: a Unix socket if there is a path, else host and port."""

    host: str = "0.0.0.0"
    port: int = 8080
    path: str | None = None

    def listen(self, backlog: int) -> socket.socket:
        """Return a listening socket that does not block."""
        if self.path is not None:
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            Path(self.path).unlink(missing_ok=True)  # left by a server that was killed
            listener.bind(self.path)
        else:
            listener = socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self.host, self.port))
        listener.listen(backlog)
        listener.setblocking(False)
        return listener


@dataclass(kw_only=True, slots=True)
class _Request:
    """A request as it is read."""

    method: str = ""
    target: bytes = b""
    headers: dict[bytes, bytes] = field(default_factory=dict)
    pieces: list[bytes] = field(default_factory=list)
    body_bytes: int = 0
    keep_alive: bool = True
    refusal: int | None = None
    """Status with which to refuse it without evaluation."""

    def header(self, name: bytes) -> str | None:
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")


class _Connection:
    """Reads requests of one client and writes their answers in order."""

    def __init__(self, server: "HttpServer", sock: socket.socket) -> None:
        self._server = server
        self.sock = sock
        self._parser = httptools.HttpRequestParser(self)
        self._request = _Request()
        self._header_bytes = 0
        self.requests: deque[_Request] = deque()
        self.outgoing: deque[memoryview] = deque()
        self.busy = False
        """A worker evaluates a request of this connection."""
        self.receiving = False
        """A request has begun to arrive and has not ended."""
        self.reading = True
        """Whether further requests are read."""
        self.lingering = False
        """What the client still sends is thrown away until it closes, so that it gets to read the last answer."""
        self.closed = False

    # Callbacks of the parser

    def on_message_begin(self) -> None:
        self._request = _Request()
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
        if self._header_bytes > self._server.limits.header_bytes:
            self._request.refusal = 431

    def on_headers_complete(self) -> None:
        request = self._request
        request.method = self._parser.get_method().decode("ascii")
        request.keep_alive = self._parser.should_keep_alive()
        if self._parser.should_upgrade():  # a server may ignore the wish, but the parser hands over no body then
            request.keep_alive = False
            request.refusal = 501 if request.method == "POST" else request.refusal
        length = request.headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._server.limits.body_bytes:
            request.refusal = 413
        elif request.refusal is None and request.headers.get(b"expect", b"").lower() == b"100-continue":
            self._queue_bytes(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        request = self._request
        request.body_bytes += len(body)
        if request.body_bytes > self._server.limits.body_bytes:
            request.refusal = 413
            request.pieces.clear()
        elif request.refusal is None:
            request.pieces.append(body)

    def on_message_complete(self) -> None:
        self.requests.append(self._request)
        self._request = _Request()
        self.receiving = False

    # What the server asks of it

    def receive(self) -> None:
        """Read what has arrived and queue complete requests."""
        try:
            received = self.sock.recv(self._server.limits.receive_bytes)
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
        self.requests.append(_Request(refusal=status, keep_alive=False))

    def answer(self, request: _Request, answer: Answer) -> None:
        """Queue an answer."""
        head = (
            f"HTTP/1.1 {answer.status} {_REASONS.get(answer.status, '')}\r\n"
            f"Content-Type: {answer.content_type}\r\nContent-Length: {len(answer.body)}\r\n"
        )
        if not request.keep_alive:
            head += "Connection: close\r\n"
            self.reading = False
            self.requests.clear()
        self._queue_bytes(f"{head}\r\n".encode("latin-1"))
        if answer.body and request.method != "HEAD":
            self._queue_bytes(answer.body)

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
        if self.lingering or (self.reading and len(self.requests) < self._server.limits.pipelined_requests):
            wanted |= selectors.EVENT_READ
        return wanted

    def finished(self) -> bool:
        """Return whether nothing is left to do."""
        return self.closed or not (self.reading or self.lingering or self.requests or self.busy or self.outgoing)


class HttpServer:
    """Serves `invoke` until asked to stop."""

    def __init__(
        self,
        listener: socket.socket,
        invoke: Callable[[Invocation], Answer],
        *,
        workers: Sequence[Worker] = (),
        parameters: Answer,
        limits: Limits,
    ) -> None:
        """Take over a listening socket.

        Args:
            listener: Does not block; closed on stop.
            invoke: Answers small payloads in this process; must not raise.
            workers: Answer the others; without any, `invoke` answers all.
            parameters: The answer to GET /execution-parameters.
            limits: The bounds.
        """
        self.limits = limits
        self._listener = listener
        self._invoke = invoke
        self._parameters = parameters
        self._selector = selectors.DefaultSelector()
        self._idle = list(workers)
        self._live = set(workers)
        self._had_workers = bool(workers)
        self._evaluating: dict[Worker, tuple[_Connection, _Request]] = {}
        self._waiting: deque[tuple[_Connection, _Request]] = deque()
        self._connections: dict[_Connection, int] = {}
        self._inline_is_slow = False
        self._accepting = True
        self._stopping_at: float | None = None
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_out.setblocking(False)

    def stop(self) -> None:
        """Accept no more and end once requests in flight are answered; may be called by a signal handler."""
        if self._stopping_at is None:
            self._stopping_at = time.monotonic() + self.limits.drain_seconds
        with suppress(OSError):  # a second signal may come while the sockets are being closed, or when it wakes nobody
            self._wake_out.send(b"x")

    def run(self) -> bool:
        """Serve until stopped; returns False if every worker died."""
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._wake_in, selectors.EVENT_READ, self._wake)
        for worker in self._live:
            self._selector.register(worker.channel, selectors.EVENT_READ, worker)
        while not self._drained():
            for key, mask in self._selector.select(0.2 if self._stopping_at is not None else None):
                if isinstance(key.data, _Connection):
                    self._serve(key.data, mask)
                elif isinstance(key.data, Worker):
                    self._collect(key.data)
                else:
                    key.data()
            if self._had_workers and not self._live:
                return False
        return True

    def close(self) -> None:
        """Close all sockets and reap the workers, which end with their channel."""
        for connection in list(self._connections):
            self._drop(connection)
        self._listener.close()
        self._wake_in.close()
        self._wake_out.close()
        for worker in list(self._live):
            self._retire(worker, kill=worker in self._evaluating)
        self._selector.close()

    def _drained(self) -> bool:
        if self._stopping_at is None:
            return False
        in_flight = bool(self._evaluating or self._waiting)
        in_flight |= any(c.outgoing or (c.receiving and c.reading) for c in self._connections)
        return not in_flight or time.monotonic() > self._stopping_at

    def _wake(self) -> None:
        self._wake_in.recv(64)
        if self._accepting:
            self._accepting = False
            self._selector.unregister(self._listener)
            self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:  # none left, or out of descriptors: those that wait are accepted later
                return
            sock.setblocking(False)
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = _Connection(self, sock)
            self._connections[connection] = selectors.EVENT_READ
            self._selector.register(sock, selectors.EVENT_READ, connection)

    def _serve(self, connection: _Connection, mask: int) -> None:
        """Do what a ready connection allows."""
        if mask & selectors.EVENT_READ:
            connection.receive()
        self._advance(connection)

    def _advance(self, connection: _Connection) -> None:
        """Answer queued requests in order as far as possible without waiting."""
        while connection.requests and not connection.busy and not connection.closed:
            request = connection.requests.popleft()
            answer = self._answer_now(connection, request)
            if answer is None:
                connection.busy = True
                break
            connection.answer(request, answer)
            connection.flush()
            if connection.outgoing and not connection.closed:  # slow reader: its next answers can wait
                break
        if connection.outgoing and not connection.closed:
            connection.flush()
        self._watch(connection)

    def _watch(self, connection: _Connection) -> None:
        if connection.finished() and not connection.busy:
            self._drop(connection)
            return
        if connection.lingering and not (connection.requests or connection.busy or connection.outgoing):
            connection.end_answers()
        wanted = 0 if connection.closed else connection.events()
        watched = self._connections[connection]
        if wanted == watched:
            return
        if not wanted:
            self._selector.unregister(connection.sock)
        elif not watched:
            self._selector.register(connection.sock, wanted, connection)
        else:
            self._selector.modify(connection.sock, wanted, connection)
        self._connections[connection] = wanted

    def _drop(self, connection: _Connection) -> None:
        if self._connections.pop(connection, 0):
            self._selector.unregister(connection.sock)
        connection.closed = True
        connection.sock.close()

    def _answer_now(self, connection: _Connection, request: _Request) -> Answer | None:
        """Return the answer, or None if a worker will give it."""
        if request.refusal is not None:
            return _refusal(request.refusal, self.limits)
        path = request.target.partition(b"?")[0]
        allowed = {b"/ping": "GET", b"/invocations": "POST", b"/execution-parameters": "GET"}.get(path)
        if allowed is None:
            return Answer(status=404, body=b"no such path: " + path)
        if request.method != allowed and not (allowed == "GET" and request.method == "HEAD"):
            return Answer(status=405, body=b"%b allows %b" % (path, allowed.encode()))
        if path == b"/ping":
            return Answer(body=b"")
        if path == b"/execution-parameters":
            return self._parameters
        if self._live and (self._inline_is_slow or request.body_bytes > self.limits.inline_bytes):
            self._waiting.append((connection, request))
            self._dispatch()
            return None
        started = time.monotonic()
        answer = self._invoke(
            Invocation(
                chunks=[b"".join(request.pieces)],
                content_type=request.header(b"content-type"),
                accept=request.header(b"accept"),
            )
        )
        self._inline_is_slow |= time.monotonic() - started > self.limits.inline_seconds
        return answer

    def _dispatch(self) -> None:
        """Give waiting requests to idle workers."""
        while self._waiting and self._idle:
            worker = self._idle.pop()
            connection, request = self._waiting.popleft()
            if connection.closed:
                connection.busy = False
                self._idle.append(worker)
                self._drop(connection)
                continue
            self._evaluating[worker] = (connection, request)
            try:
                worker.send(request.pieces, request.header(b"content-type"), request.header(b"accept"))
            except WorkerDied:
                self._waiting.appendleft(self._evaluating.pop(worker))
                self._retire(worker)
            else:
                request.pieces.clear()

    def _collect(self, worker: Worker) -> None:
        """Take a worker's answer, or notice that it died."""
        try:
            answer = worker.receive()
        except WorkerDied:
            answer = Answer(status=500, body=b"the process that evaluated the payload died; is there enough memory?")
            self._retire(worker)
        else:
            self._idle.append(worker)
        task = self._evaluating.pop(worker, None)
        self._dispatch()
        if task is None:
            return
        connection, request = task
        connection.busy = False
        if not connection.closed:
            connection.answer(request, answer)
        self._advance(connection)

    def _retire(self, worker: Worker, *, kill: bool = False) -> None:
        self._live.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        self._selector.unregister(worker.channel)
        worker.channel.close()
        if kill:
            os.kill(worker.process_id, signal.SIGKILL)
        os.waitpid(worker.process_id, 0)


def _refusal(status: int, limits: Limits) -> Answer:
    texts = {
        413: f"payload must be at most {limits.body_bytes} bytes",
        431: f"headers must be at most {limits.header_bytes} bytes",
        501: "upgrading the connection is not supported",
    }
    return Answer(status=status, body=texts.get(status, "malformed HTTP request").encode())
