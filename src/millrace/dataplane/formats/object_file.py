"""Read an object of a store as a file with any order of places, from a thread beside the event loop."""

import asyncio
import io
import os
import threading
from collections.abc import Callable

from millrace.dataplane.formats.unreadable import UnfitFormat
from millrace.names import ObjectRef
from millrace.ports.objects import ObjectInfo, ObjectStore

__all__ = ["READ_BYTES", "ObjectFile", "open_object"]

READ_BYTES = 256 * 1024 * 1024
"""Longest stretch that is read at once: more than this, of a batch of Arrow say, is refused rather than held."""

ABANDONED_SECONDS = 1.0
"""Time between two looks of a thread whether anybody still waits for what it asks a store for."""


class ObjectFile(io.RawIOBase):
    """A readable, seekable file. Its reads block: only threads of their own use it."""

    def __init__(
        self,
        size: int,
        fetch: Callable[[int, int], bytes],
        close: Callable[[], None],
        *,
        one_version: bool,
        read_bytes: int = READ_BYTES,
        abandon: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self.one_version = one_version
        """Whether all reads are of one version of the object, whatever happens to it."""
        self.size = size
        self._fetch = fetch
        self._close = close
        self._read_bytes = read_bytes
        self.abandon = abandon
        """Called from the event loop when nobody waits for what is read any more."""
        self._position = 0
        self.bytes_read = 0
        """Bytes fetched so far; a stretch that is read twice counts twice."""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """Return the next bytes, fewer only at the end; raises UnfitFormat for more than `read_bytes`."""
        left = max(0, self.size - self._position)
        wanted = left if size is None or size < 0 else min(size, left)
        if wanted > self._read_bytes:
            raise UnfitFormat(
                f"a stretch that must be read as a whole may have at most {self._read_bytes} bytes, got {wanted}"
            )
        if not wanted:
            return b""
        data = self._fetch(self._position, wanted)
        if len(data) != wanted:
            raise UnfitFormat(f"the object ends at byte {self._position + len(data)}, while it is read")
        self._position += wanted
        self.bytes_read += wanted
        return data

    def readinto(self, buffer: "bytearray | memoryview", /) -> int:  # type: ignore[override]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._close()
        super().close()


async def open_object(
    objects: ObjectStore, ref: ObjectRef, *, read_bytes: int = READ_BYTES
) -> tuple[ObjectInfo, ObjectFile]:
    """Return an object's facts and a file of its bytes, to be closed by the caller; raises NoSuchKey, NoSuchBucket.

    A local file is one version of the object. Of a store elsewhere, every read is a request for a range, and whoever
    has read everything compares the ETag.
    """
    local = await objects.open_local(ref)
    if local is not None:
        info, _, descriptor = local

        def fetch_local(start: int, length: int) -> bytes:
            pieces = []
            while length and (piece := os.pread(descriptor, length, start)):
                pieces.append(piece)
                start += len(piece)
                length -= len(piece)
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)

        return info, ObjectFile(
            info.size, fetch_local, lambda: os.close(descriptor), one_version=True, read_bytes=read_bytes
        )
    info = await objects.get(ref)
    loop = asyncio.get_running_loop()

    async def range_of(start: int, length: int) -> bytes:
        stream = objects.read(ref, start=start, length=length)
        return b"".join([chunk async for chunk in stream])

    abandoned = threading.Event()

    def fetch(start: int, length: int) -> bytes:
        ranged = asyncio.run_coroutine_threadsafe(range_of(start, length), loop)
        while True:
            try:
                return ranged.result(ABANDONED_SECONDS)
            except TimeoutError:
                if ranged.done():
                    raise
                if abandoned.is_set():  # the loop may have ended: nobody would ever answer
                    ranged.cancel()
                    raise

    return info, ObjectFile(
        info.size, fetch, lambda: None, one_version=False, read_bytes=read_bytes, abandon=abandoned.set
    )
