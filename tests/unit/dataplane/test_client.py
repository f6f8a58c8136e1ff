"""Tests of the HTTP client against real sockets."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import cast

import pytest

from millrace.dataplane.client import (
    AnswerTooLarge,
    Client,
    ConnectionFailed,
    InvocationTimeout,
    open_connection,
    request_head,
)
from millrace.ports.runtime import Address
from millrace.testing.accepting import close_server
from millrace.testing.model_server import CLOSE, ModelReply, ModelRequest, ModelServer


async def echo(request: ModelRequest) -> ModelReply:
    return ModelReply(request.body, headers=(("X-Path", request.path), ("X-Method", request.method)))


class RawServer:
    """Answers every request with the same bytes, as they are; closes after them if told to."""

    def __init__(self, answer: bytes, *, close: bool = False) -> None:
        self.answer = answer
        self.close = close
        self.connections: list[RawConnection] = []

    async def __aenter__(self) -> "RawServer":
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: RawConnection(self), "127.0.0.1", 0)
        self.address = Address(port=self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        await close_server(self._server)
        for connection in self.connections:
            connection.transport.abort()
        await asyncio.gather(*(connection.lost.wait() for connection in self.connections))


class RawConnection(asyncio.Protocol):
    """One connection to a RawServer; requests have no body."""

    def __init__(self, server: RawServer) -> None:
        self._server = server
        self._received = b""
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._server.connections.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._received.endswith(b"\r\n\r\n"):
            self._received = b""
            self.transport.write(self._server.answer)
            if self._server.close:
                self.transport.close()


async def test_an_answer_has_status_headers_and_body() -> None:
    """Headers are read by lower-case name."""
    async with ModelServer(echo) as server, Client(server.address) as client:
        answer = await client.invoke("POST", "/some/path", (("Content-Type", "text/csv"),), b"1,2\n")
    assert (answer.status, answer.body) == (200, b"1,2\n")
    assert (answer.header("x-path"), answer.header("x-method"), answer.header("none")) == ("/some/path", "POST", None)
    assert server.requests[0].headers["content-type"] == "text/csv"
    assert server.requests[0].headers["content-length"] == "4"
    assert "expect" not in server.requests[0].headers


async def test_a_unix_socket_works_like_a_port(tmp_path: Path) -> None:
    """A path stands for host and port."""
    async with ModelServer(echo, path=str(tmp_path / "s")) as server, Client(server.address) as client:
        assert (await client.invoke("POST", "/", body=b"x")).body == b"x"
    assert server.requests[0].headers["host"] == "localhost"


async def test_connections_are_reused() -> None:
    """One call after the other takes one connection."""
    async with RawServer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") as server, Client(server.address) as client:
        for _ in range(3):
            assert (await client.invoke("GET", "/", timeout_seconds=20)).body == b"ok"
        assert len(server.connections) == 1


@pytest.mark.parametrize(
    ("raw", "close", "status", "body"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", True, 200, b"until the end"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx", True, 200, b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", False, 200, b"abc"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", False, 200, b"x"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", False, 204, b""),
        (b"HTTP/1.1 500 Broken\r\nContent-Length: 4\r\n\r\noops", False, 500, b"oops"),
    ],
)
async def test_every_framing_is_read(raw: bytes, close: bool, status: int, body: bytes) -> None:
    """Bodies end by length, by chunks, by status or with the connection; twice in a row."""
    async with RawServer(raw, close=close) as server, Client(server.address) as client:
        for _ in range(2):
            answer = await client.invoke("GET", "/", timeout_seconds=20)
            assert (answer.status, answer.body) == (status, body)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", "closed the connection"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "closed the connection"),
        (b"SSH-2.0-OpenSSH\r\n", "no HTTP/1.1"),
        (b"", "closed the connection"),
    ],
)
async def test_a_broken_answer_is_an_error(raw: bytes, text: str) -> None:
    """An answer that is cut short or no HTTP is no answer."""
    async with RawServer(raw, close=True) as server, Client(server.address) as client:
        with pytest.raises(ConnectionFailed, match=text):
            await client.invoke("GET", "/", timeout_seconds=20)


async def test_a_second_answer_in_one_segment_is_dropped() -> None:
    """One request has one answer: what else came with it is not mixed in, and the connection is not used again."""
    raw = b"HTTP/1.1 200 OK\r\nX-N: 1\r\nContent-Length: 3\r\n\r\none"
    raw += b"HTTP/1.1 500 No\r\nX-N: 2\r\nContent-Length: 3\r\n\r\ntwo"
    async with RawServer(raw) as server, Client(server.address) as client:
        for count in (1, 2):
            answer = await client.invoke("GET", "/", timeout_seconds=20)
            assert (answer.status, answer.header("x-n"), answer.body) == (200, "1", b"one")
            assert len(server.connections) == count


async def test_nobody_listening_is_named() -> None:
    """A refused connection tells the address."""
    async with RawServer(b"") as server:
        address = server.address
    async with Client(address) as client:
        with pytest.raises(ConnectionFailed, match=str(address)):
            await client.invoke("GET", "/", timeout_seconds=20)


async def test_a_connection_closed_while_idle_is_replaced() -> None:
    """A server that lost patience with an idle connection costs no failed call."""
    async with ModelServer(echo) as server, Client(server.address) as client:
        for _ in range(3):
            assert (await client.invoke("POST", "/", body=b"x")).body == b"x"
            server.close_connections()


async def test_a_stale_connection_is_not_an_attempt() -> None:
    """A reused connection that is closed on the request is replaced once; a fresh one that is closed is an error."""
    replies = [ModelReply(b"1"), CLOSE, ModelReply(b"2"), CLOSE, CLOSE]

    async def behave(request: ModelRequest) -> ModelReply:
        return replies.pop(0)

    async with ModelServer(behave) as server, Client(server.address) as client:
        assert (await client.invoke("POST", "/")).body == b"1"
        assert (await client.invoke("POST", "/")).body == b"2"
        with pytest.raises(ConnectionFailed):
            await client.invoke("POST", "/")
    assert replies == []


async def test_a_late_answer_is_a_timeout() -> None:
    """The time-out covers the whole answer and names itself; the connection is not used again."""

    async def behave(request: ModelRequest) -> ModelReply:
        if request.path == "/slow":
            await asyncio.Event().wait()
        return ModelReply(b"quick")

    async with ModelServer(behave) as server, Client(server.address) as client:
        with pytest.raises(InvocationTimeout, match=r"0\.01 seconds"):
            await client.invoke("POST", "/slow", timeout_seconds=0.01)
        assert (await client.invoke("POST", "/")).body == b"quick"


async def test_large_bodies_pass_in_pieces() -> None:
    """A body of several buffers arrives as one, and a large answer comes back whole."""
    parts: list[bytes | memoryview] = [b"a" * 3_000_000, memoryview(b"b" * 3_000_000), b"c"]
    async with ModelServer(echo) as server, Client(server.address) as client:
        answer = await client.invoke("POST", "/", body=parts)
    assert answer.body == b"".join(parts)


@pytest.mark.parametrize(
    ("head", "size", "got"),
    [
        (b"Content-Length: 5\r\n\r\n", 5, "got 5$"),
        (b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n", None, "got more$"),
        (b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n", None, "got more$"),
    ],
)
async def test_an_answer_longer_than_asked_for_is_refused(head: bytes, size: int | None, got: str) -> None:
    """Whether its length is declared or only seen, and without waiting for its end; the next call is not disturbed."""
    async with RawServer(b"HTTP/1.1 200 OK\r\n" + head) as server, Client(server.address) as client:
        for _ in range(2):
            with pytest.raises(AnswerTooLarge, match=f"must be at most 4 bytes, {got}") as caught:
                await client.invoke("GET", "/", timeout_seconds=20, max_answer_bytes=4)
            assert (caught.value.limit, caught.value.status, caught.value.size) == (4, 200, size)


@pytest.mark.parametrize("body", [b"", b"abc", b"abcd"])
async def test_an_answer_within_its_limit_is_taken(body: bytes) -> None:
    """The limit itself is allowed, and the connection stays."""
    async with ModelServer(echo) as server, Client(server.address) as client:
        for _ in range(2):
            assert (await client.invoke("POST", "/", body=body, max_answer_bytes=4)).body == body


def produce(count: int, size: int) -> Callable[[], AsyncIterator[bytes]]:
    async def chunks() -> AsyncIterator[bytes]:
        for number in range(count):
            yield b"%d" % (number % 10) * size
        yield b""

    return chunks


async def test_a_body_of_unknown_length_is_sent_chunked() -> None:
    """An iterator as body needs no length."""
    async with ModelServer(echo) as server, Client(server.address) as client:
        answer = await client.invoke("POST", "/", body=produce(3, 2)())
    assert answer.body == b"001122"
    assert server.requests[0].headers["transfer-encoding"] == "chunked"


async def test_a_server_may_answer_while_it_reads() -> None:
    """Sending does not wait for reading: an answer as large as the request passes, piece by piece."""

    async def mirror(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        ended = False
        while not ended:
            data = await reader.read(65536)
            ended = data.endswith(b"0\r\n\r\n")
            writer.write(data)  # the request's own chunks are the answer's
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(mirror, "127.0.0.1", 0)
    address = Address(port=server.sockets[0].getsockname()[1])
    count = 0
    async with server, Client(address) as client, client.stream("POST", "/", body=produce(40, 500_000)()) as answer:
        async for piece in answer:
            count += len(piece)
    assert count == 20_000_000


async def test_a_failing_body_ends_the_call() -> None:
    """What the body's iterator raises reaches the caller."""

    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise LookupError("the source is gone")

    async with ModelServer(echo) as server, Client(server.address) as client:
        with pytest.raises(LookupError, match="the source is gone"):
            await client.invoke("POST", "/", body=broken())


