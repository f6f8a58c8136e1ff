"""Tests of asking whether a container is there, for several records at a time."""

import asyncio

from millrace.clock import SystemClock
from millrace.dataplane.standing import Inquiry, Standing
from millrace.testing.model_server import CLOSE, ModelReply, ModelRequest, ModelServer


async def answer(request: ModelRequest) -> ModelReply:
    return ModelReply()


class Pings:
    """A container that answers /ping as it is told to."""

    def __init__(self) -> None:
        self.is_down = True
        self.asked = asyncio.Event()

    async def __call__(self, request: ModelRequest) -> ModelReply:
        self.asked.set()
        return CLOSE if self.is_down else ModelReply()


async def test_records_that_were_sent_while_it_was_down_are_not_to_blame() -> None:
    """Though it is back when it is asked for them: another has waited for it meanwhile, or does so still."""
    pings, clock = Pings(), SystemClock()
    async with ModelServer(answer, ping=pings) as server:
        inquiry = Inquiry([server.address], window_seconds=30, clock=clock)
        first = asyncio.create_task(inquiry.standing(since=clock.monotonic()))
        await pings.asked.wait()
        sent_while_down = clock.monotonic()
        pings.is_down = False
        assert await inquiry.standing(since=sent_while_down) is Standing.BACK
        assert await first is Standing.BACK
        assert await inquiry.standing(since=sent_while_down) is Standing.BACK
        assert await inquiry.standing(since=clock.monotonic()) is Standing.THERE


async def test_a_container_that_does_not_come_back_is_waited_for_once() -> None:
    """Until it is there again."""
    pings, clock = Pings(), SystemClock()
    async with ModelServer(answer, ping=pings) as server:
        inquiry = Inquiry([server.address], window_seconds=0.01, clock=clock)
        for _ in range(2):
            assert await inquiry.standing(since=clock.monotonic()) is Standing.GONE
        pings.is_down = False
        assert await inquiry.standing(since=clock.monotonic()) is Standing.THERE
