"""Tests of answers that are read as they arrive."""

import asyncio

from millrace.dataplane.answers import StreamedAnswer
from millrace.dataplane.connection import Connection


class DeafTransport(asyncio.Transport):
    """Takes whatever is written."""

    def writelines(self, list_of_data: object) -> None:
        pass

    def abort(self) -> None:
        pass


async def test_a_server_may_close_before_its_answer_is_read() -> None:
    """What had arrived whole is read to its end, however slow the reader is."""
    connection = Connection()
    connection.connection_made(DeafTransport())
    answer = StreamedAnswer(connection)
    connection.send_raw([b"GET / HTTP/1.1\r\n\r\n"])
    connection.data_received(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nwhole")
    connection.connection_lost(None)
    assert b"".join([piece async for piece in answer]) == b"whole"
    assert answer.complete
