"""Requests pass the containers of a model in order, over real sockets; failures name the container."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.agents.chain import ERROR_BYTES, Chain, ChainLimits, Failure, Link, named_failure, plain_failure
from millrace.agents.chain_server import serve_chain
from millrace.dataplane.client import Answer, Client, ConnectionFailed
from millrace.ports.runtime import Address
from millrace.testing.model_server import CLOSE, Behaviour, Endless, ModelReply, ModelRequest, ModelServer

MIB = 1024 * 1024
LIMITS = ChainLimits(answer_bytes=4 * MIB, held_bytes=4 * MIB, seconds=600.0)


def says(word: bytes, *headers: tuple[str, str]) -> Behaviour:
    """Answer with the body and a word behind it."""

    async def behave(request: ModelRequest) -> ModelReply:
        return ModelReply(body=request.body + word, headers=headers)

    return behave


def answers(reply: ModelReply) -> Behaviour:
    async def behave(request: ModelRequest) -> ModelReply:
        return reply

    return behave


async def never(request: ModelRequest) -> ModelReply:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


class Rig:
    """A chain of model servers, and a client of it."""

    def __init__(self, servers: Sequence[ModelServer], client: Client) -> None:
        self.servers = servers
        self.client = client

    async def ask(self, body: Any = b"x", *headers: tuple[str, str], path: str = "/invocations") -> Answer:
        method = "POST" if path == "/invocations" else "GET"
        return await self.client.invoke(method, path, headers, body)


MakeRig = Callable[..., Awaitable[Rig]]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[MakeRig]:
    """Return what starts a chain of containers that behave as told."""
    async with AsyncExitStack() as stack:

        async def make_rig(*parts: Behaviour | Address, limits: ChainLimits = LIMITS, folder: Path = tmp_path) -> Rig:
            servers, links = [], []
            for number, part in enumerate(parts, start=1):
                if not isinstance(part, Address):
                    server = await stack.enter_async_context(ModelServer(part))
                    servers.append(server)
                    part = server.address
                links.append(Link(name=f"container-{number}", address=part))
            chain = Chain(links, limits=limits, failure_body=named_failure)
            address = await stack.enter_async_context(serve_chain(chain, folder))
            return Rig(servers, await stack.enter_async_context(Client(address)))

        yield make_rig


@pytest.mark.spec("B §7")
async def test_each_answer_is_the_next_request(make: MakeRig) -> None:
    """In the order of the model; the last answer is the result."""
    rig = await make(says(b"1"), says(b"2"), says(b"3"))
    answer = await rig.ask(b"x")
    assert (answer.status, answer.body) == (200, b"x123")
    assert [server.bodies for server in rig.servers] == [[b"x"], [b"x1"], [b"x12"]]


@pytest.mark.spec("B §7")
async def test_the_type_of_an_answer_goes_with_its_body(make: MakeRig) -> None:
    """The first container gets the request's type, every one the request's Accept and attributes."""
    rig = await make(says(b"1", ("Content-Type", "application/json")), says(b"2"), says(b"3", ("Content-Type", "a/b")))
    wanted = (
        ("Content-Type", "text/csv"),
        ("Accept", "text/plain"),
        ("X-Amzn-SageMaker-Custom-Attributes", "trace-1"),
    )
    answer = await rig.ask(b"x", *wanted)
    assert answer.header("content-type") == "a/b"
    seen = [server.requests[0].headers for server in rig.servers]
    assert [it.get("content-type") for it in seen] == ["text/csv", "application/json", None]
    assert [it["accept"] for it in seen] == ["text/plain"] * 3
    assert [it["x-amzn-sagemaker-custom-attributes"] for it in seen] == ["trace-1"] * 3
    assert [it["content-length"] for it in seen] == ["1", "2", "3"]


async def test_headers_of_one_connection_are_not_passed_on(make: MakeRig) -> None:
    """The rest of the last answer's headers is."""
    last = says(b"", ("Server", "gunicorn"), ("Keep-Alive", "timeout=5"), ("X-Amzn-SageMaker-Custom-Attributes", "t"))
    rig = await make(says(b"", ("X-First", "1")), last)
    answer = await rig.ask()
    assert answer.headers == (("x-amzn-sagemaker-custom-attributes", "t"), ("content-length", "1"))