async def test_leaving_a_stream_early_drops_the_connection() -> None:
    """The rest of an answer that nobody reads does not disturb the next call."""

    async def behave(request: ModelRequest) -> ModelReply:
        return ModelReply(b"x" * 5_000_000 if request.path == "/long" else b"short")

    async with ModelServer(behave) as server, Client(server.address) as client:
        async with client.stream("POST", "/long") as answer:
            assert answer.status == 200
        assert (await client.invoke("POST", "/")).body == b"short"


async def test_calls_beyond_the_bound_wait() -> None:
    """No more connections are open at a time than allowed."""
    async with ModelServer(echo) as server, Client(server.address, max_connections=2) as client:
        answers = await asyncio.gather(*(client.invoke("POST", "/invocations", body=b"%d" % n) for n in range(20)))
        assert [answer.body for answer in answers] == [b"%d" % n for n in range(20)]
        assert server.most_in_flight <= 2


def test_a_header_cannot_break_out() -> None:
    """A header value with a line end is refused by name."""
    with pytest.raises(ValueError, match="header Accept must not contain control characters"):
        request_head("POST", "/", Address(port=1), (("Accept", "a\r\nX-Evil: 1"),))


async def test_an_open_answer_gives_its_connection_back_when_it_was_read() -> None:
    """The next request goes over the same connection; an answer that was not read to its end costs one."""
    async with ModelServer(echo) as server, Client(server.address, max_connections=1) as client:
        for body in (b"first", b"second"):
            answer = await client.open("POST", "/", body=body, head_timeout_seconds=20, timeout_seconds=20)
            assert (answer.status, dict(answer.headers)["x-path"]) == (200, "/")
            assert b"".join([piece async for piece in answer]) == body
            answer.close()
            answer.close()
        assert len(server._connections) == 1
        unread = await client.open("POST", "/", body=b"x" * 5_000_000, head_timeout_seconds=20, timeout_seconds=20)
        unread.close()
        assert (await client.invoke("POST", "/", body=b"x")).body == b"x"


