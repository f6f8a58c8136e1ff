"""Hold the body of a request without a length while it arrives: little of it, for the next container reads it on."""

import asyncio
from collections.abc import AsyncIterator

__all__ = ["ArrivingBody"]

HIGH_WATER = 1024 * 1024
"""Bytes that wait for a container before no more is read."""


class ArrivingBody:
    """The pieces that have arrived and were not passed on; no more is read from the socket while they are too many."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._pieces: list[bytes] = []
        self._waiting = 0
        self._paused = False
        self._ended = False
        self._unwanted = False
        self._changed = asyncio.Event()

    def add(self, piece: bytes) -> None:
        """Take what arrived."""
        if self._unwanted:
            return
        self._pieces.append(piece)
        self._waiting += len(piece)
        if self._waiting >= HIGH_WATER and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._changed.set()

    def end(self) -> None:
        """Take note that all has arrived."""
        self._ended = True
        self._changed.set()

    def discard(self) -> None:
        """Throw the rest away: the answer is there already."""
        self._unwanted = True
        self._pieces = []
        self._resume()

    async def read(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives."""
        while True:
            while self._pieces:
                pieces, self._pieces, self._waiting = self._pieces, [], 0
                self._resume()
                for piece in pieces:
                    yield piece
            if self._ended:
                return
            self._changed.clear()
            await self._changed.wait()

    def _resume(self) -> None:
        if self._paused and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()
