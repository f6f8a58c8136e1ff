"""Post bodies from memory over a few connections, doing nothing else: what no client of that server is faster than."""

import asyncio
from collections.abc import Iterator, Sequence
from functools import partial
from typing import cast

from millrace.ports.runtime import Address

__all__ = ["post_all"]

_LENGTH = b"Content-Length: "


async def post_all(bodies: Sequence[bytes], address: Address, *, connections: int) -> int:
    """Post each body once; return how many bytes the answers have, which must tell it and be of status 200."""
    loop = asyncio.get_running_loop()
    requests = iter(
        [b"POST /invocations HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body for body in bodies]
    )
    clients = []
    for _ in range(connections):
        done: asyncio.Future[int] = loop.create_future()
        await loop.create_connection(partial(_Client, requests, done), address.host, address.port)
        clients.append(done)
    return sum(await asyncio.gather(*clients))


class _Client(asyncio.Protocol):
    """Sends the next request as soon as an answer is complete."""

    def __init__(self, requests: Iterator[bytes], done: "asyncio.Future[int]") -> None:
        self._requests = requests
        self._done = done
        self._received = b""
        self._left = 0
        """Bytes of the answer's body that are to come; below 0 while its head is not complete."""
        self._total = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._next()

    def _next(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._transport.close()
            self._done.set_result(self._total)
            return
        self._left = -1
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self._left < 0:
            data = self._received + data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._received = data
                return
            self._received = b""
            if not data.startswith(b"HTTP/1.1 200"):
                self._done.set_exception(OSError(f"expected status 200, got {data[:40]!r}"))
                self._transport.close()
                return
            self._left = int(data[data.index(_LENGTH) + len(_LENGTH) : end].partition(b"\r")[0])
            self._total += self._left
            self._left -= len(data) - end - 4
        else:
            self._left -= len(data)
        if not self._left:
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(exc or OSError("the server closed the connection"))
