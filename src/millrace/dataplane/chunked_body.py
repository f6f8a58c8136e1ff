"""Send a body whose length nobody knows before its end."""

from collections.abc import AsyncIterator

from millrace.dataplane.connection import Buffers, Connection

__all__ = ["Body", "send_chunked"]

Body = Buffers | AsyncIterator[bytes]
"""A request body; an iterator is sent chunked."""


async def send_chunked(connection: Connection, head: bytes, chunks: AsyncIterator[bytes]) -> None:
    """Send a request with a chunked body as it is read; stops early if the answer is complete before the body."""
    connection.send_raw([head, b"Transfer-Encoding: chunked\r\n\r\n"])
    async for chunk in chunks:
        if not connection.busy:
            connection.keep_alive = False  # the rest of the body was never sent: nothing can follow on this connection
            return
        if chunk:
            await connection.send_more((b"%x\r\n" % len(chunk), chunk, b"\r\n"))
    if connection.busy:
        await connection.send_more((b"0\r\n\r\n",))
