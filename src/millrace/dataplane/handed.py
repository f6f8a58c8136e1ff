"""Get a connected socket from a door: a Unix socket that answers with a descriptor.

The answer is one zero byte and the descriptor, or an E and why there is none.
"""

import asyncio
import os
import socket
from pathlib import Path

__all__ = ["receive_socket"]

DOOR_SECONDS = 10.0
"""How long the process behind a door may take; it takes a fraction of a millisecond."""

_MESSAGE_BYTES = 256


async def receive_socket(path: str) -> socket.socket:
    """Return a socket that is connected to the server behind a door.

    Raises:
        OSError: Nobody is at the door, or behind it nobody listens.
    """
    with _knock(path) as door:
        loop = asyncio.get_running_loop()
        answered = asyncio.Event()
        loop.add_reader(door.fileno(), answered.set)
        try:
            async with asyncio.timeout(DOOR_SECONDS):
                await answered.wait()
        finally:
            loop.remove_reader(door.fileno())
        message, descriptors, _, _ = socket.recv_fds(door, _MESSAGE_BYTES, 1)
    if descriptors:
        return socket.socket(fileno=descriptors[0])
    raise ConnectionRefusedError(message[1:].decode("utf-8", "replace") or "the door was closed")


def _knock(path: str) -> socket.socket:
    """Connect, at once or not at all; the path may be longer than an address of a Unix socket."""
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        folder = os.open(Path(path).parent, os.O_PATH | os.O_DIRECTORY)
        try:
            door.connect(f"/proc/self/fd/{folder}/{Path(path).name}")
        finally:
            os.close(folder)
    except BaseException:
        door.close()
        raise
    return door
