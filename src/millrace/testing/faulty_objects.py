"""An object store in memory that misbehaves as a script says."""

import asyncio
import errno
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from enum import Enum, auto

from millrace.names import ObjectRef
from millrace.ports.objects import ListPage, NoSuchKey, ObjectInfo, ObjectMeta, ObjectWriter, ResumableWriter
from millrace.testing.objects import MemoryObjects

__all__ = ["FaultyObjects", "Step", "Trouble", "disk_full", "input_output_error"]


class Step(Enum):
    """Something that a store does, and that may go wrong."""

    LIST = auto()
    """A page of keys."""
    READ = auto()
    """The next chunk of an object."""
    OPEN = auto()
    """A writer."""
    WRITE = auto()
    CHECKPOINT = auto()
    COMMIT = auto()
    DELETE = auto()


Trouble = Callable[[ObjectRef], Exception]
"""Makes the error that a step on an object fails with."""


def input_output_error(ref: ObjectRef) -> Exception:
    """Return EIO: the store does not work."""
    return OSError(errno.EIO, f"Input/output error: {ref}")


def disk_full(ref: ObjectRef) -> Exception:
    """Return ENOSPC."""
    return OSError(errno.ENOSPC, f"No space left on device: {ref}")


class FaultyObjects(MemoryObjects):
    """Chunks of objects have the lengths of `chunk_sizes`, again from the first behind the last; 0 is an empty chunk.

    `troubles` tells with what the n-th (from 0) step of a kind fails; one that fails has done nothing. Each step takes
    `turns` turns of the event loop. `steps` counts those made.
    """

    def __init__(
        self,
        *,
        chunk_sizes: Sequence[int] = (1024 * 1024,),
        troubles: Mapping[tuple[Step, int], Trouble] | None = None,
        turns: int = 0,
    ) -> None:
        super().__init__()
        if not any(chunk_sizes):
            raise ValueError(f"chunk_sizes must have a size above 0, got {list(chunk_sizes)}")
        self._chunk_sizes = chunk_sizes
        self._troubles = troubles or {}
        self._turns = turns
        self.steps: Counter[Step] = Counter()

    async def take_step(self, step: Step, ref: ObjectRef) -> None:
        """Make a step, or fail."""
        number = self.steps[step]
        self.steps[step] += 1
        for _ in range(self._turns):
            await asyncio.sleep(0)
        trouble = self._troubles.get((step, number))
        if trouble is not None:
            raise trouble(ref)

    async def list_objects(
        self, bucket: str, *, prefix: str = "", after: str = "", delimiter: str = "", limit: int = 1000
    ) -> ListPage:
        await self.take_step(Step.LIST, ObjectRef(bucket, prefix))
        return await super().list_objects(bucket, prefix=prefix, after=after, delimiter=delimiter, limit=limit)

    async def read(self, ref: ObjectRef, *, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        info, data = self._find(ref)
        at, end = start, len(data) if length is None else min(len(data), start + length)
        turn = 0
        while at < end:
            await self.take_step(Step.READ, ref)
            if self._find(ref)[0].etag != info.etag:
                raise NoSuchKey(ref)
            size = self._chunk_sizes[turn % len(self._chunk_sizes)]
            turn += 1
            chunk = data[at : min(end, at + size)]
            at += len(chunk)
            yield chunk

    async def delete(self, ref: ObjectRef, *, if_match: str | None = None) -> bool:
        await self.take_step(Step.DELETE, ref)
        return await super().delete(ref, if_match=if_match)

    async def open_writer(self, ref: ObjectRef, meta: ObjectMeta | None = None) -> "FaultyWriter":  # type: ignore[override]
        await self.take_step(Step.OPEN, ref)
        return FaultyWriter(self, ref, await super().open_writer(ref, meta))

    async def open_resumable(  # type: ignore[override]
        self, ref: ObjectRef, meta: ObjectMeta | None = None, *, draft: str, at: int
    ) -> "FaultyResumableWriter":
        await self.take_step(Step.OPEN, ref)
        return FaultyResumableWriter(self, ref, await super().open_resumable(ref, meta, draft=draft, at=at))


class FaultyWriter:
    """A writer of a faulty store."""

    def __init__(self, objects: FaultyObjects, ref: ObjectRef, writer: ObjectWriter) -> None:
        self._objects = objects
        self._ref = ref
        self._writer = writer

    async def write(self, chunk: bytes | memoryview) -> None:
        await self._objects.take_step(Step.WRITE, self._ref)
        await self._writer.write(chunk)

    async def commit(self, *, origin: str = "") -> ObjectInfo:
        await self._objects.take_step(Step.COMMIT, self._ref)
        return await self._writer.commit(origin=origin)

    async def abort(self) -> None:
        await self._writer.abort()


class FaultyResumableWriter(FaultyWriter):
    """A writer into a draft of a faulty store."""

    def __init__(self, objects: FaultyObjects, ref: ObjectRef, writer: ResumableWriter) -> None:
        super().__init__(objects, ref, writer)
        self._draft = writer

    async def checkpoint(self) -> int:
        await self._objects.take_step(Step.CHECKPOINT, self._ref)
        return await self._draft.checkpoint()

    async def flush(self) -> int:
        await self._objects.take_step(Step.WRITE, self._ref)
        return await self._draft.flush()

    async def suspend(self) -> None:
        await self._draft.suspend()
