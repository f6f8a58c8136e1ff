"""Close a server of asyncio once everybody whom it has accepted has a transport: afterwards nobody gets one."""

import asyncio

__all__ = ["close_server"]

ACCEPTING_TURNS = 3
"""Of the event loop, after which whoever was accepted has a transport."""


async def close_server(server: asyncio.Server) -> None:
    """Close a server; else the socket of somebody who is being accepted would be left open."""
    for _ in range(ACCEPTING_TURNS):
        await asyncio.sleep(0)
    server.close()