async def test_an_open_answer_comes_piece_by_piece_and_may_break_off() -> None:
    """A reader gets what there is before he learns that there is no more."""
    async with RawServer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", close=True) as server:
        client = Client(server.address)
        answer = await client.open("GET", "/", head_timeout_seconds=20, timeout_seconds=20)
        pieces = aiter(answer)
        assert await anext(pieces) == b"half"
        with pytest.raises(ConnectionFailed):
            await anext(pieces)
        answer.close()
        client.close()


async def test_an_open_answer_has_a_time_for_its_head_and_one_for_its_body() -> None:
    """The first is told by opening, the second by reading."""
    async with RawServer(b"") as server:
        client = Client(server.address)
        with pytest.raises(InvocationTimeout, match=r"0\.01 seconds"):
            await client.open("GET", "/", head_timeout_seconds=0.01, timeout_seconds=20)
        client.close()
    async with RawServer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf") as server:
        client = Client(server.address)
        answer = await client.open("GET", "/", head_timeout_seconds=20, timeout_seconds=0.01)
        pieces = aiter(answer)
        assert await anext(pieces) == b"half"
        with pytest.raises(InvocationTimeout, match=r"0\.01 seconds"):
            await anext(pieces)
        answer.close()
        client.close()


async def test_answers_that_cannot_come_free_their_place() -> None:
    """A limit of one connection is not used up by failures."""
    client = Client(Address(port=9), max_connections=1)
    for _ in range(3):
        with pytest.raises(ConnectionFailed):
            await client.open("GET", "/", head_timeout_seconds=20, timeout_seconds=20)
    client.close()


