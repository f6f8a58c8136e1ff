"""Write the object that tells of the bad records of one output, beside it, and in the same parts."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import cast

from millrace.dataplane.bad_records import BadRecord, error_line, quarantine_key
from millrace.dataplane.checkpoints import Checkpoints
from millrace.dataplane.draft_names import errors_draft
from millrace.dataplane.left_drafts import find_origin
from millrace.dataplane.output_bucket import of_output
from millrace.dataplane.plan import InputObject
from millrace.names import ObjectRef
from millrace.ports.objects import (
    DraftHeld,
    DraftLost,
    NoSuchKey,
    ObjectMeta,
    ObjectStore,
    ObjectWriter,
    ResumableWriter,
)

__all__ = ["ERRORS_META", "ToldRecords"]

ERRORS_META = ObjectMeta(headers={"content-type": "application/jsonlines"})


class ToldRecords:
    """What is told of the bad records of one output; there is no such object as long as there are none.

    `draft` is the name of the output's draft, empty if that is not committed in parts.
    """

    def __init__(self, entry: InputObject, *, objects: ObjectStore, checkpoints: Checkpoints | None) -> None:
        self._entry = entry
        self._objects = objects
        self._checkpoints = checkpoints
        self._ref = ObjectRef(entry.output.bucket, quarantine_key(entry.output.key))
        self._writer: ObjectWriter | None = None

    async def begin(self, draft: str, at: int) -> None:
        """Go on behind the first bytes of what was told; raises DraftLost if that is not there, nor visible."""
        try:
            self._writer = await self._open(draft, at)
        except DraftLost as exc:
            if isinstance(exc, DraftHeld) or not await self._is_visible():
                raise
            await self._begin_with_visible(draft, at)

    async def _begin_with_visible(self, draft: str, at: int) -> None:
        """Begin with the first bytes of what is visible; raises DraftLost.

        An attempt made it visible that ended before it did so with the output. What it tells of records behind the last
        part is left out: those are transformed again, and of some another thing may be told now, or nothing.
        """
        ref, name = self._ref, errors_draft(draft)
        writer = self._writer = cast(ResumableWriter, await self._open(draft, 0))
        try:
            async with aclosing(cast("AsyncGenerator[bytes, None]", self._objects.read(ref, length=at))) as chunks:
                async for chunk in chunks:
                    await writer.write(chunk)
        except NoSuchKey as exc:
            raise DraftLost(name, f"it was made {ref}, which is gone") from exc
        if (size := await writer.checkpoint()) != at:
            raise DraftLost(name, f"it was made {ref}: {at} bytes are wanted of {size}")

    async def _is_visible(self) -> bool:
        """Return whether the object that is visible is this output's: it is made so first."""
        assert self._checkpoints is not None, "asked only of work that is taken up"
        if self._entry.range is not None:  # then it is of all ranges
            return False
        return self._checkpoints.made_by_us(await find_origin(self._ref, self._objects), self._entry)

    async def _open(self, draft: str, at: int) -> ObjectWriter:
        with of_output(self._ref):
            if draft:
                return await self._objects.open_resumable(self._ref, ERRORS_META, draft=errors_draft(draft), at=at)
            return await self._objects.open_writer(self._ref, ERRORS_META)

    async def tell(self, draft: str, bad: Sequence[BadRecord]) -> None:
        """Append bad records."""
        if not bad:
            return
        if self._writer is None:
            self._writer = await self._open(draft, 0)
        await self._writer.write(b"".join(map(error_line, bad)))

    async def checkpoint(self) -> int:
        """Make all that was told so far durable; return how many bytes that is."""
        return 0 if self._writer is None else await cast(ResumableWriter, self._writer).checkpoint()

    async def commit(self, draft: str, origin: str, *, replaces: bool) -> None:
        """Make what was told visible; if nothing was, and if it `replaces`, remove what told of an earlier run."""
        if self._writer is not None:
            with of_output(self._entry.output):
                await self._writer.commit(origin=origin)
            self._writer = None
        elif replaces:
            await self._objects.delete(self._ref)
            if draft:
                await self._objects.discard_draft(self._ref.bucket, errors_draft(draft))

    async def end(self, *, keeps: bool) -> None:
        """Leave what was told to a later attempt, or throw it away."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        if keeps:
            await cast(ResumableWriter, writer).suspend()
        else:
            await writer.abort()
