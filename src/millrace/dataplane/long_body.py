"""Receive a long body straight from the socket into memory that is used again.

A body that passes through the event loop's buffer and the parser is copied twice, each time into fresh memory
that the kernel has to find. With answers of 6 MB that was a third of the processor time of the data plane.
"""

import asyncio
import mmap
import weakref
from abc import ABC, abstractmethod
from collections.abc import Sequence

__all__ = ["BufferPool", "LongBody", "LongBodyReceiver"]

READ_BYTES = 256 * 1024
"""Received at a time, as the event loop receives other data: whoever counts what is held has a say after each."""

STEP_BYTES = 256 * 1024
"""Buffers have a multiple of this size, so that answers of nearly the same length fit into each other's."""


class BufferPool:
    """Buffers for long bodies, of `most_bytes` in all, whether somebody has them or not; one may always be had.

    Many answers may have begun that are not read on for want of room. Did each have a buffer for all of it, nothing
    but their length would bound the memory: a buffer that was used before takes all of its own from the start.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        """Of all buffers that there are."""
        self._free: list[mmap.mmap] = []

    def take(self, size: int) -> memoryview | None:
        """Return a view of that size on a buffer that nobody else has, or None if there are too many.

        Its bytes are whatever they were.
        """
        wanted = -(-size // STEP_BYTES) * STEP_BYTES
        free = self._free
        for position in range(len(free) - 1, -1, -1):
            if wanted <= len(free[position]) <= 2 * wanted:
                return memoryview(free.pop(position))[:size]
        taken = self._bytes - sum(map(len, free))
        if taken and taken + wanted > self._most_bytes:
            return None
        while free and self._bytes + wanted > self._most_bytes:
            del free[0]
        buffer = mmap.mmap(-1, wanted, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._bytes += wanted
        weakref.finalize(buffer, self._forget, wanted).atexit = False  # those of dropped answers are not given back
        return memoryview(buffer)[:size]

    def give_back(self, view: memoryview) -> None:
        """Take a buffer back whose bytes nobody needs any more, the view's owner included."""
        buffer = view.obj
        view.release()
        if isinstance(buffer, mmap.mmap) and self._bytes <= self._most_bytes:
            self._free.append(buffer)

    def _forget(self, size: int) -> None:
        self._bytes -= size


class LongBodyReceiver(asyncio.Protocol, ABC):
    """The connection that a body belongs to."""

    __slots__ = ()

    @abstractmethod
    def long_body_grew(self, size: int) -> None:
        """Take note that `size` bytes more came that did not complete it."""

    @abstractmethod
    def long_body_complete(self, body: memoryview) -> None:
        """Take the whole body."""


class LongBody(asyncio.BufferedProtocol):
    """Stands in for a connection's protocol until `view` is full; everything but data goes on to the connection."""

    def __init__(
        self,
        connection: LongBodyReceiver,
        transport: asyncio.Transport,
        view: memoryview,
        begun: Sequence[bytes],
    ) -> None:
        self._connection = connection
        self._transport = transport
        self._view = view
        self._filled = 0
        for piece in begun:
            self._view[self._filled : self._filled + len(piece)] = piece
            self._filled += len(piece)
        self._switch_to(self)

    def _switch_to(self, protocol: asyncio.BaseProtocol) -> None:
        """Have what comes next given to another protocol, which takes data in another way."""
        reading = self._transport.is_reading()
        if reading:
            self._transport.pause_reading()
        self._transport.set_protocol(protocol)
        if reading:
            self._transport.resume_reading()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next bytes go; what follows the body stays in the socket."""
        return self._view[self._filled : self._filled + READ_BYTES]

    def buffer_updated(self, nbytes: int) -> None:
        """Count what came."""
        self._filled += nbytes
        if self._filled < len(self._view):
            self._connection.long_body_grew(nbytes)
            return
        self._switch_to(self._connection)
        self._connection.long_body_complete(self._view)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the connection, which finds its answer incomplete."""
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """Tell the connection: it may still be sending its request."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """Tell the connection."""
        self._connection.resume_writing()
