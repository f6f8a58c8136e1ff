"""Append in batches: gather small writes, and hand one batch to a thread while the next is gathered."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

__all__ = ["BatchedAppend", "Buffer"]

T = TypeVar("T")
Buffer = bytes | bytearray | memoryview

_INLINE_BYTES = 64 * 1024
"""Up to this many bytes a hop to a thread takes longer than the work, and shorter chunks are put together."""


class BatchedAppend:
    """Calls `append` with batches of about `batch_bytes`, one after the other, in threads.

    Holds two batches at most. Several tasks may use it at a time: what one has written is before what comes later.
    """

    def __init__(self, append: Callable[[Sequence[Buffer]], None], *, batch_bytes: int) -> None:
        self._append = append
        self._batch_bytes = batch_bytes
        self._gathered: list[Buffer] = []
        self._gathered_bytes = 0
        self._working: asyncio.Future[Any] | None = None

    async def write(self, chunk: bytes | memoryview) -> None:
        """Append bytes; they may be reused once this returns. An error may be that of an earlier batch."""
        gathered = self._gathered
        if isinstance(chunk, memoryview) and len(chunk) >= self._batch_bytes:
            # Written before this returns: a copy would cost more than the thread's overlap.
            await self._wait()
            await asyncio.shield(self._start(partial(self._append, [*self._take(), chunk])))
            return
        if len(chunk) >= _INLINE_BYTES:
            gathered.append(bytes(chunk))  # no copy of what is immutable already
        elif gathered and isinstance(gathered[-1], bytearray):
            gathered[-1] += chunk
        else:
            gathered.append(bytearray(chunk))
        self._gathered_bytes += len(chunk)
        if self._gathered_bytes >= self._batch_bytes:
            await self._wait()
            self._start(partial(self._append, self._take()))

    async def flush(self, then: Callable[[], T], *, is_quick: bool) -> T:
        """Append what is gathered, and return what `then` does: called after all written before, before all later.

        `is_quick` tells whether `then` may run on the event loop, as it does if little is gathered.
        """
        await self._wait()
        if is_quick and self._gathered_bytes <= _INLINE_BYTES:
            self._append(self._take())
            return then()
        return await asyncio.shield(self._start(partial(self._append_then, self._take(), then)))

    async def abandon(self) -> None:
        """Forget what is gathered; once this is over, no thread is at work."""
        self._take()
        while (working := self._working) is not None:
            await asyncio.wait({working})
            working.exception()  # whether it was written does not matter any more
            if self._working is working:
                self._working = None

    def _append_then(self, batch: Sequence[Buffer], then: Callable[[], T]) -> T:
        self._append(batch)
        return then()

    def _take(self) -> list[Buffer]:
        batch, self._gathered, self._gathered_bytes = self._gathered, [], 0
        return batch

    def _start(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        """Run in a thread what no other does at the time. Waited for by a shield: a thread can't be cancelled."""
        working = asyncio.get_running_loop().run_in_executor(None, work)
        self._working = working
        return working

    async def _wait(self) -> None:
        """Return once no batch is in work; raises what the last one raised, and again whenever it is asked."""
        while (working := self._working) is not None:
            await asyncio.shield(working)
            if self._working is working:
                self._working = None
