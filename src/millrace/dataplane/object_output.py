"""Write the output of one object, and beside it what is told of its bad records; commit it in parts, then whole."""

import secrets
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from functools import partial
from pathlib import Path
from typing import cast

from millrace.dataplane.bad_records import BadRecord, error_line, quarantine_key
from millrace.dataplane.checkpoints import Checkpoints, Origin, Position
from millrace.dataplane.counts import Counts
from millrace.dataplane.draft_names import errors_draft, packed_draft
from millrace.dataplane.formats.job import JobFormats
from millrace.dataplane.formats.writers import DraftText, FileText, KeptText
from millrace.dataplane.left_drafts import LeftDrafts, find_origin
from millrace.dataplane.plan import InputObject
from millrace.dataplane.reading import ObjectReader
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

__all__ = ["ERRORS_META", "NoOutputBucket", "ObjectOutput", "of_output"]

ERRORS_META = ObjectMeta(headers={"content-type": "application/jsonlines"})


class NoOutputBucket(Exception):
    """The output path is in a bucket that does not exist: the client's fault, unlike other errors of the store."""


@contextmanager
def of_output(ref: ObjectRef) -> Iterator[None]:
    """Say of a bucket that is missing that it is the output's."""
    try:
        yield
    except NoSuchBucket as exc:
        raise NoOutputBucket(f"bucket {ref.bucket} of the output does not exist") from exc


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
        self._errors: ObjectWriter | None = None
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
                await self._begin_errors(position.error_bytes)
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
        if not bad:
            return
        if self._errors is None:
            self._errors = await self._open_errors(0)
        await self._errors.write(b"".join(map(error_line, bad)))

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
        writer, errors = cast(ResumableWriter, self._writer), cast("ResumableWriter | None", self._errors)
        position = Position(
            input_version=self._entry.version,
            draft=self._draft,
            offset=offset,
            output_bytes=await writer.checkpoint(),
            error_bytes=0 if errors is None else await errors.checkpoint(),
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
        writer, errors = self._writer, self._errors
        assert writer is not None, "write opens it"
        try:
            if errors is not None:
                with of_output(self._entry.output):
                    await errors.commit(origin=self.origin(counts))
                self._errors = None
            elif self._tells:  # of an earlier run of the same input, or attempt at it
                await self._objects.delete(self._errors_ref())
                if self._draft:
                    await self._objects.discard_draft(self._entry.output.bucket, errors_draft(self._draft))
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
        for writer in self._take_writers():
            await writer.abort()

    async def suspend(self) -> None:
        """Leave what was committed in parts to a later attempt; throw away what was not."""
        part, errors = self._part, self._errors
        for writer in self._take_writers():
            if part is None or (writer is errors and not part.error_bytes):
                await writer.abort()
            else:
                await cast(ResumableWriter, writer).suspend()

    def _take_writers(self) -> list[ObjectWriter]:
        writers = [writer for writer in (self._writer, self._errors) if writer is not None]
        self._writer = self._errors = None
        return writers

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

    async def _begin_errors(self, at: int) -> None:
        """Go on with what tells of bad records; raises DraftLost if that is not there, nor visible."""
        try:
            self._errors = await self._open_errors(at)
        except DraftLost as exc:
            if isinstance(exc, DraftHeld) or not await self._has_told():
                raise
            await self._begin_with_visible(at)

    async def _begin_with_visible(self, at: int) -> None:
        """Begin what tells of bad records with the first bytes of what is visible of it; raises DraftLost.

        An attempt made it visible that ended before it did so with the output. What it tells of records behind the last
        part is left out: those are transformed again, and of some another thing may be told now, or nothing.
        """
        ref, draft = self._errors_ref(), errors_draft(self._draft)
        errors = self._errors = cast(ResumableWriter, await self._open_errors(0))
        try:
            async with aclosing(cast("AsyncGenerator[bytes, None]", self._objects.read(ref, length=at))) as chunks:
                async for chunk in chunks:
                    await errors.write(chunk)
        except NoSuchKey as exc:
            raise DraftLost(draft, f"it was made {ref}, which is gone") from exc
        if (size := await errors.checkpoint()) != at:
            raise DraftLost(draft, f"it was made {ref}: {at} bytes are wanted of {size}")

    async def _has_told(self) -> bool:
        """Return whether the object that tells of bad records is this output's: it is made visible first."""
        assert self._checkpoints is not None, "asked only of work that is taken up"
        if self._entry.range is not None:  # then it is of all ranges
            return False
        return self._checkpoints.made_by_us(await find_origin(self._errors_ref(), self._objects), self._entry)

    def _errors_ref(self) -> ObjectRef:
        return ObjectRef(self._entry.output.bucket, quarantine_key(self._entry.output.key))

    async def _open_errors(self, at: int) -> ObjectWriter:
        draft = self._draft and errors_draft(self._draft)
        return await self._open(self._errors_ref(), ERRORS_META, draft, at)

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
