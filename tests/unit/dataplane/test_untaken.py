"""Tests of requests that never come to a server, which has no room for so many connections at a time.

A filter on the server's socket does what a full queue does: it drops segments that would take one of its places.
"""

import asyncio
import ctypes
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import cast

import pytest
from tests.acceptance.transform_rig import job, no_guard

from millrace.clock import SystemClock
from millrace.dataplane import EffectiveSettings, InputObject, Limits, list_inputs, run_transform
from millrace.dataplane.connecting import open_connection
from millrace.dataplane.inputs import InputStream
from millrace.dataplane.request_head import request_head
from millrace.ports.runtime import Address
from millrace.testing.objects import MemoryObjects

ATTACH_FILTER = 26
"""Of Linux; Python has no name for it."""
NOTHING = ((0x06, 0, 0, 0),)
"""A program of the Berkeley Packet Filter that lets nothing pass: nobody can connect."""
NO_ACKNOWLEDGEMENT = ((0x30, 0, 0, 13), (0x45, 0, 1, 0x10), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))
"""One that lets the first segment of a handshake pass, but not the last one, nor what follows."""
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Program = tuple[tuple[int, int, int, int], ...]


class Server:
    """A server that answers `ok`, once it is told to, and can be made to take no further connections."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.socket.getsockname()[1]
        self.connections = 0
        self.go = asyncio.Event()
        self.asked = asyncio.Event()
        self._serving: list[asyncio.Task[None]] = []

    @property
    def address(self) -> Address:
        return Address(host="127.0.0.1", port=self.port)

    def take_no_more(self, program: Program) -> None:
        """Have the kernel drop what the filter does not let pass."""
        text = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
        self.socket.setsockopt(
            socket.SOL_SOCKET, ATTACH_FILTER, struct.pack("HL", len(program), ctypes.addressof(text))
        )

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._serving.append(cast("asyncio.Task[None]", asyncio.current_task()))
        while not reader.at_eof():
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                break
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            self.asked.set()
            await self.go.wait()
            writer.write(ANSWER)
        writer.close()

    async def all_left(self) -> None:
        """Return once all that connected are gone."""
        self.go.set()
        await asyncio.gather(*self._serving)

    async def is_knocked_at(self) -> None:
        """Return once somebody tries to connect who is not let in."""
        while not any(self._is_half_open(line) for line in Path("/proc/net/tcp").read_text("ascii").splitlines()):
            await asyncio.sleep(0.005)  # the kernel tells nobody

    def _is_half_open(self, line: str) -> bool:
        return f":{self.port:04X} " in line and line.split()[3] in ("02", "03")  # SYN sent, SYN received


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    listening = await asyncio.start_server(made.serve, sock=made.socket)
    yield made
    listening.close()
    await made.all_left()


async def test_what_the_other_end_has_not_taken_is_known(server: Server) -> None:
    """It is sent again and again, and nothing of it is acknowledged; what waits for its answer was taken."""
    taken = await open_connection(server.address)
    server.take_no_more(NO_ACKNOWLEDGEMENT)
    untaken = await open_connection(server.address)
    head = request_head("POST", "/invocations", server.address) + b"Content-Length: "
    for connection in (taken, untaken):
        connection.send(head, b"body", 4)
    while not untaken.is_untaken():
        await asyncio.sleep(0.01)  # the kernel waits 0.2 s before it sends again
    await server.asked.wait()
    assert not taken.is_untaken()
    assert server.connections == 1
    for connection in (taken, untaken):
        connection.abort()


@pytest.mark.parametrize("program", [NOTHING, NO_ACKNOWLEDGEMENT])
async def test_a_request_that_never_came_is_sent_on_another_connection(server: Server, program: Program) -> None:
    """As soon as one is idle; it was no attempt, and no other answer waits for minutes."""
    objects = MemoryObjects()
    for name in ("a", "b"):
        objects.add(f"s3://b/in/{name}.csv", b"1")
    first, second = await list_inputs(objects, job())
    is_full = asyncio.Event()

    async def pages() -> AsyncIterator[Sequence[InputObject]]:
        yield [first]
        await is_full.wait()
        yield [second]

    async with InputStream(pages(), folder=Path()) as inputs:
        running = asyncio.create_task(
            run_transform(
                job(max_concurrent_transforms=2),
                inputs,
                objects=objects,
                address=server.address,
                effective=EffectiveSettings(max_concurrent_transforms=2),
                data_log=lambda line: None,
                on_progress=lambda progress: None,
                stop=asyncio.Event(),
                commit_guard=no_guard,
                clock=SystemClock(),
                limits=Limits(tick_seconds=0.05),
            )
        )
        await server.asked.wait()
        server.take_no_more(program)
        is_full.set()
        await server.is_knocked_at()
        server.go.set()
        outcome = await asyncio.wait_for(running, 30)
    assert server.connections == 1
    assert [objects.data(f"s3://b/out/{name}.csv.out") for name in ("a", "b")] == [b"ok", b"ok"]
    assert (outcome.progress.requests, outcome.progress.retries) == (2, 0)
