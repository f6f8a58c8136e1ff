"""Read the records of one input object, from any place of it, and count what was read of it as it is stored."""

from collections.abc import AsyncGenerator

from millrace.dataplane.formats.header import HeaderLine
from millrace.dataplane.formats.job import JobFormats
from millrace.dataplane.plan import InputObject
from millrace.dataplane.progress import Counters
from millrace.ports.objects import ObjectInfo, ObjectStore

__all__ = ["ObjectReader"]


class ObjectReader:
    """The bytes of one object; may be read more than once, for a retry. A byte that is read again counts once.

    `header` is what is told of the object's header, if its job has headers; it is empty until the first chunk came.
    """

    def __init__(
        self, objects: ObjectStore, entry: InputObject, *, formats: JobFormats, chunk_bytes: int, counters: Counters
    ) -> None:
        self._objects = objects
        self._entry = entry
        self._formats = formats
        self._chunk_bytes = chunk_bytes
        self._counters = counters
        self._counted = 0
        """Stored bytes that were counted as read."""
        self._read = 0
        """Stored bytes of a table that were read since it was opened last."""
        self.header: HeaderLine | None = formats.header()
        self.etag = entry.version or None
        """That of the version that is read, None if unknown."""

    @property
    def bytes_read(self) -> int:
        """Stored bytes that were read so far."""
        return self._counted

    def chunks(self, start: int = 0, *, whole: bool = False) -> AsyncGenerator[bytes, None]:
        """Return the bytes of the object's records from `start` on, in chunks of at most `chunk_bytes`.

        `start` counts from behind a header; `whole` has a header that is repeated stand before them.
        """
        self._read = 0
        return self._formats.chunks(
            self._objects,
            self._entry.ref,
            self._stored,
            header=self.header,
            chunk_bytes=self._chunk_bytes,
            start=start,
            whole=whole,
            on_open=self._note_version,
            on_read=self._count_more,
        )

    async def _stored(self, start: int) -> AsyncGenerator[bytes, None]:
        self._count(start)
        stream = self._objects.read(self._entry.ref, start=start)
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

    def _note_version(self, info: ObjectInfo) -> None:
        self.etag = info.etag

    def _count_more(self, size: int) -> None:
        self._read += size
        self._count(self._read)

    def _count(self, end: int) -> None:
        if end > self._counted:
            self._counters.bytes_in += end - self._counted
            self._counted = end