@pytest.mark.spec("B §7")
@pytest.mark.parametrize("status", [301, 400, 429, 500, 503])
async def test_an_answer_that_is_no_success_ends_the_passage(make: MakeRig, status: int) -> None:
    """With its own status; the body begins with the container's name, and a header has it too."""
    refusal = ModelReply(body=b"no such column", status=status, headers=(("Retry-After", "7"),))
    rig = await make(says(b"1"), answers(refusal), says(b"3"))
    answer = await rig.ask()
    assert (answer.status, answer.body) == (status, b"container-2: no such column")
    assert answer.header("x-millrace-container") == "container-2"
    assert answer.header("x-millrace-failure") is None
    assert answer.header("retry-after") == "7"
    assert rig.servers[2].requests == []


@pytest.mark.parametrize("last", [False, True])
async def test_of_a_long_error_page_the_beginning_is_passed_on(make: MakeRig, last: bool) -> None:
    """Wherever in the chain it comes."""
    page = answers(ModelReply(body=b"y" * MIB, status=500))
    rig = await make(*((says(b"1"), page) if last else (page, says(b"2"))))
    answer = await rig.ask()
    name = b"container-2" if last else b"container-1"
    assert answer.body == name + b": " + b"y" * ERROR_BYTES
    assert (await rig.ask()).status == 500


@pytest.mark.parametrize("place", [1, 2, 3])
async def test_a_container_that_drops_the_connection_is_named(make: MakeRig, place: int) -> None:
    """A status that the data plane tries again after, and the reason."""
    behaviours = [says(b"1"), says(b"2"), says(b"3")]
    behaviours[place - 1] = answers(CLOSE)
    rig = await make(*behaviours)
    answer = await rig.ask()
    assert answer.status == 502
    assert answer.body == f"container-{place}: the server closed the connection".encode()
    assert answer.header("x-millrace-container") == f"container-{place}"
    assert answer.header("x-millrace-failure") == "no-answer"


async def test_a_container_that_is_gone_is_named(make: MakeRig) -> None:
    """Nobody listens any more."""
    rig = await make(says(b"1"), says(b"2"))
    await rig.servers[1].__aexit__()
    answer = await rig.ask()
    assert (answer.status, answer.header("x-millrace-container")) == (502, "container-2")
    rig.servers[1]._server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)


@pytest.mark.parametrize("place", [1, 2])
async def test_a_slow_container_is_named(make: MakeRig, place: int) -> None:
    """The time is that of the whole passage."""
    behaviours = [says(b"1"), says(b"2")]
    behaviours[place - 1] = never
    rig = await make(*behaviours, limits=ChainLimits(answer_bytes=MIB, held_bytes=MIB, seconds=0.05))
    answer = await rig.ask()
    assert answer.status == 504
    assert answer.body == f"container-{place}".encode()
    assert answer.header("x-millrace-failure") == "timeout"


async def test_an_answer_too_large_to_hold_is_refused_between_containers(make: MakeRig) -> None:
    """The limit and the container are named; the next one is not asked."""
    limits = ChainLimits(answer_bytes=1000, held_bytes=1000, seconds=600.0)
    rig = await make(says(b"y" * 1000), says(b"2"), limits=limits)
    answer = await rig.ask(b"x")
    assert (answer.status, answer.header("x-millrace-failure")) == (500, "too-large")
    assert answer.body.startswith(b"container-1: it must have at most 1000 bytes (MILLRACE_MAX_ANSWER_BYTES), got 1001")
    assert rig.servers[1].requests == []
    assert (await rig.ask(b"")).body == b"y" * 1000 + b"2"


