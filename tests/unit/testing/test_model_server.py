"""The model server of tests leaves nothing open."""

import asyncio
import gc
import socket

import pytest

from millrace.testing.model_server import ModelReply, ModelRequest, ModelServer


async def answer(request: ModelRequest) -> ModelReply:
    return ModelReply()


@pytest.mark.parametrize("turns", range(6))
async def test_whoever_is_being_accepted_is_closed_with_it(turns: int) -> None:
    """At whatever step; a socket that was left open would fail this test, or any other one."""
    async with ModelServer(answer) as server:
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", server.address.port))
        for _ in range(turns):
            await asyncio.sleep(0)
    client.close()
    del server
    gc.collect()
