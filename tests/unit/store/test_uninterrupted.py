"""Work in a thread, and callers that are cancelled while it runs."""

import asyncio
import threading

import pytest

from millrace.store.uninterrupted import run_uninterrupted


async def test_results_and_errors_come_back() -> None:
    """What the work returns or raises reaches the caller."""
    assert await run_uninterrupted(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await run_uninterrupted(lambda: 1 // 0)


@pytest.mark.parametrize("fails", [False, True])
async def test_a_cancelled_caller_waits_for_the_end(fails: bool) -> None:
    """However often it is cancelled, it goes on only after the work; an error of the work is not told then."""
    release = threading.Event()

    def work() -> None:
        release.wait(10)
        if fails:
            raise OSError("too late to matter")

    waiting = asyncio.create_task(run_uninterrupted(work))
    for _ in range(3):
        await asyncio.sleep(0)
        waiting.cancel()
    await asyncio.sleep(0)
    assert not waiting.done()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
