"""Write the output of a job into a file that becomes an object all at once, or leaves nothing."""

import os
from collections.abc import Awaitable, Callable
from dataclasses import replace

from millrace.ports.objects import ObjectInfo, ObjectMeta
from millrace.store.batched_append import BatchedAppend
from millrace.store.draft import Draft
from millrace.store.facts import Facts

__all__ = ["FileWriter", "output_etags", "output_facts"]


class FileWriter:
    """An ObjectWriter. `install` makes the finished draft the object, with facts."""

    def __init__(
        self, draft: Draft, meta: ObjectMeta, install: Callable[[Facts], Awaitable[ObjectInfo]], *, chunk_bytes: int
    ) -> None:
        self._draft = draft
        self._meta = meta
        self._install = install
        self._batches = BatchedAppend(draft.append, batch_bytes=chunk_bytes)
        self.write = self._batches.write  # no frame more for each chunk

    async def commit(self, *, origin: str = "") -> ObjectInfo:
        """Make the object visible at once and durable, replacing an older one."""
        try:
            await self._batches.flush(self._draft.finish, is_quick=not self._draft.holds_back)
            return await self._install(output_facts(self._meta, origin))
        finally:
            self._draft.close()

    async def abort(self) -> None:
        """Forget what was written; harmless after commit or a second time."""
        await self._batches.abandon()
        self._draft.close()


def output_etags(count: int) -> list[str]:
    """Return random ETags, in the form of a multipart upload's."""
    digits = os.urandom(16 * count).hex()
    return [f"{digits[at : at + 32]}-1" for at in range(0, len(digits), 32)]


def output_facts(meta: ObjectMeta, origin: str) -> Facts:
    """Return the facts of an output: its ETag is random, in the form of a multipart upload's."""
    return Facts(etag=output_etags(1)[0], meta=replace(meta, origin=origin) if origin else meta)
