"""Read the bytes of one input object, decompressed, from any place of it, and count what was read."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from millrace.dataplane.gzip import gunzip
from millrace.dataplane.plan import InputObject
from millrace.dataplane.progress import Counters
from millrace.jobs.transform import Compression
from millrace.ports.objects import ObjectStore

__all__ = ["ObjectReader"]


class ObjectReader:
    """The bytes of one object; may be read more than once, for a retry. A byte that is read again counts once."""

    def __init__(
        self,
        objects: ObjectStore,
        entry: InputObject,
        *,
        compression: Compression,
        chunk_bytes: int,
        counters: Counters,
    ) -> None:
        self._objects = objects
        self._entry = entry
        self._compression = compression
        self._chunk_bytes = chunk_bytes
        self._counters = counters
        self._counted = 0
        """Stored bytes, from the object's beginning, that were counted as read."""

    async def chunks(self, start: int = 0) -> AsyncGenerator[bytes, None]:
        """Yield the object's bytes from `start` on, decompressed, in chunks of at most `chunk_bytes`.

        A compressed object is decompressed from its beginning whatever `start` is.
        """
        if self._compression is Compression.NONE:
            self._count(start)
            stored = self._stored(start)
            async with aclosing(stored):
                async for chunk in stored:
                    yield chunk
            return
        left = start
        async with aclosing(gunzip(self._stored(0), chunk_bytes=self._chunk_bytes)) as plain:
            async for chunk in plain:
                if left >= len(chunk):
                    left -= len(chunk)
                    continue
                yield chunk[left:] if left else chunk
                left = 0

    async def _stored(self, start: int) -> AsyncGenerator[bytes, None]:
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

    def _count(self, end: int) -> None:
        if end > self._counted:
            self._counters.bytes_in += end - self._counted
            self._counted = end