async def test_large_bodies_pass_unharmed(make: MakeRig) -> None:
    """Requests, answers between containers, and results of several megabytes; each with its length."""
    body = b"0123456789abcdef" * (MIB // 8)
    rig = await make(says(b"1"), says(b"2"))
    answer = await rig.ask(body)
    assert answer.body == body + b"12"
    assert rig.servers[0].requests[0].headers["content-length"] == str(len(body))
    assert answer.header("content-length") == str(len(body) + 2)


async def chunks(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def test_a_request_without_a_length_passes_as_it_comes(make: MakeRig) -> None:
    """Each container gets it chunked; nothing is held, so no limit on what is held applies."""
    body = [b"0123456789abcdef" * (MIB // 16)] * 6
    rig = await make(
        says(b"1", ("Content-Type", "a/b")), says(b"2"), limits=ChainLimits(answer_bytes=1, held_bytes=1, seconds=600.0)
    )
    answer = await rig.ask(chunks(*body))
    assert answer.body == b"".join(body) + b"12"
    assert [server.requests[0].headers.get("transfer-encoding") for server in rig.servers] == ["chunked", "chunked"]
    assert rig.servers[1].requests[0].headers["content-type"] == "a/b"
    assert (await rig.ask(b"x", *())).status == 500  # what is held is at most a byte here
    assert (await rig.ask(chunks(b"x"))).body == b"x12"


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield b"y" * 65536


async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer as soon as a request begins, and for ever."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    with suppress(ConnectionError):
        while True:
            writer.write(b"1000\r\n" + b"z" * 4096 + b"\r\n")
            await writer.drain()
            await reader.read(65536)
    writer.close()


async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer as soon as a request begins, and read no more of it."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
    with suppress(ConnectionError):
        while await reader.read(65536):
            pass
    writer.close()


@asynccontextmanager
async def played(serve: Callable[..., Awaitable[None]]) -> AsyncIterator[Address]:
    """Have a container's part played by a function that reads and writes as it likes, once for each connection."""
    playing: set[asyncio.Task[None]] = set()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        playing.add(task)
        try:
            await serve(reader, writer)
        finally:
            playing.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(play, "127.0.0.1", 0)
    async with server:
        yield Address(port=server.sockets[0].getsockname()[1])
        for task in playing:
            task.cancel()
        while playing:
            await asyncio.sleep(0)


@pytest.mark.parametrize("place", [1, 2])
async def test_a_refusal_need_not_wait_for_the_end_of_the_request(make: MakeRig, place: int) -> None:
    """A container that answers while it still reads is heard, and the connection can be used again."""
    async with played(pour) as pouring, played(refuse) as refusing:
        rig = await make(*((pouring, refusing) if place == 2 else (refusing, says(b"2"))))
        answer = await rig.ask(endless())
    assert (answer.status, answer.body) == (413, f"container-{place}: big".encode())


async def endless_echo(request: ModelRequest) -> ModelReply:
    return ModelReply(body=b"z" * 65536, endless=Endless.BODY)


async def test_a_streamed_answer_is_passed_on_piece_by_piece(make: MakeRig) -> None:
    """The beginning is there before the end is."""
    rig = await make(says(b"1"), endless_echo)
    async with rig.client.stream("POST", "/invocations", (), b"x") as answer:
        pieces = aiter(answer)
        assert set(await anext(pieces)) == {ord("z")}
        assert set(await anext(pieces)) == {ord("z")}


async def test_an_answer_that_breaks_off_breaks_off(make: MakeRig) -> None:
    """Once its head is passed on, there is no other way to tell."""

    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        await writer.drain()
        writer.close()

    async with played(half) as breaking:
        rig = await make(says(b"1"), breaking)
        with pytest.raises(ConnectionFailed):
            await rig.ask(b"x")


async def test_a_client_that_goes_away_ends_the_request(make: MakeRig) -> None:
    """The container sees it: the connection to it is closed, for its answer would have no reader."""
    closed = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await reader.read()
        closed.set()
        writer.close()

    asked = asyncio.Event()
    async with played(listen) as listening:
        rig = await make(says(b"1"), listening)
        asking = asyncio.create_task(rig.ask(b"x"))
        await asked.wait()
        asking.cancel()
        await closed.wait()


async def test_connections_are_kept_and_requests_run_beside_each_other(make: MakeRig) -> None:
    """As many at a time as are sent."""
    gate = asyncio.Event()

    async def wait(request: ModelRequest) -> ModelReply:
        await gate.wait()
        return ModelReply(body=request.body)

    rig = await make(says(b"1"), wait)
    asking = [asyncio.create_task(rig.ask(b"%d" % number)) for number in range(20)]
    await rig.servers[1].received(20)
    gate.set()
    assert [(await it).body for it in asking] == [b"%d1" % number for number in range(20)]
    assert len(rig.servers[0]._connections) <= 20
    await rig.ask(b"x")
    assert len(rig.servers[0]._connections) <= 20


@pytest.mark.spec("B §7")
async def test_anything_but_invocations_is_the_first_container_s_to_answer(make: MakeRig) -> None:
    """So its settings are the chain's."""
    rig = await make(answers(ModelReply(body=b'{"MaxConcurrentTransforms": 4}')), says(b"2"))
    answer = await rig.ask(b"", ("Connection", "close"), path="/execution-parameters")
    assert answer.body == b'{"MaxConcurrentTransforms": 4}'
    assert rig.servers[0].requests[0].headers["connection"] == "close"  # one thread may be all that the server has
    assert rig.servers[1].requests == []


@pytest.mark.spec("C §5.7")
async def test_a_named_container_is_asked_alone(make: MakeRig) -> None:
    """The name itself is not for the container; one that is not there is told."""
    rig = await make(says(b"1"), says(b"2"))
    target = "X-Amzn-SageMaker-Target-Container-Hostname"
    assert (await rig.ask(b"x", (target, "container-2"))).body == b"x2"
    assert target.lower() not in rig.servers[1].requests[0].headers
    refused = await rig.ask(b"x", (target, "other"))
    assert refused.status == 400
    assert b"no container 'other'; the model has container-1, container-2" in refused.body


async def test_where_a_socket_s_path_would_be_too_long_a_port_is_taken(make: MakeRig, tmp_path: Path) -> None:
    """Of loopback."""
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    rig = await make(says(b"1"), says(b"2"), folder=folder)
    assert rig.client.address.port
    assert (await rig.ask(b"x")).body == b"x12"


async def test_the_socket_of_a_killed_agent_is_replaced(make: MakeRig, tmp_path: Path) -> None:
    """Its file is still there."""
    (tmp_path / "chain.sock").touch()
    rig = await make(says(b"1"), says(b"2"))
    assert rig.client.address.path == str(tmp_path / "chain.sock")
    assert (await rig.ask(b"x")).body == b"x12"


async def raw(rig: Rig) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    assert rig.client.address.path is not None
    return await asyncio.open_unix_connection(rig.client.address.path)


async def read_answer(reader: asyncio.StreamReader) -> bytes:
    """Return the body of the next answer, which must have a length."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    return await reader.readexactly(int(length.partition(b":")[2]))


def invocation(body: bytes, *, last: bool = True) -> bytes:
    """Return a request, its length the last of its headers, as a part of ours sends it, or not."""
    length = b"Content-Length: %d\r\n" % len(body)
    other = b"Content-Type: text/csv\r\n"
    return b"POST /invocations HTTP/1.1\r\nHost: x\r\n%b\r\n%b" % (other + length if last else length + other, body)


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("size", [1, 7, 40, 200, 5000])
async def test_requests_are_whole_however_they_are_cut(make: MakeRig, size: int, last: bool) -> None:
    """Whether their heads are known already, and whether they come in one segment or in many."""
    rig = await make(says(b"1"), says(b"2"))
    reader, writer = await raw(rig)
    bodies = [b"", b"x" * 100, b"a\r\n\r\nContent-Length: 3\r\n\r\n", b"y" * 1000]
    for body in [*bodies, *bodies]:
        request = invocation(body, last=last)
        for start in range(0, len(request), size):
            writer.write(request[start : start + size])
            await writer.drain()
            await asyncio.sleep(0)
        assert await read_answer(reader) == body + b"12"
    writer.close()
    assert rig.servers[0].bodies == [*bodies, *bodies]
    assert {it.headers["content-type"] for it in rig.servers[0].requests} == {"text/csv"}


async def test_a_second_request_before_the_answer_is_refused(make: MakeRig) -> None:
    """Nothing of ours does that, and answers could be taken for each other's."""
    rig = await make(says(b"1"), never)
    reader, writer = await raw(rig)
    writer.write(invocation(b"first") + invocation(b"second"))
    with suppress(ConnectionError):
        assert await reader.read() == b""
    writer.close()
    known, after = await raw(rig)
    after.write(invocation(b"first"))
    await rig.servers[1].received(1)
    after.write(invocation(b"second"))
    with suppress(ConnectionError):
        assert await known.read() == b""
    after.close()


async def test_a_kept_connection_that_a_container_has_closed_is_no_failure(make: MakeRig) -> None:
    """The request is sent again on a new one; nobody hears of it."""
    rig = await make(says(b"1"), says(b"2"))
    assert (await rig.ask(b"x")).body == b"x12"
    for server in rig.servers:
        server.close_connections()
    assert (await rig.ask(b"y")).body == b"y12"
    assert rig.servers[0].bodies == [b"x", b"y"]


async def test_a_container_that_closes_after_each_answer_is_asked_on_new_connections(make: MakeRig) -> None:
    """As HTTP/1.0 servers do, which say the length of their answers by closing."""

    async def once(request: ModelRequest) -> ModelReply:
        return ModelReply(body=request.body + b"!", until_close=True)

    rig = await make(once, says(b"1", ("Connection", "close")), once)
    for number in range(3):
        assert (await rig.ask(b"%d" % number)).body == b"%d!1!" % number


async def serve_one_at_a_time(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, free: asyncio.Lock) -> None:
    """Answer all requests of one connection before the next one is looked at."""
    async with free:
        with suppress(asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                chunked = b"transfer-encoding: chunked" in head.lower()
                closes = b"connection: close" in head.lower()
                if chunked:
                    await reader.readuntil(b"0\r\n\r\n")
                elif (found := head.lower().partition(b"content-length: ")[2]) != b"":
                    await reader.readexactly(int(found.partition(b"\r\n")[0]))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                if closes:
                    break
    writer.close()


async def test_a_server_with_one_thread_is_never_left_waiting(make: MakeRig) -> None:
    """It reads the next request on the connection it has, and no other: so there is one at a time."""
    free = asyncio.Lock()
    async with played(lambda reader, writer: serve_one_at_a_time(reader, writer, free)) as single:
        rig = await make(single, says(b"!"))
        close = ("Connection", "close")
        assert (await rig.ask(b"", close, path="/execution-parameters")).body == b"ok"
        for body in (b"x", chunks(b"x"), b"y", chunks(b"y"), b"z"):
            assert (await rig.ask(body)).body == b"ok!"


async def test_an_answer_is_read_no_faster_than_the_client_takes_it(make: MakeRig) -> None:
    """What is on its way is bounded, and nothing of it is lost: the connections go on being used."""
    size = 64 * MIB
    rig = await make(says(b""), answers(ModelReply(body=b"z" * size)))
    reader, writer = await raw(rig)
    for _ in range(2):
        writer.write(invocation(b"x"))
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"Content-Length: %d\r\n" % size in head
        left = size
        while left:
            left -= len(await reader.read(min(left, MIB)))
    writer.close()


async def test_an_endless_answer_waits_for_a_client_that_does_not_read(make: MakeRig) -> None:
    """The container can't send more than what fits on the way."""
    rig = await make(says(b""), endless_echo)
    reader, writer = await raw(rig)
    writer.write(invocation(b"x"))
    await reader.readuntil(b"\r\n\r\n")
    before = -1
    while rig.servers[1].poured != before:  # it stands still once everything between is full
        before = rig.servers[1].poured
        for _ in range(200):
            await asyncio.sleep(0)
    assert before < 64 * MIB
    writer.close()


async def test_what_is_held_between_containers_is_bounded(make: MakeRig) -> None:
    """The answer that began first is read to its end; others wait until it is passed on."""
    size, gate = 4 * MIB, asyncio.Event()
    sent: list[int] = []

    async def write(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(1)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // 65536):
            writer.write(b"z" * 65536)
            await writer.drain()
        sent.append(size)
        await reader.read()

    async def wait(request: ModelRequest) -> ModelReply:
        await gate.wait()
        return ModelReply(body=b"%d" % len(request.body))

    async with played(write) as writing:
        rig = await make(writing, wait, limits=ChainLimits(answer_bytes=8 * MIB, held_bytes=MIB, seconds=600.0))
        asking = [asyncio.create_task(rig.ask(b"x")) for _ in range(3)]
        [waiting] = rig.servers
        await waiting.received(1)
        for _ in range(500):
            await asyncio.sleep(0)
        assert len(waiting.bodies) == 1
        gate.set()
        assert [(await it).body for it in asking] == [b"%d" % size] * 3


async def test_an_error_page_without_an_end_is_cut(make: MakeRig) -> None:
    """Wherever in the chain it comes from."""

    async def fail(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n")
        with suppress(ConnectionError):
            while True:
                writer.write(b"1000\r\n" + b"z" * 4096 + b"\r\n")
                await writer.drain()
        writer.close()

    async with played(fail) as failing:
        for rig in (await make(failing, says(b"2")), await make(says(b"1"), failing)):
            answer = await rig.ask(b"x")
            assert answer.status == 500
            assert len(answer.body) == ERROR_BYTES + len("container-1: ")


async def test_what_is_no_http_is_dropped(make: MakeRig) -> None:
    """So are heads longer than any part of ours sends."""
    rig = await make(says(b"1"), says(b"2"))
    for garbage in (b"\x16\x03\x01\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"y" * 70_000 + b"\r\n\r\n"):
        reader, writer = await raw(rig)
        writer.write(garbage)
        with suppress(ConnectionError):  # the rest of it was not read
            assert await reader.read() == b""
        writer.close()
    assert (await rig.ask(b"x")).body == b"x12"


def test_names_are_put_before_the_words_where_only_those_are_shown() -> None:
    """Elsewhere the words stay the container's own."""
    failure = Failure(container="container-2", status=400, body=b"no")
    assert named_failure(failure) == b"container-2: no"
    assert plain_failure(failure) == b"no"


@given(st.floats(0.001, 3600))
def test_a_chain_gives_up_a_moment_before_its_client(seconds: float) -> None:
    """By a tenth of the time, and a quarter of a second at most."""
    allowed = ChainLimits(answer_bytes=1, held_bytes=1, seconds=seconds).give_up_seconds
    assert 0.89 * seconds < allowed < seconds
    assert seconds - allowed < 0.26
