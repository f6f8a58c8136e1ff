"""Bodies between ASGI messages and our types."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from millrace.http.bodies import READ_BYTES, ReceivedBody, iter_file
from millrace.http.sending import send_response
from millrace.protocol.faults import IncompleteBody
from millrace.protocol.message import FileRegion, Response


class Client:
    """Plays the server's part: gives out messages, keeps what is sent."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self._messages = list(messages)
        self.asked = 0
        self.sent: list[Any] = []

    async def receive(self) -> Any:
        self.asked += 1
        return self._messages.pop(0) if self._messages else {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)


def _piece(body: bytes, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_nothing_is_received_before_it_is_asked_for() -> None:
    """A body is received piece by piece as its reader asks, so that a slow reader slows the client."""
    client = Client(_piece(b"ab"), _piece(b""), _piece(b"cd", more=False))
    body = ReceivedBody(client.receive, 4)
    assert client.asked == 0
    pieces = aiter(body)
    assert await anext(pieces) == b"ab"
    assert client.asked == 1
    assert [piece async for piece in pieces] == [b"cd"]
    assert body.finished


async def test_prefetched_bytes_are_not_lost() -> None:
    """Asking early, for the sake of 100 Continue, gives the same body."""
    client = Client(_piece(b"ab"), _piece(b"cd", more=False))
    body = ReceivedBody(client.receive, 4)
    await body.prefetch()
    await body.prefetch()
    assert client.asked == 1
    assert await body.read(10) == b"abcd"


async def test_a_client_that_goes_away_makes_reading_fail() -> None:
    """A body that ends early is an error, so that half an object is never committed."""
    with pytest.raises(IncompleteBody):
        await ReceivedBody(Client(_piece(b"ab")).receive, 4).read(10)
    with pytest.raises(IncompleteBody):
        await ReceivedBody(Client(_piece(b"ab", more=False)).receive, 4).read(10)


async def test_a_request_without_a_body_is_not_waited_for() -> None:
    """Where no header announces a body none is received."""
    client = Client()
    assert await ReceivedBody(client.receive, 0).read(10) == b""
    assert client.asked == 0


@pytest.mark.parametrize(("start", "length"), [(0, 10), (3, 4), (0, 0), (5, 2 * READ_BYTES + 7)])
async def test_a_region_is_read_exactly(tmp_path: Path, start: int, length: int) -> None:
    """A region of a file comes in pieces of the fixed size, and its descriptor is closed."""
    path = tmp_path / "file"
    content = os.urandom(start + length + 3)
    path.write_bytes(content)
    descriptor = os.open(path, os.O_RDONLY)
    pieces = [piece async for piece in iter_file(FileRegion(path, start, length, descriptor))]
    assert b"".join(pieces) == content[start : start + length]
    assert all(len(piece) <= READ_BYTES for piece in pieces)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


async def test_a_file_shorter_than_its_region_is_an_error(tmp_path: Path) -> None:
    """A truncated object is never sent as if it were whole."""
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    with pytest.raises(OSError, match="must have 5 bytes"):
        [piece async for piece in iter_file(FileRegion(path, 0, 5))]


async def test_a_head_request_closes_the_file_unsent(tmp_path: Path) -> None:
    """HEAD has the length and no body, and the descriptor is closed."""
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    descriptor = os.open(path, os.O_RDONLY)
    client = Client()
    response = Response(status=200, body=FileRegion(path, 0, 3, descriptor))
    await send_response(response, method="HEAD", body=ReceivedBody(client.receive, 0), send=client.send)
    assert (b"content-length", b"3") in client.sent[0]["headers"]
    assert [message["body"] for message in client.sent[1:]] == [b""]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


async def test_sending_stops_when_the_client_has_gone() -> None:
    """A stream that nobody receives any more is closed, not read to its end."""
    closed = False

    async def endless() -> AsyncIterator[bytes]:
        nonlocal closed
        try:
            while True:
                yield b"x"
        finally:
            closed = True

    class Gone(Client):
        async def send(self, message: Any) -> None:
            await super().send(message)
            # As a real server does, give other tasks a turn.
            import asyncio

            await asyncio.sleep(0)

    client = Gone()
    await send_response(
        Response(status=200, body=endless()), method="GET", body=ReceivedBody(client.receive, 0), send=client.send
    )
    assert closed


async def test_not_modified_has_neither_body_nor_length() -> None:
    """204 and 304 are sent without a body, whatever the handler gave."""
    client = Client()
    response = Response(status=304, headers=(("Content-Length", "5"), ("ETag", '"e"')), body=b"hello")
    await send_response(response, method="GET", body=ReceivedBody(client.receive, 0), send=client.send)
    assert client.sent[0]["headers"] == [(b"ETag", b'"e"')]
    assert client.sent[1]["body"] == b""


class Thinking:
    """An answer that never comes to its next piece."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.closed = False

    def __aiter__(self) -> "Thinking":
        return self

    async def __anext__(self) -> bytes:
        self.asked.set()
        await asyncio.Event().wait()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed = True


async def test_a_wait_for_the_next_piece_ends_when_the_client_goes_away() -> None:
    """Whoever makes the pieces is told at once; the request ends as if it had been answered."""
    gone = asyncio.Event()

    async def receive() -> Any:
        await gone.wait()
        return {"type": "http.disconnect"}

    client = Client()
    pieces = Thinking()
    body = ReceivedBody(receive, 0)
    sending = asyncio.create_task(
        send_response(Response(status=200, body=pieces), method="POST", body=body, send=client.send)
    )
    await pieces.asked.wait()
    gone.set()
    await sending
    assert pieces.closed
    assert [message["type"] for message in client.sent] == ["http.response.start"]


async def test_a_sending_that_is_cancelled_from_outside_stays_cancelled() -> None:
    """As at the end of the server: only the client's going away is no error."""

    async def receive() -> Any:
        await asyncio.Event().wait()

    pieces = Thinking()
    sending = asyncio.create_task(
        send_response(
            Response(status=200, body=pieces), method="POST", body=ReceivedBody(receive, 0), send=Client().send
        )
    )
    await pieces.asked.wait()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert pieces.closed


@pytest.mark.parametrize("turns", range(1, 6))
async def test_a_client_that_goes_with_the_next_piece_at_hand_is_no_error(turns: int) -> None:
    """However its going away and the piece fall together, the pieces are closed to the end and nothing is cancelled."""
    gone = asyncio.Event()

    async def receive() -> Any:
        await gone.wait()
        return {"type": "http.disconnect"}

    class Pieces:
        closed = False

        def __aiter__(self) -> "Pieces":
            return self

        async def __anext__(self) -> bytes:
            at_hand = asyncio.get_running_loop().create_future()

            def hand(left: int) -> None:
                if left:
                    asyncio.get_running_loop().call_soon(hand, left - 1)
                else:
                    at_hand.set_result(None)

            asyncio.get_running_loop().call_soon(gone.set)
            hand(turns)
            await at_hand
            return b"x"

        async def aclose(self) -> None:
            for _ in range(5):
                await asyncio.sleep(0)
            self.closed = True

    pieces = Pieces()
    await send_response(
        Response(status=200, body=pieces), method="POST", body=ReceivedBody(receive, 0), send=Client().send
    )
    assert pieces.closed
