"""Work on one thread beside the event loop."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from millrace.dataplane.formats.one_thread import OneThread

Give = Callable[[bytes], None]


async def test_all_work_is_done_on_one_thread() -> None:
    """Steps, items and pieces are made on the same thread, which is not the event loop's."""
    threads: list[threading.Thread] = []

    def note(_: object = None) -> None:
        threads.append(threading.current_thread())

    with OneThread() as thread:
        await thread.run(note)
        assert [item async for item in thread.stepped(lambda: map(note, "ab"))] == [None, None]
        assert [piece async for piece in thread.given(note)] == []
    assert len(threads) == 4
    assert len(set(threads)) == 1
    assert threads[0] is not threading.current_thread()


async def test_pieces_are_given_one_by_one() -> None:
    """Work that gives pieces away is at most one piece before whoever takes them, and its error comes behind them."""
    given: list[int] = []

    def work(give: Give) -> None:
        for number in range(10):
            give(b"%d" % number)
            given.append(number)
        raise ValueError("no more")

    taken = 0
    with OneThread() as thread, pytest.raises(ValueError, match="no more"):
        async for piece in thread.given(work):
            assert piece == b"%d" % taken
            taken += 1
            assert len(given) <= taken + 1
    assert taken == 10


async def test_work_ends_when_nobody_takes_what_it_gives() -> None:
    """Closing the generator ends the work where it gives the next time, and the thread with it."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()

    def work(give: Give) -> None:
        try:
            while True:
                give(b"more")
        finally:
            loop.call_soon_threadsafe(ended.set)

    with OneThread() as thread:
        pieces = thread.given(work)
        assert await anext(pieces) == b"more"
        await pieces.aclose()
        await ended.wait()
        await thread.run(lambda: None)


async def test_work_that_has_not_begun_never_does() -> None:
    """A generator that is closed before the thread comes to its work leaves it undone."""
    free = threading.Event()
    done: list[str] = []
    with OneThread() as thread:
        waiting = asyncio.create_task(thread.run(free.wait))
        pieces = thread.given(lambda give: done.append("work"))
        first = asyncio.create_task(anext(pieces))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        free.set()
        await waiting
        await thread.run(done.append, "after")
    assert done == ["after"]
