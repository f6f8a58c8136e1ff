"""Ask one container over its keep-alive connections.

The transform loop hands finished requests to connections itself. Everybody else calls `Client.invoke`,
`Client.stream` or `Client.open`.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from millrace.dataplane.answers import Answer, OpenAnswer, StreamedAnswer, WholeAnswer, decoded_headers, read_whole
from millrace.dataplane.chunked_body import Body, send_chunked
from millrace.dataplane.client_errors import AnswerTooLarge, ClientError, ConnectionFailed, InvocationTimeout
from millrace.dataplane.connecting import open_connection
from millrace.dataplane.connection import Buffers, Connection, no_listener
from millrace.dataplane.request_head import Headers, request_head
from millrace.ports.runtime import Address

__all__ = [
    "Answer",
    "AnswerTooLarge",
    "Body",
    "Client",
    "ClientError",
    "Connection",
    "ConnectionFailed",
    "Headers",
    "InvocationTimeout",
    "OpenAnswer",
    "StreamedAnswer",
    "open_connection",
    "request_head",
    "send_chunked",
]


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
            pieces = await read_whole(answer, max_answer_bytes)
            return Answer(answer.status, answer.headers, b"".join(pieces))

    async def _exchange(self, head: bytes, body: Buffers, timeout_seconds: float | None, limit: int | None) -> Answer:
        """Send a request on an idle connection: nothing is waited for but the answer."""
        await self._slots.acquire()  # it is free: this does not wait
        connection = self._idle.pop()
        whole = WholeAnswer(connection, limit)
        timer = None
        if timeout_seconds is not None:
            timer = asyncio.get_running_loop().call_later(timeout_seconds, whole.expire, timeout_seconds)
        complete = False
        try:
            size = len(body) if isinstance(body, bytes) else sum(len(part) for part in body)
            connection.send(head + b"Content-Length: ", body, size)
            content = await whole.done
            complete = True
            return Answer(connection.status, decoded_headers(connection.headers), content)
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
                    whole = False
                    try:
                        whole = await answer.finish_sending()
                    finally:
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
                connection.abort()  # first: a task may be cancelled while it waits, again if it was before
                await answer.finish_sending()
                raise
            else:
                return answer, connection

    def _release(self, connection: Connection, complete: bool) -> None:
        reusable = complete and connection.keep_alive and len(self._idle) < self._max_idle
        connection.on_answer = no_listener
        connection.on_piece = None
        if not reusable or connection.transport.is_closing():
            connection.abort()
            return
        connection.on_lost = self._forget
        self._idle.append(connection)

    def _forget(self, connection: Connection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)
