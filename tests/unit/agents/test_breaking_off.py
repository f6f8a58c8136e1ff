"""Long work ends soon when nobody wants it any more."""

import asyncio
import threading

import pytest

from millrace.agents.breaking_off import Check, StopWanted, in_thread, unless_stopped


async def test_work_in_a_thread_gives_its_result_or_error() -> None:
    """As if it were called."""
    assert await in_thread(lambda check: "done") == "done"

    def fail(check: Check) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await in_thread(fail)


@pytest.mark.parametrize("times", [1, 3])
async def test_cancelled_work_has_ended_when_that_is_told(times: int) -> None:
    """However often it is cancelled, nothing is told before the thread has left off."""
    begun, ended = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def work(check: Check) -> None:
        loop.call_soon_threadsafe(begun.set)
        try:
            while True:
                check()
        finally:
            ended.set()

    task = asyncio.create_task(in_thread(work))
    await begun.wait()
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_a_stop_cancels_what_is_under_way() -> None:
    """It is waited for; what has ended is no longer stopped."""
    stop, cleaned = asyncio.Event(), asyncio.Event()

    async def forever() -> None:
        try:
            stop.set()
            await asyncio.Event().wait()
        finally:
            cleaned.set()

    with pytest.raises(StopWanted):
        await unless_stopped(forever(), stop)
    assert cleaned.is_set()
    assert await unless_stopped(asyncio.sleep(0, "done"), asyncio.Event()) == "done"
