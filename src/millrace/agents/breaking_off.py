"""Break off long work when nobody wants it any more: in threads, and while a stop may come."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

__all__ = ["BrokenOff", "Check", "StopWanted", "in_thread", "unless_stopped"]

Result = TypeVar("Result")
Check = Callable[[], None]
"""What long work calls after each piece of it; it raises BrokenOff when the rest is not wanted."""


class BrokenOff(Exception):
    """Whoever asked for the work has gone; nobody hears of it."""


class StopWanted(Exception):
    """The instance was wanted to stop before it had its model: there is nothing to tell of but that."""


async def in_thread(work: Callable[[Check], Result]) -> Result:
    """Return what some work returns that is done in a thread and calls what it is given, every now and then.

    Cancelled, it returns when the thread has heard of it, so that what the work was at may be removed; also where it is
    cancelled again meanwhile.
    """
    over = threading.Event()

    def check() -> None:
        if over.is_set():
            raise BrokenOff

    # No task: what cancels all tasks of the loop would have it look done while the thread goes on.
    working = asyncio.get_running_loop().run_in_executor(None, work, check)
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        over.set()
        while not working.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait({working})
        _ = working.cancelled() or working.exception()  # else the loop complains that nobody was told
        raise


async def unless_stopped(work: Coroutine[Any, Any, Result], stop: asyncio.Event) -> Result:
    """Return what some work returns; once a stop comes, cancel it, wait for its end and raise StopWanted."""
    working = asyncio.create_task(work)
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise StopWanted
        return working.result()
    finally:
        working.cancel()
        stopping.cancel()
        await asyncio.wait({working, stopping})
        _ = working.cancelled() or working.exception()
