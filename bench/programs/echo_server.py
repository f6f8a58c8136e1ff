"""A model that costs nothing: GET /ping, POST /invocations echoes or gives a constant; one process, uvloop, httptools.

    python bench/programs/echo_server.py [--port 0 | --unix PATH] [--constant TEXT | --scores] [--delay-ms N] [serve]

With --scores it answers each line, an array of numbers, with a line that has the first of them as it is spelled.

Prints its address once it listens. It is a container for jobs too, which say `serve` and tell the port by variable.
"""

import argparse
import asyncio
import os
import sys
from typing import cast

import httptools
import uvloop

NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class EchoConnection(asyncio.Protocol):
    """One connection; answers each request as soon as it is complete."""

    def __init__(self, constant: bytes | None, delay_seconds: float, *, scores: bool = False) -> None:
        self._constant = None if constant is None else _answer((constant,))
        self._scores = scores
        self._delay_seconds = delay_seconds
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
        if self._constant is None:
            self._pieces.append(body)

    def on_message_complete(self) -> None:
        pieces, self._pieces = self._pieces, []
        if self._url == b"/invocations":
            answer = self._constant or _answer(_scores(b"".join(pieces)) if self._scores else pieces)
        else:
            answer = [EMPTY if self._url == b"/ping" else NOT_FOUND]
        if self._delay_seconds and self._url == b"/invocations":
            asyncio.get_running_loop().call_later(self._delay_seconds, self._write, answer)
        else:
            self._write(answer)

    def _write(self, answer: list[bytes]) -> None:
        if len(answer) == 1:
            self._transport.write(answer[0])
        else:
            self._transport.writelines(answer)


def _scores(body: bytes) -> list[bytes]:
    return [b"".join([b'{"score":%b}\n' % line[1 : line.index(b",")] for line in body.splitlines()])]


def _answer(pieces: list[bytes] | tuple[bytes, ...]) -> list[bytes]:
    size = sum(len(piece) for piece in pieces)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size
    return [head + b"".join(pieces)] if size < 65536 else [head, *pieces]


async def serve(arguments: argparse.Namespace) -> None:
    """Listen until killed."""
    loop = asyncio.get_running_loop()
    constant = None if arguments.constant is None else arguments.constant.encode()

    def connection() -> EchoConnection:
        return EchoConnection(constant, arguments.delay_ms / 1000, scores=arguments.scores)

    if arguments.unix:
        server = await loop.create_unix_server(connection, arguments.unix)
        print(f"unix:{arguments.unix}", flush=True)
    else:
        server = await loop.create_server(connection, "127.0.0.1", arguments.port, backlog=1024)
        host, port = server.sockets[0].getsockname()[:2]
        print(f"{host}:{port}", flush=True)
    async with server:
        await server.serve_forever()


def main() -> int:
    """Parse the arguments and serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", nargs="?", choices=["serve"])
    parser.add_argument("--port", type=int, default=int(os.environ.get("SAGEMAKER_BIND_TO_PORT", "0")))
    parser.add_argument("--unix")
    parser.add_argument("--constant")
    parser.add_argument("--scores", action="store_true")
    parser.add_argument("--delay-ms", type=float, default=0.0)
    uvloop.run(serve(parser.parse_args()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