async def test_a_kept_connection_keeps_its_limits() -> None:
    """Timeout, length of the answer and loss of the connection are told on it as on a new one."""
    late = asyncio.Event()

    async def behaviour(request: ModelRequest) -> ModelReply:
        if request.path == "/late":
            await late.wait()
        return CLOSE if request.path == "/close" else ModelReply(request.body)

    async with ModelServer(behaviour) as server, Client(server.address, max_connections=1) as client:
        for path, error in (("/late", InvocationTimeout), ("/close", ConnectionFailed), ("/", AnswerTooLarge)):
            assert (await client.invoke("POST", "/", body=b"warm")).body == b"warm"
            with pytest.raises(error):
                await client.invoke("POST", path, body=b"12345", timeout_seconds=0.05, max_answer_bytes=4)
        late.set()
        assert (await client.invoke("POST", "/", body=[b"in ", b"parts"])).body == b"in parts"


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_server_that_dies_of_a_request_is_not_taken_for_one_that_was_absent(streamed: bool) -> None:
    """Somebody who asks another server instead would have it die, too."""
    async with ModelServer(echo) as server:
        client = Client(server.address)
        assert (await client.invoke("POST", "/", body=b"warm")).body == b"warm"
        server._server.close()
        server.close_connections()
        with pytest.raises(ConnectionFailed, match="the connection was lost before an answer came; then") as raised:
            if streamed:
                await client.open("POST", "/", body=b"x", head_timeout_seconds=20, timeout_seconds=20)
            else:
                await client.invoke("POST", "/", body=b"x")
        assert not raised.value.absent
        client.close()


@pytest.mark.skipif(not hasattr(socket, "TCP_CONGESTION"), reason="the system has one congestion control")
async def test_requests_to_this_machine_are_sent_as_fast_as_they_are_taken() -> None:
    """Whatever the host uses for networks, such as BBR with its timers, does not hold local payloads up."""
    async with ModelServer(echo) as server:
        connection = await open_connection(server.address)
        local = connection.transport.get_extra_info("socket")
        assert local.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0") == b"reno"
        assert local.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        connection.abort()
