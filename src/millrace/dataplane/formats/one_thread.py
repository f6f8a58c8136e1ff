"""Do the work of one object's table on one thread beside the event loop.

pyarrow's memory pool and the C library keep what is freed for the thread that freed it: work that wanders over the
threads of a pool keeps some on each of them, and gives none of it back.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Final, ParamSpec, Self, TypeVar

__all__ = ["OneThread"]

Given = ParamSpec("Given")
Item = TypeVar("Item")
Result = TypeVar("Result")
_END: Final = object()


class _NobodyTakes(Exception):
    """Ends work that gives away what nobody takes any more."""


class OneThread:
    """A thread that ends with the block that it is opened for, or with the step under way then.

    It is nobody else's, for a step may wait for the event loop: threads that others wait for must not be used up so.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="formats")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown(wait=False)

    async def run(self, work: Callable[Given, Result], *given: Given.args, **named: Given.kwargs) -> Result:
        """Return what some work returns that is done behind all that was asked for before."""
        return await asyncio.wrap_future(self._executor.submit(work, *given, **named))

    async def stepped(self, open_items: Callable[[], Iterator[Item]]) -> AsyncGenerator[Item, None]:
        """Yield what an iterator gives; a generator is closed on the thread too, behind a step under way."""
        items: list[Iterator[Item]] = []

        def step() -> Item | object:
            if not items:
                items.append(open_items())
            return next(items[0], _END)

        def end() -> None:
            for opened in items:
                close = getattr(opened, "close", None)
                if close is not None:
                    close()

        try:
            while (item := await self.run(step)) is not _END:
                yield item  # type: ignore[misc] # the mark of the end is no item
        finally:
            self._executor.submit(end)

    async def given(self, work: Callable[[Callable[[bytes], None]], None]) -> AsyncGenerator[bytes, None]:
        """Yield what some work gives away, while it goes on; it waits until the one before was taken.

        Work whose generator is closed ends when it gives the next time.
        """
        loop = asyncio.get_running_loop()
        arrived = asyncio.Queue[bytes | None]()
        room = threading.Semaphore()
        closed = False

        def give(piece: bytes) -> None:
            room.acquire()
            if closed:
                raise _NobodyTakes
            loop.call_soon_threadsafe(arrived.put_nowait, piece)

        def worked() -> None:
            try:
                work(give)
            finally:
                loop.call_soon_threadsafe(arrived.put_nowait, None)

        done = self._executor.submit(worked)
        try:
            while (piece := await arrived.get()) is not None:
                room.release()
                yield piece
            await asyncio.wrap_future(done)
        finally:
            closed = True
            room.release()
            done.cancel()
