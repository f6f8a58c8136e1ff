"""Connections carried to an address."""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from millrace.runtimes.relay import Relay


async def carry(talk: Callable[[int], Coroutine[Any, Any, None]]) -> None:
    """Talk to a server, which answers what it got with its length before it, through a relay."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = await reader.read()
        writer.write(b"%d:" % len(body) + body)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    listening = socket.create_server(("127.0.0.1", 0))
    relay = Relay("127.0.0.1", server.sockets[0].getsockname()[1])
    port = listening.getsockname()[1]
    await relay.open(listening)
    try:
        await talk(port)
    finally:
        relay.close()
        server.close()
        await server.wait_closed()


async def ask(port: int, body: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(body)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def ask_for_much(port: int) -> None:
    bodies = [b"", b"x", b"y" * 5_000_000, *(b"%d" % number for number in range(50))]
    answers = await asyncio.gather(*(ask(port, body) for body in bodies))
    assert answers == [b"%d:" % len(body) + body for body in bodies]


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_all_bytes_arrive_both_ways_however_early_they_come(run: Callable[[Any], None]) -> None:
    """Each direction ends by itself, on both event loops."""
    run(carry(ask_for_much))


async def test_a_connection_that_can_t_be_carried_is_closed() -> None:
    """Nobody waits for an answer that will not come."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = taken.getsockname()[1]
    listening = socket.create_server(("127.0.0.1", 0))
    relay = Relay("127.0.0.1", nobody)
    port = listening.getsockname()[1]
    await relay.open(listening)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert await reader.read() == b""
    writer.close()
    relay.close()
