"""Read the records of one input object, or of a range of it, and count what was read of it as it is stored."""

from collections.abc import AsyncGenerator

from millrace.dataplane.formats.header import HEADER_BYTES, HeaderLine
from millrace.dataplane.formats.job import JobFormats
from millrace.dataplane.plan import InputObject
from millrace.dataplane.progress import Counters
from millrace.dataplane.record_starts import RecordStarts, StartsKept
from millrace.names import ObjectRef
from millrace.ports.objects import ObjectInfo, ObjectStore
from millrace.told import shortened

__all__ = ["ObjectChanged", "ObjectReader"]


class ObjectChanged(Exception):
    """An object was written to while ranges of it were read, or after parts of its output were committed."""

    def __init__(self, ref: ObjectRef, *, ranges: bool = True) -> None:
        meanwhile = "ranges of it were" if ranges else "it was"
        super().__init__(f"{shortened(str(ref))} was written to while {meanwhile} transformed")


class ObjectReader:
    """The bytes of one object; may be read more than once, for a retry. A byte that is read again counts once.

    `header` is what is told of the object's header, if its job has headers; it is empty until the first chunk came.
    """

    def __init__(
        self,
        objects: ObjectStore,
        entry: InputObject,
        *,
        formats: JobFormats,
        chunk_bytes: int,
        counters: Counters,
        starts: StartsKept | None = None,
    ) -> None:
        self._objects = objects
        self._entry = entry
        self._formats = formats
        self._chunk_bytes = chunk_bytes
        self._counters = counters
        self._starts = starts
        self._counted = 0
        """Stored bytes that were counted as read."""
        self._read = 0
        """Stored bytes of a table that were read since it was opened last."""
        self.header: HeaderLine | None = formats.header()
        self.etag = entry.version or None
        """That of the version that is read, None if unknown."""
        self.begin = 0
        self.end: int | None = None
        """The bytes of the object that are read: all of them, or once it is located those of the range's records.

        A range of a table has the row groups that begin there.
        """

    @property
    def bytes_read(self) -> int:
        """Stored bytes that were read so far."""
        return self._counted

    async def locate(self) -> None:
        """Find where the records of a range begin and end in their object."""
        entry, part = self._entry, self._entry.range
        if part is None or self.end is not None:
            return
        if self._formats.reads_tables:
            self.begin, self.end = part.start, part.end
            return
        kept = self._starts or StartsKept(self._objects, self._formats.record_scan())
        starts = kept.of(entry.ref, entry.version, part.object_size)
        self.begin = await starts.find(part.start)
        self.end = max(self.begin, await starts.find(part.end))

    def place(self, offset: int) -> int:
        """Return where in the object a byte of the range's records lies; that of a table's text lies nowhere in it."""
        return offset if self._formats.reads_tables else self.begin + offset

    async def check_unchanged(self) -> None:
        """Raise ObjectChanged unless the object of a range still is what was listed; so it was when it was read."""
        if self._entry.range is not None:
            await self.check_version()

    async def check_version(self) -> None:
        """Raise ObjectChanged unless the object still is what was listed; so what is open of it is that, too."""
        if (await self._objects.get(self._entry.ref)).etag != self._entry.version:
            raise ObjectChanged(self._entry.ref, ranges=self._entry.range is not None)

    def skip(self, begin: int, end: int) -> None:
        """Take note that a range, which lies there, need not be read."""
        self.begin, self.end = begin, end
        self._count(end - begin)

    def chunks(self, start: int = 0, *, whole: bool = False) -> AsyncGenerator[bytes, None]:
        """Return the bytes of the object's records from `start` on, in chunks of at most `chunk_bytes`.

        `start` counts from behind a header; `whole` has a header that is repeated stand before them.
        """
        self._read = 0
        formats = self._formats
        if self.header is None and not formats.reads_tables and formats.codec(self._entry.ref.key) is None:
            return self._stored(start)  # nothing is decoded or left out: fewer frames for each of many small objects
        return formats.chunks(
            self._objects,
            self._entry.ref,
            self._stored,
            header=self.header,
            chunk_bytes=self._chunk_bytes,
            start=start,
            whole=whole,
            part=None if self.end is None else (self.begin, self.end),
            on_open=self._note_version,
            on_read=self._count_more,
        )

    async def _stored(self, start: int) -> AsyncGenerator[bytes, None]:
        self._count(start)
        length = None
        if self.end is not None:
            length = self.end - self.begin - start
            if length <= 0:
                return
            if self.header is not None and self.begin:
                yield await self._header_line()
        stream = self._objects.read(self._entry.ref, start=self.begin + start, length=length)
        end = start
        try:
            async for chunk in stream:
                end += len(chunk)
                self._count(end)
                yield chunk
        finally:
            close = getattr(stream, "aclose", None)
            if close is not None:
                await close()

    async def _header_line(self) -> bytes:
        """Return the object's first record, for a range behind it; its beginning if it is too long for a header."""
        size = min(self.begin, HEADER_BYTES + 1)
        end = await RecordStarts(self._objects, self._entry.ref, size, self._formats.record_scan()).find(1)
        return b"".join([chunk async for chunk in self._objects.read(self._entry.ref, length=end)])

    def _note_version(self, info: ObjectInfo) -> None:
        self.etag = info.etag

    def _count_more(self, size: int) -> None:
        self._read += size
        self._count(self._read if self.end is None else min(self._read, self.end - self.begin))

    def _count(self, end: int) -> None:
        if end > self._counted:
            self._counters.bytes_in += end - self._counted
            self._counted = end
