"""Open drafts that outlive their writers, waiting a while for the one before to end."""

import asyncio
import os
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from millrace.clock import Clock
from millrace.ports.objects import DraftHeld, check_draft
from millrace.store.kept_draft import KeptDraft, discard_kept, lock_kept
from millrace.store.uninterrupted import run_uninterrupted

__all__ = ["KeptDrafts"]

T = TypeVar("T")

_POLL_SECONDS = 0.02
"""Between two looks whether a draft was given free; the kernel tells nobody when a lock is."""


class KeptDrafts:
    """Drafts by the folder that they lie in and their name.

    Args:
        clock: Tells how long was waited.
        wait_seconds: How long a writer is waited for that still holds a draft; DraftHeld is raised then.
        cached_bytes: Bytes of a file that pass through the page cache, see LargeFile.
        block_bytes: Bytes that are written past it at a time.
    """

    def __init__(self, *, clock: Clock, wait_seconds: float, cached_bytes: int, block_bytes: int) -> None:
        self._clock = clock
        self._wait_seconds = wait_seconds
        self._cached_bytes = cached_bytes
        self._block_bytes = block_bytes

    async def open(self, folder: bytes, draft: str, at: int) -> KeptDraft:
        """Return a draft cut to `at` bytes; 0 makes it if need be. Raises DraftLost, DraftHeld."""
        check_draft(draft, at)
        path = b"%b/%b" % (folder, draft.encode())
        descriptor = await self._wait(partial(lock_kept, path, make=at == 0))
        make = partial(
            KeptDraft, descriptor, path, at=at, cached_bytes=self._cached_bytes, block_bytes=self._block_bytes
        )
        try:
            if not os.fstat(descriptor).st_size:
                return make()
            return await run_uninterrupted(make)  # what is cut off takes long to free, and some of it is read back
        except BaseException:
            os.close(descriptor)
            raise

    async def discard(self, folder: bytes, draft: str) -> None:
        """Remove a draft, if it is there. Raises DraftHeld."""
        check_draft(draft, 0)
        path = b"%b/%b" % (folder, draft.encode())
        if os.path.exists(path):  # noqa: PTH110  # bytes
            await self._wait(partial(discard_kept, path), in_thread=True)

    async def _wait(self, take: Callable[[], T], *, in_thread: bool = False) -> T:
        deadline = self._clock.monotonic() + self._wait_seconds
        while True:
            try:
                return await asyncio.to_thread(take) if in_thread else take()
            except DraftHeld:
                if self._clock.monotonic() >= deadline:
                    raise
            await self._clock.sleep(_POLL_SECONDS)
