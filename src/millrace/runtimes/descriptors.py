"""Wait for descriptors on the event loop."""

import asyncio
import os
import socket

__all__ = ["read_to_end", "readable"]

_CHUNK_BYTES = 4096


async def readable(source: socket.socket | int) -> None:
    """Return once a descriptor can be read, or has ended."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    descriptor = source if isinstance(source, int) else source.fileno()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)


async def read_to_end(descriptor: int) -> bytes:
    """Return all that comes out of a pipe until its other ends are closed."""
    pieces: list[bytes] = []
    while True:
        await readable(descriptor)
        piece = os.read(descriptor, _CHUNK_BYTES)
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)
