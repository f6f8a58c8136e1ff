"""Read and remove the drafts of outputs that some attempt has left, and see which outputs it has finished."""

from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import cast

from millrace.dataplane.checkpoints import Origin
from millrace.dataplane.draft_names import drafts_beside
from millrace.names import ObjectRef
from millrace.ports.objects import DraftHeld, NoSuchBucket, NoSuchKey, ObjectStore, ObjectUnreadable

__all__ = ["LeftDrafts", "find_origin"]


class LeftDrafts:
    """The drafts of one bucket."""

    def __init__(self, objects: ObjectStore, bucket: str) -> None:
        self._objects = objects
        self._bucket = bucket

    async def read(self, name: str, size: int) -> AsyncGenerator[bytes, None]:
        """Yield the first bytes of a draft; of none there need be no draft."""
        if size:
            stream = cast("AsyncGenerator[bytes, None]", self._objects.read_draft(self._bucket, name, length=size))
            async with aclosing(stream):
                async for chunk in stream:
                    yield chunk

    async def discard(self, draft: str) -> None:
        """Remove a draft, and what goes with it; what has a writer is left to that one."""
        for name in drafts_beside(draft):
            await self.discard_alone(name)

    async def discard_alone(self, draft: str) -> None:
        """Remove a draft, unless it has a writer."""
        with suppress(DraftHeld, NoSuchBucket):
            await self._objects.discard_draft(self._bucket, draft)


async def find_origin(ref: ObjectRef, objects: ObjectStore) -> Origin | None:
    """Return what an object tells of who made it; None if it is not there, can't be read, or tells nothing."""
    try:
        return Origin.decode((await objects.get(ref)).meta.origin)
    except (NoSuchKey, NoSuchBucket, ObjectUnreadable):
        return None
