"""Cut what a container prints into lines as it arrives."""

import asyncio
import time
from collections.abc import Callable
from typing import cast

__all__ = ["MAX_LINE_BYTES", "LineProtocol"]

MAX_LINE_BYTES = 256 * 1024
"""A longer log line is split: the limit of a CloudWatch Logs event."""


class LineProtocol(asyncio.SubprocessProtocol):
    """Cuts a child's output into lines and hands each on with its time of arrival.

    `ended` has the child's return code (negative for a signal), `drained` is done once its output is closed.
    """

    def __init__(self, on_line: Callable[[int, str], None]) -> None:
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[int] = loop.create_future()
        self.drained: asyncio.Future[None] = loop.create_future()
        self.on_exit: Callable[[], None] | None = None
        self._on_line = on_line
        self._partial = b""
        self._transport: asyncio.SubprocessTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport behaves as asyncio's without being derived from it
        self._transport = cast(asyncio.SubprocessTransport, transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        *lines, self._partial = (self._partial + data).split(b"\n")
        now = time.time_ns() // 1_000_000
        for line in lines:
            self._deliver(now, line)
        while len(self._partial) >= MAX_LINE_BYTES:
            self._deliver(now, self._partial[:MAX_LINE_BYTES])
            self._partial = self._partial[MAX_LINE_BYTES:]

    def _deliver(self, now: int, line: bytes) -> None:
        for start in range(0, len(line) or 1, MAX_LINE_BYTES):
            self._on_line(now, line[start : start + MAX_LINE_BYTES].decode("utf-8", "replace"))

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._finish_output()

    def process_exited(self) -> None:
        assert self._transport is not None
        code = self._transport.get_returncode()
        if not self.ended.done():
            if self.on_exit is not None:
                self.on_exit()
            self.ended.set_result(code if code is not None else 0)

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish_output()

    def _finish_output(self) -> None:
        if self._partial:
            self._deliver(time.time_ns() // 1_000_000, self._partial)
            self._partial = b""
        if not self.drained.done():
            self.drained.set_result(None)
