"""Run blocking work in a thread to its end, even if whoever waits for it is cancelled."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

__all__ = ["run_uninterrupted"]

T = TypeVar("T")


async def run_uninterrupted(work: Callable[[], T]) -> T:
    """Return what `work` returns. Once this is over, also by cancellation, `work` does not run any more.

    A thread can't be stopped. Were a cancelled caller to go on at once and close the descriptors that the thread still
    uses, their numbers could be given to other files meanwhile, and the thread would write into those.
    """
    running = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            with suppress(asyncio.CancelledError):  # again: it still has to be waited for
                await asyncio.wait({running})
        if not running.cancelled():
            running.exception()  # whether it failed does not matter any more
        raise
