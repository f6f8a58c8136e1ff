"""Connect to a container, wherever it listens."""

import asyncio

from millrace.dataplane.client_errors import ConnectionFailed
from millrace.dataplane.connection import Connection
from millrace.dataplane.handed import receive_socket
from millrace.ports.runtime import Address

__all__ = ["open_connection"]


async def open_connection(address: Address) -> Connection:
    """Connect to an address.

    Raises:
        ConnectionFailed: Nobody listens there; the message names the address.
    """
    loop = asyncio.get_running_loop()
    try:
        if address.handed is not None:
            _, connection = await loop.create_connection(Connection, sock=await receive_socket(address.handed))
        elif address.path is not None:
            _, connection = await loop.create_unix_connection(Connection, address.path)
        else:
            _, connection = await loop.create_connection(Connection, address.host, address.port)
    except OSError as exc:
        # Its owner reads it, and knows the container's port but not our folders.
        place = "port 8080 of the container" if address.handed is not None else address
        raise ConnectionFailed(f"cannot connect to {place}: {exc}", absent=True) from exc
    return connection
