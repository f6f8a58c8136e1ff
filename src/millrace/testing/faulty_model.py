"""A model server that misbehaves as a script says, on a real socket, and knows what it answered."""

import asyncio
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import httptools

from millrace.ports.runtime import Address
from millrace.testing.accepting import close_server
from millrace.testing.faults import REFUSED, End, Fault, FaultyReply, faulty_reply

__all__ = ["Attempt", "FaultyModel"]

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER of no seconds: closing resets the connection."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One request: what was done to it, and what its answer is, None if there is no complete one.

    `sent_bytes` are those of all that was to be sent, head and framing with it.
    """

    body: bytes
    fault: Fault
    status: int
    answer: bytes | None
    sent_bytes: int


class FaultyModel:
    """Answers the n-th request as the n-th fault says, requests behind the last fault as they should be.

    Use it as an async context manager, again and again if need be: the script goes on, and `attempts` are kept.

    Args:
        rows: Returns the rows of the answer to a body; None refuses it, with 400.
        script: The faults, in order of arrival of the requests' heads.
        huge_bytes: Length of a huge answer.
        turns: Returns for how many turns of the event loop the n-th request is thought about.
        on_request: Called with the number of each request when its body is there.
    """

    def __init__(
        self,
        rows: Callable[[bytes], Sequence[bytes] | None],
        script: Sequence[Fault] = (),
        *,
        huge_bytes: int = 1024 * 1024,
        turns: Callable[[int], int] = lambda _: 0,
        on_request: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._rows = rows
        self._script = script
        self._huge_bytes = huge_bytes
        self._turns = turns
        self._on_request = on_request
        self._arrived = 0
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._gone = asyncio.Event()
        self.attempts: list[Attempt] = []
        self.activity = 0
        """Grows with whatever happens: a test sees that nothing does."""

    async def __aenter__(self) -> "FaultyModel":
        self._server = await asyncio.get_running_loop().create_server(lambda: _Connection(self), "127.0.0.1", 0)
        self.address = Address(port=self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        await close_server(self._server)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks))
        for connection in list(self._connections):
            connection.transport.abort()
        await self._server.wait_closed()

    async def left_alone(self) -> None:
        """Return once no client is connected."""
        while self._connections:
            self._gone.clear()
            await self._gone.wait()

    def _next_fault(self) -> tuple[int, Fault]:
        number = self._arrived
        self._arrived += 1
        return number, self._script[number] if number < len(self._script) else Fault.NOTHING

    def _take(self, connection: "_Connection", number: int, fault: Fault, body: bytes) -> None:
        self._on_request(number)
        task = asyncio.create_task(self._answer(connection, number, fault, body))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, connection: "_Connection", number: int, fault: Fault, body: bytes) -> None:
        for _ in range(self._turns(number)):
            await asyncio.sleep(0)
            self.activity += 1
        rows = self._rows(body)
        reply = REFUSED if rows is None else faulty_reply(fault, rows, huge_bytes=self._huge_bytes)
        self.note(body, fault, reply)
        for piece in reply.pieces:
            self.activity += 1
            connection.transport.write(piece)
            await asyncio.sleep(0)
        connection.end(reply.end)

    def note(self, body: bytes, fault: Fault, reply: FaultyReply) -> None:
        """Keep what was answered."""
        sent = sum(map(len, reply.pieces))
        self.attempts.append(Attempt(body=body, fault=fault, status=reply.status, answer=reply.answer, sent_bytes=sent))

    def joined(self, connection: "_Connection") -> None:
        """Take note of a client."""
        self.activity += 1
        self._connections.add(connection)

    def left(self, connection: "_Connection") -> None:
        """Take note of a client's end."""
        self.activity += 1
        self._connections.discard(connection)
        self._gone.set()


class _Connection(asyncio.Protocol):
    """One connection of a client."""

    def __init__(self, model: FaultyModel) -> None:
        self._model = model
        self._parser = httptools.HttpRequestParser(self)
        self._body: list[bytes] = []
        self._number = 0
        self._fault = Fault.NOTHING

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._model.joined(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._model.left(self)

    def data_received(self, data: bytes) -> None:
        self._model.activity += 1
        self._parser.feed_data(data)

    def on_headers_complete(self) -> None:
        self._body = []
        self._number, self._fault = self._model._next_fault()
        if self._fault is Fault.DROPPED_UNREAD:
            self._model.note(b"", self._fault, FaultyReply(pieces=()))
            self.transport.close()

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        if not self.transport.is_closing():
            self._model._take(self, self._number, self._fault, b"".join(self._body))

    def end(self, end: End) -> None:
        """Do to the connection what is to become of it."""
        if self.transport.is_closing():
            return
        if end is End.RESET:
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.transport.abort()
        elif end is End.CLOSED:
            self.transport.close()
