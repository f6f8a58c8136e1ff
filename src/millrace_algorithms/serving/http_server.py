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

from millrace_algorithms.serving.connection import Connection, Request
from millrace_algorithms.serving.invocation import Answer, Invocation
from millrace_algorithms.serving.limits import Limits
from millrace_algorithms.serving.workers import Gone, HandedRequest, Stalled, Worker, WorkerDied, Written

__all__ = ["HttpServer"]


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
        self._evaluating: dict[Worker, tuple[Connection, Request]] = {}
        self._waiting: deque[tuple[Connection, Request]] = deque()
        self._connections: dict[Connection, int] = {}
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
                if isinstance(key.data, Connection):
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
        for worker in self._live:  # all are told before the first is waited for: they end side by side
            with suppress(OSError):
                worker.channel.shutdown(socket.SHUT_RDWR)
            if worker in self._evaluating:
                os.kill(worker.process_id, signal.SIGKILL)
        for worker in list(self._live):
            self._retire(worker)
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
            connection = Connection(sock, self.limits)
            self._connections[connection] = selectors.EVENT_READ
            self._selector.register(sock, selectors.EVENT_READ, connection)

    def _serve(self, connection: Connection, mask: int) -> None:
        """Do what a ready connection allows."""
        if mask & selectors.EVENT_READ:
            connection.receive()
        self._advance(connection)

    def _advance(self, connection: Connection) -> None:
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
        arriving = connection.arriving() if self._live and not connection.closed else None
        if arriving is not None and _problem(arriving) is None:
            connection.busy = connection.handed_over = True
            self._waiting.append((connection, arriving))
            self._dispatch()
        self._watch(connection)

    def _watch(self, connection: Connection) -> None:
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

    def _drop(self, connection: Connection) -> None:
        if self._connections.pop(connection, 0):
            self._selector.unregister(connection.sock)
        connection.closed = True
        connection.sock.close()

    def _answer_now(self, connection: Connection, request: Request) -> Answer | None:
        """Return the answer, or None if a worker will give it."""
        if request.refusal is not None:
            return _refusal(request.refusal, self.limits)
        problem = _problem(request)
        if problem is not None:
            return problem
        path = request.path
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
                self._give(worker, connection, request)
            except WorkerDied:
                self._waiting.appendleft(self._evaluating.pop(worker))
                self._retire(worker)

    def _give(self, worker: Worker, connection: Connection, request: Request) -> None:
        content_type, accept = request.header(b"content-type"), request.header(b"accept")
        if request.complete:
            worker.send(request.pieces, content_type, accept)
            request.pieces.clear()
            return
        begun = b"".join(request.pieces)
        worker.hand_over(
            connection.sock,
            HandedRequest(
                begun=begun,
                length=request.length,
                content_type=content_type,
                accept=accept,
                keep_alive=request.keep_alive,
            ),
        )

    def _collect(self, worker: Worker) -> None:
        """Learn what became of a payload, or that its worker died."""
        try:
            outcome = worker.receive()
        except WorkerDied:
            outcome = None
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
            match outcome:
                case Answer():
                    connection.answer(request, outcome)
                case Written(rest):
                    connection.was_answered(request, rest)
                case Stalled():
                    connection.fail(request, _refusal(408, self.limits))
                case None if request.complete or not worker.has_begun_to_answer:
                    text = b"the process that evaluated the payload died; is there enough memory?"
                    answer = Answer(status=500, body=text)
                    connection.answer(request, answer) if request.complete else connection.fail(request, answer)
                case Gone() | None:
                    connection.closed = True
        self._advance(connection)

    def _retire(self, worker: Worker) -> None:
        self._live.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        self._selector.unregister(worker.channel)
        worker.channel.close()
        os.waitpid(worker.process_id, 0)


def _problem(request: Request) -> Answer | None:
    """Return the answer to a request for what is not there."""
    allowed = {b"/ping": "GET", b"/invocations": "POST", b"/execution-parameters": "GET"}.get(request.path)
    if allowed is None:
        return Answer(status=404, body=b"no such path: " + request.path)
    if request.method != allowed and not (allowed == "GET" and request.method == "HEAD"):
        return Answer(status=405, body=b"%b allows %b" % (request.path, allowed.encode()))
    return None


def _refusal(status: int, limits: Limits) -> Answer:
    texts = {
        408: f"nothing of the body came for {limits.body_stall_seconds:g} seconds",
        413: f"payload must be at most {limits.body_bytes} bytes",
        431: f"headers must be at most {limits.header_bytes} bytes",
        501: "upgrading the connection is not supported",
    }
    return Answer(status=status, body=texts.get(status, "malformed HTTP request").encode())
