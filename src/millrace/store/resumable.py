"""Write the output of a job into a draft that outlives the process, and make it an object in the end."""

import asyncio
import os
from collections.abc import Awaitable, Callable

from millrace.ports.objects import ObjectInfo, ObjectMeta
from millrace.store.batched_append import BatchedAppend
from millrace.store.facts import Facts
from millrace.store.file_writer import output_facts
from millrace.store.kept_draft import KeptDraft
from millrace.store.queued_sync import QueuedSync

__all__ = ["ResumableFileWriter"]


class ResumableFileWriter:
    """A ResumableWriter over a file. `install` makes the finished draft the object, with facts."""

    def __init__(
        self,
        draft: KeptDraft,
        meta: ObjectMeta,
        install: Callable[[Facts], Awaitable[ObjectInfo]],
        *,
        chunk_bytes: int,
        syncs: QueuedSync | None,
    ) -> None:
        """`syncs` None: what a power failure does is nobody's concern."""
        self._draft = draft
        self._meta = meta
        self._install = install
        self._syncs = syncs
        self._batches = BatchedAppend(draft.append, batch_bytes=chunk_bytes)
        self._name_is_durable = draft.size > 0  # somebody has relied on its first bytes, who made sure
        self._ending = asyncio.Lock()
        """Held by whatever uses or closes the descriptor, so that no sync is of another file of the same number."""

    async def write(self, chunk: bytes | memoryview) -> None:
        """Append bytes; they may be reused once this returns. An error may be that of an earlier batch."""
        self._check_open()
        await self._batches.write(chunk)

    async def checkpoint(self) -> int:
        """Make all that was written so far durable; return how many bytes that is."""
        async with self._ending:
            self._check_open()
            size = await self._batches.flush(self._draft.flush, is_quick=not self._draft.holds_back)
            if self._syncs is not None:
                await self._syncs.sync(self._draft.descriptor)
                if not self._name_is_durable:
                    await self._sync_name(self._syncs)
            return size

    async def flush(self) -> int:
        """Have all that was written so far in the file; return how many bytes that is."""
        async with self._ending:
            self._check_open()
            return await self._batches.flush(self._draft.flush, is_quick=not self._draft.holds_back)

    async def commit(self, *, origin: str = "") -> ObjectInfo:
        """Make the object visible at once and durable; if this raises, there is still a draft to suspend or abort."""
        async with self._ending:
            self._check_open()
            await self._batches.flush(self._draft.finish, is_quick=not self._draft.holds_back)
            info = await self._install(output_facts(self._meta, origin))
            self._draft.close(keep=True)
            return info

    async def suspend(self) -> None:
        """Close, and leave the draft to a later writer."""
        await self._close(keep=True)

    async def abort(self) -> None:
        """Close, and remove the draft."""
        await self._close(keep=False)

    async def _close(self, *, keep: bool) -> None:
        async with self._ending:
            await self._batches.abandon()
            if self._draft.is_open:
                await asyncio.to_thread(self._draft.close, keep=keep)  # what is large takes long to free

    async def _sync_name(self, syncs: QueuedSync) -> None:
        folder = os.open(os.path.dirname(self._draft.path), os.O_RDONLY | os.O_DIRECTORY)  # noqa: PTH120  # bytes
        try:
            await syncs.sync_folder(folder)
        finally:
            os.close(folder)
        self._name_is_durable = True

    def _check_open(self) -> None:
        if not self._draft.is_open:
            raise RuntimeError(f"the writer of draft {os.fsdecode(self._draft.path)} is closed")
