"""Tests of the buffers that long answers are received into."""

import asyncio
import os
import socket

import pytest

from millrace.dataplane.connecting import open_connection
from millrace.dataplane.connection import Connection
from millrace.dataplane.long_body import STEP_BYTES, BufferPool
from millrace.dataplane.request_head import request_head
from millrace.ports.runtime import Address

MIB = 1024 * 1024


def test_a_buffer_that_is_given_back_is_used_again() -> None:
    """What was in it is still there: it is the same memory."""
    pool = BufferPool(MIB)
    first = pool.take(STEP_BYTES)
    assert first is not None
    first[:4] = b"mark"
    pool.give_back(first)
    again = pool.take(STEP_BYTES - 1)
    assert again is not None
    assert bytes(again[:4]) == b"mark"
    assert len(again) == STEP_BYTES - 1


def test_all_buffers_together_are_bounded() -> None:
    """Also those that somebody has; one that is dropped with its answer makes room like one that is given back."""
    pool = BufferPool(4 * STEP_BYTES)
    taken = [pool.take(STEP_BYTES) for _ in range(4)]
    assert None not in taken
    assert pool.take(1) is None
    taken.pop()
    last = pool.take(1)
    assert last is not None
    assert pool.take(1) is None
    pool.give_back(last)
    assert pool.take(1) is not None


def test_free_buffers_of_another_size_make_way() -> None:
    """Where answers become longer, the buffers of the short ones are not kept beside those of the long ones."""
    pool = BufferPool(4 * STEP_BYTES)
    short = [pool.take(STEP_BYTES) for _ in range(4)]
    while short:
        pool.give_back(short.pop())  # type: ignore[arg-type]  # there was room for four
    long = pool.take(4 * STEP_BYTES)
    assert long is not None
    assert pool.take(1) is None


def test_free_buffers_are_kept_where_making_way_would_not_help() -> None:
    """What others have leaves too little room anyway."""
    pool = BufferPool(4 * STEP_BYTES)
    others = pool.take(2 * STEP_BYTES)
    short = pool.take(STEP_BYTES)
    assert others is not None and short is not None
    short[:4] = b"mark"
    pool.give_back(short)
    assert pool.take(4 * STEP_BYTES) is None
    again = pool.take(STEP_BYTES)
    assert again is not None
    assert bytes(again[:4]) == b"mark"


def test_one_buffer_may_be_larger_than_the_bound() -> None:
    """It is the only one then, and not kept."""
    pool = BufferPool(STEP_BYTES)
    large = pool.take(3 * STEP_BYTES)
    assert large is not None
    assert pool.take(1) is None
    pool.give_back(large)
    assert pool.take(1) is not None


class Asked:
    """One exchange on a connection of its own whose server says what it is told to, and when."""

    def __init__(self, server: socket.socket, connection: Connection) -> None:
        self.server = server
        self.connection = connection
        self.body = b""
        self.was_long = False
        self.done = asyncio.Event()
        self.grew = asyncio.Event()
        connection.on_answer = self._take
        connection.on_growth = lambda _, __: self.grew.set()

    @classmethod
    async def with_pool(cls, pool: BufferPool) -> "Asked":
        with socket.create_server(("127.0.0.1", 0)) as listening:
            address = Address(host="127.0.0.1", port=listening.getsockname()[1])
            connection = await open_connection(address)
            server, _ = listening.accept()
        server.setblocking(False)
        connection.pool = pool
        asked = cls(server, connection)
        connection.send(request_head("POST", "/", address) + b"Content-Length: ", b"", 0)
        return asked

    def _take(self, connection: Connection) -> None:
        body = connection.body
        self.was_long = isinstance(body, memoryview)
        self.body = b"".join(body) if isinstance(body, list) else bytes(body)
        self.done.set()

    async def begin(self, text: bytes, size: int) -> None:
        """Send the head of an answer and its first bytes, and return once they came."""
        await self.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (size, text))
        await self.grew.wait()

    async def say(self, text: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.server, text)

    def close(self) -> None:
        self.connection.abort()
        self.server.close()


@pytest.mark.parametrize("frees_room", [True, False])
async def test_an_answer_without_a_buffer_comes_in_pieces(frees_room: bool) -> None:
    """Until there is room for one; its bytes are the same."""
    pool, text = BufferPool(STEP_BYTES), os.urandom(STEP_BYTES)
    taken = pool.take(STEP_BYTES)
    asked = await Asked.with_pool(pool)
    await asked.begin(text[:100], len(text))
    if frees_room:
        taken = None
    asked.grew.clear()
    await asked.say(text[100:200])
    await asked.grew.wait()
    await asked.say(text[200:])
    await asked.done.wait()
    assert asked.body == text
    assert asked.was_long == frees_room
    assert (taken is None) == frees_room
    asked.close()


async def test_a_connection_forgets_the_answer_that_was_taken() -> None:
    """Whoever took it counts its memory; a connection that held on to it would do so until its next answer."""
    for size, begun in ((10, 10), (2 * STEP_BYTES, 10), (100, 50)):
        asked = await Asked.with_pool(BufferPool(MIB))
        text = os.urandom(size)
        if begun < size:
            await asked.begin(text[:begun], size)
            await asked.say(text[begun:])
        else:
            await asked.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (size, text))
        await asked.done.wait()
        assert asked.body == text
        assert asked.connection.body == b""
        asked.close()
