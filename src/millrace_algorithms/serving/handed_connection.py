"""Read the rest of a request's body from its own connection, and write the answer to it.

A worker does both for large payloads, so that no byte of them passes through the server's process: relaying them took
it a quarter of the time that evaluating them took the worker. The body is evaluated as it arrives.
"""

import select
import socket
from collections.abc import Iterator

from millrace_algorithms.delimited_numbers import BLOCK_BYTES

__all__ = ["ClientGone", "ClientStalled", "HandedConnection"]


class ClientGone(BaseException):
    """The client has closed the connection: there is nobody to answer. No Exception, which a model may catch."""


class ClientStalled(BaseException):
    """The client has sent nothing for as long as a worker may wait. No Exception, which a model may catch."""


class HandedConnection:
    """The socket of a request whose head and first bytes are read; it does not block."""

    def __init__(self, sock: socket.socket, begun: bytes, length: int, patience_seconds: float) -> None:
        """Take over a connection.

        Args:
            sock: Closed by the caller.
            begun: What has been read of the body.
            length: Of the whole body.
            patience_seconds: How long to wait for the client at one point.
        """
        self._sock = sock
        self._begun = begun
        self._missing = length - len(begun)
        self._patience_milliseconds = int(patience_seconds * 1000)
        self._poll = select.poll()
        self.pieces: list[bytes] = []
        """What was read here, in order: kept until the end, so that the server can take over at any point."""

    def chunks(self) -> Iterator[bytes]:
        """Yield the body as it arrives; raises ClientGone or ClientStalled."""
        buffer = bytearray(max(BLOCK_BYTES, len(self._begun)))
        filled = len(self._begun)
        buffer[:filled] = self._begun
        begun = filled
        with memoryview(buffer) as view:
            while self._missing or filled:
                while self._missing and filled < len(buffer):
                    try:
                        got = self._receive(view[filled : filled + self._missing])
                    except ClientStalled:
                        self.pieces.append(bytes(view[begun:filled]))
                        raise
                    filled += got
                    self._missing -= got
                chunk = bytes(view[:filled])
                self.pieces.append(chunk[begun:] if begun else chunk)
                filled = begun = 0
                yield chunk

    def _receive(self, into: memoryview) -> int:
        while True:
            try:
                got = self._sock.recv_into(into)
            except BlockingIOError:
                if not self._wait(select.POLLIN):
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
                if not self._wait(select.POLLOUT):
                    break
                continue
            except OSError as exc:
                raise ClientGone from exc
            while views and sent >= len(views[0]):
                sent -= len(views.pop(0))
            if sent:
                views[0] = views[0][sent:]
        return b"".join(views)

    def _wait(self, event: int) -> bool:
        self._poll.register(self._sock, event)
        return bool(self._poll.poll(self._patience_milliseconds))
