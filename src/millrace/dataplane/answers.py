"""Answers of containers: whole, streamed, or open beyond the function that asked."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from millrace.dataplane.chunked_body import send_chunked
from millrace.dataplane.client_errors import AnswerTooLarge, ClientError, ConnectionFailed, InvocationTimeout
from millrace.dataplane.connection import Connection

__all__ = ["Answer", "OpenAnswer", "StreamedAnswer", "WholeAnswer", "decoded_headers", "read_whole"]

STREAM_HIGH_WATER = 1024 * 1024
"""Bytes of a streamed answer that wait for the reader before the socket is no longer read."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer; header names are lower-case."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the first value of a header, by its lower-case name."""
        return next((value for key, value in self.headers if key == name), None)


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
        return decoded_headers(self._connection.headers)

    def declared_length(self) -> int:
        """Return the value of Content-Length, 0 without one."""
        return self._connection.declared_length()

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
        if not self._ended:  # a server may close behind its answer, before all of that is read here
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


class WholeAnswer:
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
            if limit is not None and (length := self._connection.declared_length()) > limit:
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


async def read_whole(answer: StreamedAnswer, limit: int | None) -> list[bytes]:
    """Return the pieces of an answer's body; raises AnswerTooLarge before the first if its length is declared."""
    if limit is None:
        return [piece async for piece in answer]
    if (length := answer.declared_length()) > limit:
        raise AnswerTooLarge(limit, status=answer.status, size=length)
    pieces = []
    size = 0
    async for piece in answer:
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            raise AnswerTooLarge(limit, status=answer.status)
    return pieces


def decoded_headers(headers: list[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    return tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers)
