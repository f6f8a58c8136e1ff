"""A model server with limits of its own: POST /invocations echoes, after what a request costs; one process, uvloop.

    python limited_server.py [--request-ms N] [--mb-ms N] [--burn] [--slots N] [--refuse] [--largest BYTES]

A request takes a time of its own and one for each megabyte. With --burn that time is spent computing, on one core, one
request after the other; else it is waited for. No more than --slots are worked on at a time (0: any number); others
wait, or are refused with 503. Payloads of more than --largest bytes are refused with 413. Prints its address once it
listens. GET /lost tells the seconds that it lost to other programs on its core while it computed.
"""

import argparse
import asyncio
import hashlib
import sys
import time
from collections import deque
from typing import cast

import httptools
import uvloop

HEAD = b"HTTP/1.1 %d Told\r\nContent-Length: %d\r\n\r\n"
BLOCK = b"x" * 65536


class Model:
    """What all connections share: the slots, and who waits for one."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._request_seconds = arguments.request_ms / 1e3
        self._byte_seconds = arguments.mb_ms / 1e9
        self._burn: bool = arguments.burn
        self._slots: int = arguments.slots or sys.maxsize
        self._refuse: bool = arguments.refuse
        self._largest: int = arguments.largest or sys.maxsize
        self._busy = 0
        self.lost_seconds = 0.0
        self._waiting: deque[tuple[ModelConnection, bytes]] = deque()

    def ask(self, connection: "ModelConnection", body: bytes) -> None:
        """Answer at once, or have it answered when its time has come."""
        if len(body) > self._largest:
            connection.answer(413, b"")
        elif self._busy < self._slots:
            self._work(connection, body)
        elif self._refuse:
            connection.answer(503, b"")
        else:
            self._waiting.append((connection, body))

    def _work(self, connection: "ModelConnection", body: bytes) -> None:
        seconds = self._request_seconds + self._byte_seconds * len(body)
        if self._burn:
            began, end = time.perf_counter(), time.thread_time() + seconds
            while time.thread_time() < end:
                hashlib.sha256(BLOCK)
            self.lost_seconds += time.perf_counter() - began - seconds
            connection.answer(200, body)
            return
        self._busy += 1
        asyncio.get_running_loop().call_later(seconds, self._done, connection, body)

    def _done(self, connection: "ModelConnection", body: bytes) -> None:
        self._busy -= 1
        if self._waiting:
            self._work(*self._waiting.popleft())
        connection.answer(200, body)


class ModelConnection(asyncio.Protocol):
    """One connection."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._parser = httptools.HttpRequestParser(self)
        self._pieces: list[bytes] = []
        self._url = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_url(self, url: bytes) -> None:
        self._url = url

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        body = b"".join(self._pieces)
        self._pieces.clear()
        if self._url == b"/invocations":
            self._model.ask(self, body)
        elif self._url == b"/lost":
            self.answer(200, b"%f" % self._model.lost_seconds)
        else:
            self.answer(200 if self._url == b"/ping" else 404, b"")

    def answer(self, status: int, body: bytes) -> None:
        """Send an answer, if anybody is left to take it."""
        if not self._transport.is_closing():
            self._transport.writelines([HEAD % (status, len(body)), body])


async def serve(arguments: argparse.Namespace) -> None:
    """Listen until killed."""
    model = Model(arguments)
    server = await asyncio.get_running_loop().create_server(
        lambda: ModelConnection(model), "127.0.0.1", 0, backlog=1024
    )
    host, port = server.sockets[0].getsockname()[:2]
    print(f"{host}:{port}", flush=True)
    async with server:
        await server.serve_forever()


def main() -> int:
    """Parse the arguments and serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--request-ms", type=float, default=0.0)
    parser.add_argument("--mb-ms", type=float, default=0.0)
    parser.add_argument("--burn", action="store_true")
    parser.add_argument("--slots", type=int, default=0)
    parser.add_argument("--refuse", action="store_true")
    parser.add_argument("--largest", type=int, default=0)
    uvloop.run(serve(parser.parse_args()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
