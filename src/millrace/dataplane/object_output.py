"""Write the output of one object, and beside it what is told of its bad records; commit it in parts, then whole."""

import secrets
from collections.abc import Callable, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import cast

from millrace.dataplane.bad_records import BadRecord
from millrace.dataplane.checkpoints import Checkpoints, Origin, Position
from millrace.dataplane.counts import Counts
from millrace.dataplane.draft_names import packed_draft
from millrace.dataplane.formats.job import JobFormats
from millrace.dataplane.formats.writers import DraftText, FileText, KeptText
from millrace.dataplane.left_drafts import LeftDrafts
from millrace.dataplane.output_bucket import of_output
from millrace.dataplane.plan import InputObject
from millrace.dataplane.reading import ObjectReader
from millrace.dataplane.told_records import ToldRecords
from millrace.names import ObjectRef
from millrace.ports.objects import (
    DraftHeld,
    DraftLost,
    NoSuchBucket,
    NoSuchKey,
    ObjectMeta,
    ObjectStore,
    ObjectUnreadable,
    ObjectWriter,
    ResumableWriter,
)

__all__ = ["ObjectOutput"]


class ObjectOutput:
    """One output in work: with `checkpoints` it says who made it, and `in_parts` can be committed in parts.

    `tells` of bad records or not. `kept_text` is a folder for text of tables that are not committed in parts.

    `begin` says where to go on. Whoever is done with an output calls one of `commit`, `abort` and `suspend`.
    """

    def __init__(
        self,
        entry: InputObject,
        *,
        objects: ObjectStore,
        meta: ObjectMeta,
        formats: JobFormats,
        reader: ObjectReader,
        kept_text: Path,
        checkpoints: Checkpoints | None,
        in_parts: bool,
        monotonic: Callable[[], float],
        tells: bool = False,
    ) -> None:
        self._entry = entry
        self._objects = objects
        self._left = LeftDrafts(objects, entry.output.bucket)
        self._meta = meta
        self._formats = formats
        self._reader = reader
        self._kept_text = kept_text
        self._checkpoints = checkpoints
        self._monotonic = monotonic
        self._tells = tells
        self._in_parts = in_parts and checkpoints is not None
        self._draft = checkpoints.draft(entry) if checkpoints is not None and self._in_parts else ""
        self._writer: ObjectWriter | None = None
        self._told = ToldRecords(entry, objects=objects, checkpoints=checkpoints)
        self._part: Position | None = None
        """The last part that is committed."""
        self._next_at = 0.0
        self.answer_columns: int | None = None
        """How many columns answers have, if anybody wants to know: parts tell it to those who go on with them."""

    async def begin(self) -> Position | None:
        """Open what an earlier attempt left, if it left anything, and return how far that reaches.

        Raises:
            NoOutputBucket: The bucket of the output is not there.
        """
        if self._checkpoints is None or not self._in_parts:
            return None
        position = self._checkpoints.position(self._entry)
        if position is None:
            for draft in self._checkpoints.earlier_drafts(self._entry):
                await self._left.discard(draft)
            return None
        if position.ended_at is None and await self._has_changed():
            await self._left.discard(position.draft)
            self._draft = f"{self._draft}-{secrets.token_hex(4)}"
            return None
        draft, self._draft = self._draft, position.draft
        self._part = position  # it stays, whatever else the store raises
        try:
            self._writer = await self._open_output(position.output_bytes)
            if position.error_bytes:
                await self._told.begin(self._draft, position.error_bytes)
        except DraftLost as exc:
            if isinstance(exc, DraftHeld):  # by a process that has not noticed yet that its work is another's
                draft = f"{draft}-{secrets.token_hex(4)}"
            await self.abort()
            self._draft, self._part = draft, None
            if position.draft != draft:
                await self._left.discard(position.draft)
            return None
        return position

    async def _has_changed(self) -> bool:
        """Return whether the input is another than was listed, which may be long ago: its parts would not fit."""
        try:
            return (await self._objects.get(self._entry.ref)).etag != self._entry.version
        except (NoSuchKey, NoSuchBucket, ObjectUnreadable):
            return False  # reading it will tell

    async def open(self) -> None:
        """Have a file to write to; raises NoOutputBucket."""
        if self._writer is None:
            self._writer = await self._open_output(0)
            if self._checkpoints is not None:
                self._next_at = self._monotonic() + self._checkpoints.pause_seconds

    async def write(self, buffer: bytes | memoryview) -> None:
        """Append results, once it is open; the buffer may be used again when this returns."""
        assert self._writer is not None, "open was called"
        await self._writer.write(buffer)

    async def tell(self, bad: Sequence[BadRecord]) -> None:
        """Append bad records to the object that tells of them."""
        await self._told.tell(self._draft, bad)

    async def open_streamed(self) -> ObjectWriter:
        """Return a writer of the caller's own, for an object that is streamed through; raises NoOutputBucket."""
        return await self._open_output(0)

    @property
    def has_part(self) -> bool:
        """Whether a part is committed."""
        return self._part is not None

    @property
    def checkpoint_due(self) -> bool:
        """Whether another part should be committed."""
        return self._in_parts and self._writer is not None and self._monotonic() >= self._next_at

    async def checkpoint(self, offset: int, counts: Counts) -> None:
        """Commit a part: all that was written, which is what `offset` bytes of the input gave. Raises LeaseLost."""
        if self._checkpoints is None or self._writer is None or not self._in_parts:
            return
        started = self._monotonic()
        await self._save_part(offset, counts)
        ended = self._monotonic()
        pause, share = self._checkpoints.pause_seconds, self._checkpoints.share
        self._next_at = ended + max(pause, (ended - started) / share)

    async def keep(self, offset: int, counts: Counts) -> None:
        """Commit all of a range that is done, and leave it to whoever joins the ranges; raises LeaseLost."""
        await self.open()
        text = ""
        if self._formats.converts and (self._part is None or self._part.ended_at is None):
            text = await self._compress()
        await self._save_part(offset, counts, ended_at=self._reader.end)
        await self.suspend()
        if text:
            await self._left.discard_alone(text)

    async def _compress(self) -> str:
        """Go on with a draft of the range's compressed text, and return the name of that of the text.

        A process that is killed before that is saved, too, finds the text.
        """
        text, name = cast(ResumableWriter, self._writer), self._draft
        size = await text.checkpoint()
        self._writer = None
        await text.suspend()
        self._draft = packed_draft(name)
        writer = self._writer = await self._open(self._entry.output, self._meta, self._draft, 0)
        pieces = self._formats.compressed_part(lambda: self._left.read(name, size), is_first=self._is_first)
        async with aclosing(pieces):
            async for piece in pieces:
                await writer.write(piece)
        return name

    @property
    def _is_first(self) -> bool:
        """Whether an output begins with what this one gives."""
        return self._entry.range is None or self._entry.range.index == 0

    async def _save_part(self, offset: int, counts: Counts, *, ended_at: int | None = None) -> None:
        assert self._checkpoints is not None, "outputs in parts have a journal"
        writer = cast(ResumableWriter, self._writer)
        position = Position(
            input_version=self._entry.version,
            draft=self._draft,
            offset=offset,
            output_bytes=await writer.checkpoint(),
            error_bytes=await self._told.checkpoint(),
            counts=counts,
            began_at=self._reader.begin,
            ended_at=ended_at,
            answer_columns=self.answer_columns,
        )
        await self._checkpoints.save(self._entry, position)
        self._part = position

    async def commit(self, counts: Counts, *, empty: bool = False) -> int:
        """Make the output visible, and before it what tells of bad records; return its size. Not to be cancelled.

        `empty` means that there is to be none, and only bad records are told.
        """
        await self.open()
        writer = self._writer
        assert writer is not None, "write opens it"
        try:
            await self._told.commit(self._draft, self.origin(counts), replaces=self._tells)
            size = 0
            if empty:
                await writer.abort()
            else:
                with of_output(self._entry.output):
                    size = (await writer.commit(origin=self.origin(counts))).size
            self._writer = None
            return size
        except BaseException:
            await self.suspend()
            raise

    def origin(self, counts: Counts) -> str:
        """Return what the finished output tells of itself."""
        if self._checkpoints is None:
            return ""
        work, version = self._checkpoints.family, self._entry.version
        return Origin(work=work, input_version=version, counts=counts).encode()

    async def abort(self) -> None:
        """Throw away what was written."""
        await self._end(None)

    async def suspend(self) -> None:
        """Leave what was committed in parts to a later attempt; throw away what was not."""
        await self._end(self._part)

    async def _end(self, part: Position | None) -> None:
        writer, self._writer = self._writer, None
        try:
            if writer is not None:
                await (writer.abort() if part is None else cast(ResumableWriter, writer).suspend())
        finally:
            await self._told.end(keeps=part is not None and part.error_bytes > 0)

    async def _open_output(self, at: int) -> ObjectWriter:
        reader, formats, draft = self._reader, self._formats, self._draft
        if self._entry.range is not None:
            writer = await self._open(self._entry.output, self._meta, draft, at)
            if self._is_first and not at and (begin := formats.output_start(reader.header)):
                await writer.write(begin)
            return writer
        text: KeptText | None = None
        if formats.converts and draft:
            kept = cast(ResumableWriter, await self._open(self._entry.output, self._meta, draft, at))
            text = DraftText(kept, partial(self._left.read, self._draft))
            draft = ""
        elif formats.writes_tables:
            text = FileText(self._kept_text / secrets.token_hex(8))
        try:
            return await formats.open_writer(
                partial(self._open, self._entry.output, self._meta, draft, 0 if text else at),
                objects=self._objects,
                ref=self._entry.ref,
                header=reader.header,
                text=text,
                at=at,
                etag=reader.etag,
            )
        except BaseException:
            if text is not None:
                await (text.suspend() if at else text.abort())
            raise

    async def _open_draft(self, ref: ObjectRef, meta: ObjectMeta, draft: str, at: int) -> ObjectWriter:
        try:
            return await self._objects.open_resumable(ref, meta, draft=draft, at=at)
        except DraftHeld:
            if at or draft != self._draft:
                raise
            self._draft = f"{draft}-{secrets.token_hex(4)}"
            return await self._objects.open_resumable(ref, meta, draft=self._draft, at=0)

    async def _open(self, ref: ObjectRef, meta: ObjectMeta, draft: str, at: int) -> ObjectWriter:
        with of_output(ref):
            if draft:
                return await self._open_draft(ref, meta, draft, at)
            return await self._objects.open_writer(ref, meta)
