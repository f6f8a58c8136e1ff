"""Read the rest of a request's body from its own connection, and write the answer to it.

A worker does both for large payloads, so that no byte of them passes through the server's process: relaying them took
it a quarter of the time that evaluating them took the worker. The body is evaluated as it arrives, and nothing of it is
kept, so that a worker touches the same little memory again and again.
"""

import select
import socket
from collections.abc import Iterator

from millrace_algorithms.delimited_numbers import BLOCK_BYTES
from millrace_algorithms.serving.limits import Limits

__all__ = ["ClientGone", "ClientStalled", "HandedConnection"]


class ClientGone(BaseException):
    """The client has closed the connection: there is nobody to answer. No Exception, which a model may catch."""


class ClientStalled(BaseException):
    """The client has sent nothing for as long as a worker waits. No Exception, which a model may catch."""


class HandedConnection:
    """The socket of a request whose head and first bytes are read; it does not block."""

    def __init__(self, sock: socket.socket, begun: bytes, length: int, limits: Limits) -> None:
        """Take over a connection.

        Args:
            sock: Closed by the caller.
            begun: What has been read of the body.
            length: Of the whole body.
            limits: How long to wait for the client at one point.
        """
        self._sock = sock
        self._begun = begun
        self._missing = length - len(begun)
        self._limits = limits

    def chunks(self) -> Iterator[bytes]:
        """Yield the body as it arrives; raises ClientGone or ClientStalled."""
        buffer = bytearray(max(BLOCK_BYTES, len(self._begun)))
        filled = len(self._begun)
        buffer[:filled] = self._begun
        with memoryview(buffer) as view:
            while self._missing or filled:
                while self._missing and filled < len(buffer):
                    got = self._receive(view[filled : filled + self._missing])
                    filled += got
                    self._missing -= got
                chunk = bytes(view[:filled])
                filled = 0
                yield chunk

    def _receive(self, into: memoryview) -> int:
        while True:
            try:
                got = self._sock.recv_into(into)
            except BlockingIOError:
                if not self._wait(select.POLLIN, self._limits.body_stall_seconds):
                    raise ClientStalled from None
                continue
            except OSError as exc:
                raise ClientGone from exc
            if not got:
                raise ClientGone
            return got

    def write(self, parts: list[bytes]) -> bytes:
        """Send the parts; returns what the client does not take in time. Raises ClientGone."""
        views = [memoryview(part) for part in parts]
        while views:
            try:
                sent = self._sock.sendmsg(views)
            except BlockingIOError:
                if not self._wait(select.POLLOUT, self._limits.answer_stall_seconds):
                    break
                continue
            except OSError as exc:
                raise ClientGone from exc
            while views and sent >= len(views[0]):
                sent -= len(views.pop(0))
            if sent:
                views[0] = views[0][sent:]
        return b"".join(views)

    def _wait(self, event: int, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._sock, event)
        return bool(poll.poll(int(seconds * 1000)))
