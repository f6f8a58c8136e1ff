"""Connect to a container, wherever it listens."""

import asyncio

from millrace.dataplane.client_errors import ConnectionFailed
from millrace.dataplane.connection import Connection
from millrace.dataplane.handed import receive_socket
from millrace.ports.runtime import Address

__all__ = ["open_connection"]


async def open_connection(address: Address) -> Connection:
    """Connect to an address.

    What is returned can be written to as long as nothing is awaited before: so no task is to be put between.

    Raises:
        ConnectionFailed: Nobody listens there, or whoever does closes at once; the message names the address.
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
        raise ConnectionFailed(f"cannot connect to {_place(address)}: {exc}", absent=True) from exc
    if connection.error is not None:  # it was lost before this task's turn came
        raise ConnectionFailed(f"cannot connect to {_place(address)}: {connection.error}")
    return connection


def _place(address: Address) -> str:
    """Return what its owner is told, who knows the container's port but not our folders."""
    return "port 8080 of the container" if address.handed is not None else str(address)
