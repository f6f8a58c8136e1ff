"""Answers on real sockets: files that leave by sendfile, and small writes that leave together."""

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import uvloop

from millrace import http
from millrace.clock import SystemClock
from millrace.http.gathering import GATHERED_BYTES, GatheringTransport
from millrace.protocol.message import FileRegion, Request, Response
from millrace.settings import Settings
from millrace.testing.keys import MemoryKeyStore

SIZE = 12 * 1024 * 1024 + 17
WAIT_SECONDS = 30


class FileServer:
    """Serves regions of one file at /_millrace/file?START-LENGTH, and knows which are done with."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.port = 0
        self.descriptors: list[int] = []
        self.answered = threading.Semaphore(0)

    async def answer(self, request: Request) -> Response:
        start, length = map(int, request.query.split(b"-"))
        descriptor = os.open(self.path, os.O_RDONLY)
        self.descriptors.append(descriptor)
        return Response(status=200, body=FileRegion(self.path, start, length, descriptor))

    def connect(self, *, receive_bytes: int | None = None) -> socket.socket:
        client = socket.socket()
        client.settimeout(WAIT_SECONDS)
        if receive_bytes is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        client.connect(("127.0.0.1", self.port))
        return client

    def assert_all_closed(self) -> None:
        inode = self.path.stat().st_ino
        for descriptor in self.descriptors:
            with suppress(OSError):  # the number may be another file's by now
                assert os.fstat(descriptor).st_ino != inode


@contextmanager
def _serving(path: Path, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> Iterator[FileServer]:
    files = FileServer(path)
    app = http.app(
        {},
        keys=MemoryKeyStore([]),
        settings=Settings(),
        clock=SystemClock(),
        extra={"/_millrace/file": files.answer},
        on_exchange=[lambda exchange: files.answered.release()],
    )
    ready = threading.Event()
    stopping: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def main() -> None:
        stopping.append((asyncio.get_running_loop(), asyncio.Event()))

        def on_ready(host: str, port: int) -> None:
            files.port = port
            ready.set()

        await http.serve(app, "127.0.0.1", 0, on_ready, stop=stopping[0][1], handle_signals=False)

    def run() -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(WAIT_SECONDS)
    try:
        yield files
    finally:
        loop, stop = stopping[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join(WAIT_SECONDS)


@pytest.fixture
def content() -> bytes:
    return os.urandom(SIZE)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def files(request: pytest.FixtureRequest, tmp_path: Path, content: bytes) -> Iterator[FileServer]:
    """A server of a file of 12 MiB, on both event loops."""
    path = tmp_path / "file"
    path.write_bytes(content)
    with _serving(path, request.param) as served:
        yield served


def _ask(start: int, length: int) -> bytes:
    return b"GET /_millrace/file?%d-%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % (start, length)


def _read_answer(client: socket.socket, pending: bytes = b"", *, piece: int = 1 << 20) -> tuple[bytes, bytes]:
    """Return the body of the next answer, and what came after it."""
    while b"\r\n\r\n" not in pending:
        pending += client.recv(piece)
    head, _, rest = pending.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    received = bytearray(rest)
    while len(received) < length:
        more = client.recv(piece)
        assert more, f"the connection ended after {len(received)} of {length} bytes"
        received += more
    return bytes(received[:length]), bytes(received[length:])


def test_requests_that_come_at_once_are_answered_in_order(files: FileServer, content: bytes) -> None:
    """Whole files, ranges and small pieces follow each other on one connection, byte for byte."""
    regions = [(0, SIZE), (5, 3), (1_000_003, 70_000), (SIZE - 1, 1), (7, SIZE - 7), (9, 0)]
    with files.connect() as client:
        client.sendall(b"".join(_ask(start, length) for start, length in regions))
        pending = b""
        for start, length in regions:
            body, pending = _read_answer(client, pending)
            assert body == content[start : start + length]
    for _ in regions:
        assert files.answered.acquire(timeout=WAIT_SECONDS)
    files.assert_all_closed()


def test_a_slow_reader_gets_all_of_a_file(files: FileServer, content: bytes) -> None:
    """The server waits for a client with a small window, and its connection can be used again."""
    with files.connect(receive_bytes=4096) as client:
        client.sendall(_ask(0, SIZE))
        body, pending = _read_answer(client, piece=32 * 1024)
        assert body == content
        client.sendall(_ask(1, 4))
        assert _read_answer(client, pending) == (content[1:5], b"")


def test_others_are_answered_while_a_reader_takes_nothing(files: FileServer, content: bytes) -> None:
    """A client that does not read holds up nobody; when it goes, the file is closed."""
    with files.connect() as idle, files.connect() as client:
        idle.sendall(_ask(0, SIZE))
        assert idle.recv(1, socket.MSG_PEEK)
        client.sendall(_ask(0, SIZE))
        assert _read_answer(client) == (content, b"")
        assert files.answered.acquire(timeout=WAIT_SECONDS)
    assert files.answered.acquire(timeout=WAIT_SECONDS)
    files.assert_all_closed()


def test_a_file_that_was_cut_ends_the_connection(files: FileServer) -> None:
    """An answer is never filled up: the client sees that bytes are missing."""
    with files.connect() as client:
        client.sendall(_ask(0, SIZE + 1))
        with pytest.raises(AssertionError, match="the connection ended"):
            _read_answer(client)
    assert files.answered.acquire(timeout=WAIT_SECONDS)
    files.assert_all_closed()


class Recorder(asyncio.Transport):
    """A transport that keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))

    def writelines(self, list_of_data: object) -> None:
        assert isinstance(list_of_data, tuple)
        self.writes.append(b"".join(list_of_data))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def get_write_buffer_size(self) -> int:
        return 0


async def test_head_and_body_of_an_answer_leave_together() -> None:
    """Two writes of one turn are one; large bodies are not copied for it."""
    inner = Recorder()
    transport = GatheringTransport(inner, asyncio.get_running_loop())
    transport.write(b"head")
    transport.write(b"")
    assert (inner.writes, transport.get_write_buffer_size()) == ([], 4)
    transport.write(b"body")
    large = bytes(GATHERED_BYTES + 1)
    transport.write(b"head")
    transport.write(large)
    transport.write(large)
    assert inner.writes == [b"headbody", b"head" + large, large]


async def test_what_nothing_follows_leaves_at_the_end_of_the_turn() -> None:
    """The head of a streamed answer does not wait for the first piece of its body."""
    inner = Recorder()
    transport = GatheringTransport(inner, asyncio.get_running_loop())
    transport.write(b"head")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert inner.writes == [b"head"]


async def test_closing_sends_what_is_held_back() -> None:
    """Nothing of an answer is lost when the connection is closed after it."""
    inner = Recorder()
    transport = GatheringTransport(inner, asyncio.get_running_loop())
    transport.write(b"last")
    transport.close()
    assert (inner.writes, inner.closed) == ([b"last"], True)
