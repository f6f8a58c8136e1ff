"""Pass the requests of one client through a chain by plain callbacks: no task and no future for each.

A client has a connection of its own to each container, for it asks one thing at a time; so there are as many as clients
would have to a single container. They are opened when they are first needed, and kept.
"""

import asyncio

from millrace.agents.chain import (
    ERROR_BYTES,
    Chain,
    ChainReply,
    Failure,
    Link,
    Passage,
    failure_of_answer,
    failure_of_error,
    failure_of_time,
    of_the_body,
)
from millrace.dataplane.answers import decoded_headers
from millrace.dataplane.client_errors import AnswerTooLarge, ConnectionFailed
from millrace.dataplane.connecting import open_connection
from millrace.dataplane.connection import Buffers, Connection, no_listener

__all__ = ["Lane"]


class Lane:
    """The way of one client's requests, one at a time."""

    __slots__ = (
        "_body",
        "_body_headers",
        "_chain",
        "_closed",
        "_connections",
        "_deadline",
        "_growing",
        "_held",
        "_loop",
        "_opening",
        "_passage",
        "_paused",
        "_pieces",
        "_place",
        "_reply",
        "_resent",
        "_size",
        "_streaming",
        "_under_way",
    )

    def __init__(self, chain: Chain, reply: ChainReply) -> None:
        self._chain = chain
        self._reply = reply
        self._loop = asyncio.get_running_loop()
        self._connections: dict[str, Connection] = {}
        self._under_way: Connection | None = None
        self._opening: asyncio.Task[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._passage: Passage | None = None
        self._place = 0
        self._body: Buffers = b""
        self._size = 0
        self._held = 0
        """Bytes of the body that take room."""
        self._growing = 0
        """Bytes that take room of the answer that is arriving, the next body."""
        self._body_headers: tuple[tuple[str, str], ...] = ()
        self._resent = False
        self._pieces: list[bytes] = []
        self._streaming: asyncio.Handle | bool = False
        """Of the last answer: the handle that will begin to pass it on in pieces, or whether that has begun."""
        self._paused: Connection | None = None
        self._closed = False

    def start(self, passage: Passage, body: Buffers, size: int) -> None:
        """Begin a request; the one before must be answered."""
        self._passage = passage
        self._place = 0
        self._body, self._size, self._body_headers = body, size, ()
        limits = self._chain.limits
        self._deadline = self._loop.call_later(limits.give_up_seconds, self._expire, limits.seconds)
        self._send(passage)

    def close(self) -> None:
        """Drop all connections; a container that is at work works for nobody."""
        self._closed = True
        self._conclude()
        self._open_no_more()
        for connection in self._connections.values():
            connection.abort()
        self._connections.clear()

    def close_idle(self) -> None:
        """Drop the connections, none of which is at work: something else is to ask the containers."""
        for connection in list(self._connections.values()):
            self._drop(connection)

    def pause(self) -> None:
        """Read no more of an answer that is being passed on: the client does not take it."""
        if self._under_way is not None and self._streaming is True and self._paused is None:
            self._paused = self._under_way
            self._paused.transport.pause_reading()

    def resume(self) -> None:
        """Read on what is being passed on: the client takes it."""
        if self._streaming is True:
            self.go_on()

    def go_on(self) -> None:
        """Read on."""
        paused, self._paused = self._paused, None
        if paused is not None and not paused.transport.is_closing():
            paused.transport.resume_reading()

    # -- asking

    def _send(self, passage: Passage) -> None:
        link = passage.links[self._place]
        connection = self._connections.get(link.name)
        self._resent = False
        if connection is None:
            self._opening = self._loop.create_task(self._open(link))
        else:
            self._ask(connection, passage)

    async def _open(self, link: Link) -> None:
        try:
            connection = await open_connection(link.address)
        except ConnectionFailed as exc:
            self._opening = None
            self._fail(failure_of_error(link, exc))
            return
        self._opening = None
        if self._closed or self._passage is None:
            connection.abort()
            return
        connection.lane = link
        connection.on_answer = self._answered
        connection.on_growth = self._grew
        connection.on_lost = self._lost
        self._connections[link.name] = connection
        self._ask(connection, self._passage)

    def _ask(self, connection: Connection, passage: Passage) -> None:
        self._under_way = connection
        connection.on_piece = self._arrived if self._place == len(passage.links) - 1 else None
        connection.send(passage.head(self._place, self._body_headers), self._body, self._size)

    # -- answers

    def _grew(self, connection: Connection, size: int) -> None:
        """Bound an answer between two containers, of which more came that did not complete it."""
        limit = self._chain.limits.answer_bytes
        length = connection.declared_length()
        if length > limit or connection.body_size > limit:
            connection.give_up(AnswerTooLarge(limit, status=connection.status, size=length or None))
            return
        self._growing += size
        if not self._chain.room.take(self, size) and self._paused is None:
            self._paused = connection
            connection.transport.pause_reading()

    def _answered(self, connection: Connection) -> None:
        """Take a complete answer."""
        passage, self._under_way = self._passage, None
        body, is_last = connection.body, connection.on_piece is not None
        if not connection.keep_alive:
            self._drop(connection)
        if passage is None:
            return
        if is_last:
            self._end(connection, passage)
            return
        link = passage.links[self._place]
        if isinstance(body, memoryview):
            body = bytes(body)
        if not 200 <= connection.status < 300:
            self._fail(_refusal(link, connection, body if isinstance(body, bytes) else b"".join(body)))
            return
        size = len(body) if isinstance(body, bytes) else sum(map(len, body))
        limit = self._chain.limits.answer_bytes
        if size > limit:
            self._fail(failure_of_error(link, AnswerTooLarge(limit, status=connection.status, size=size)))
            return
        self._body, self._size = body, size
        self._chain.room.give_back(self, self._held)
        self._held, self._growing = self._growing, 0
        self.go_on()
        self._body_headers = of_the_body(connection.headers)
        self._place += 1
        self._send(passage)

    # -- the last answer: it is passed on whole if it came so, else as it comes

    def _arrived(self, piece: bytes) -> None:
        if not piece:  # the head is complete
            self._pieces = []
            self._streaming = self._loop.call_soon(self._begin)
        elif self._streaming is True:
            self._reply.send_piece(piece)
        else:
            self._pieces.append(piece)
            if self._is_long_refusal():
                self._refuse()

    def _is_long_refusal(self) -> bool:
        connection = self._under_way
        return connection is not None and connection.status >= 300 and sum(map(len, self._pieces)) >= ERROR_BYTES

    def _refuse(self) -> None:
        """Tell of a refusal whose body goes on; what is still to come of it is of no use."""
        connection, passage = self._under_way, self._passage
        if connection is None or passage is None:
            return
        failure = _refusal(passage.links[self._place], connection, b"".join(self._pieces))
        self._drop(connection)
        self._fail(failure)

    def _begin(self) -> None:
        """Pass on what there is of an answer that did not come in one segment."""
        connection = self._under_way
        if connection is None or connection.status >= 300:
            self._streaming = False
            return
        self._streaming = True
        has_length = connection.header(b"content-length") is not None
        self._reply.begin(
            self._chain.answer_head(connection.status, connection.headers),
            connection.declared_length() if has_length else None,
        )
        for piece in self._pieces:
            self._reply.send_piece(piece)
        self._pieces = []
        seconds = self._chain.limits.stream_seconds
        if seconds is not None and self._deadline is not None:
            self._deadline.cancel()
            self._deadline = self._loop.call_later(seconds, self._expire, seconds)

    def _end(self, connection: Connection, passage: Passage) -> None:
        """Take the end of the last answer."""
        streaming, pieces = self._streaming, self._pieces
        if streaming is True:
            self._conclude()
            self._reply.finish()
        elif not 200 <= connection.status < 300:
            self._fail(_refusal(passage.links[self._place], connection, b"".join(pieces)))
        else:
            self._conclude()
            head = self._chain.answer_head(connection.status, connection.headers)
            self._reply.send_whole(head, pieces[0] if len(pieces) == 1 else pieces)

    # -- failures

    def _lost(self, connection: Connection) -> None:
        """Take note that a connection ended: an idle one is opened again when it is needed."""
        self._drop(connection)
        passage = self._passage
        if self._under_way is not connection or passage is None:
            return
        self._under_way = None
        link = passage.links[self._place]
        error = connection.error or ConnectionFailed("the connection was lost")
        if isinstance(error, ConnectionFailed) and error.stale and not self._resent:
            self._opening = self._loop.create_task(self._open(link))
            self._resent = True
            return
        self._fail(failure_of_error(link, error))

    def _expire(self, seconds: float) -> None:
        passage = self._passage
        if passage is None:
            return
        link = passage.links[self._place]
        self._open_no_more()
        if self._under_way is not None:
            self._drop(self._under_way)
        self._fail(failure_of_time(link, seconds))

    def _fail(self, failure: Failure) -> None:
        if self._passage is None:
            return
        begun = self._streaming is True
        self._conclude()
        if begun:
            self._reply.break_off()
        else:
            self._chain.tell(failure, self._reply)

    def _open_no_more(self) -> None:
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.cancel()

    def _drop(self, connection: Connection) -> None:
        link: Link = connection.lane
        self._connections.pop(link.name, None)
        connection.on_answer = connection.on_lost = no_listener
        connection.abort()

    def _conclude(self) -> None:
        """Forget the request."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if not isinstance(self._streaming, bool):
            self._streaming.cancel()
        self.go_on()
        self._chain.room.leave(self)
        self._held = self._growing = 0
        self._streaming = False
        self._passage = None
        self._under_way = None
        self._body = b""
        self._pieces = []


def _refusal(link: Link, connection: Connection, body: bytes) -> Failure:
    return failure_of_answer(link, connection.status, decoded_headers(connection.headers), body)
