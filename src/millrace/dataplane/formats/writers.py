"""Write outputs in their formats behind the interface of every output: the transform loop writes text as ever.

What can be gone on with must not hold state that dies with its process: `KeptTextWriter` keeps the text in a file, to
which more can be added after any checkpoint, and makes the object of it when it is committed. `EncodedWriter` is for
outputs that are not gone on with, and spares the file. Both give the same bytes.
"""

import asyncio
import fcntl
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from millrace.dataplane.formats.compress import Encoder
from millrace.dataplane.formats.kept_rows import Rows
from millrace.ports.objects import DraftHeld, DraftLost, ObjectInfo, ObjectWriter

__all__ = ["EncodedWriter", "KeptTextWriter", "encoded"]

READ_BYTES = 1024 * 1024
"""Bytes of kept text that are read at a time."""


async def encoded(text: Rows, encoder: Encoder) -> AsyncGenerator[bytes, None]:
    """Yield the compressed form of a text."""
    chunks = text()
    try:
        async for chunk in chunks:
            if piece := await asyncio.to_thread(encoder.compress, chunk):
                yield piece
    finally:
        await chunks.aclose()
    yield await asyncio.to_thread(encoder.finish)


class EncodedWriter:
    """Compresses what it is given on its way to another writer."""

    def __init__(self, writer: ObjectWriter, encoder: Encoder) -> None:
        self._writer = writer
        self._encoder = encoder

    async def write(self, chunk: bytes | memoryview) -> None:
        """Append bytes of the output."""
        await self._pass_on(await asyncio.to_thread(self._encoder.compress, chunk))

    async def _pass_on(self, compressed: bytes) -> None:
        if compressed:
            await self._writer.write(compressed)

    async def commit(self, *, origin: str = "") -> ObjectInfo:
        """Complete the output and make it visible."""
        await self._pass_on(await asyncio.to_thread(self._encoder.finish))
        return await self._writer.commit(origin=origin)

    async def abort(self) -> None:
        """Forget what was written."""
        await self._writer.abort()


class KeptTextWriter:
    """Keeps text in a file, and writes the object that it makes when it is committed. A resumable writer.

    Args:
        path: The file, of this output alone; it is removed by commit and abort.
        at: 0 to begin anew, else the bytes of the file that are kept: those that a checkpoint told.
        open_writer: Opens the object, once the text is complete: one that need not be resumable, as it is begun anew.
        convert: Makes the object's bytes of the text; it may raise UnfitFormat, which passes `commit`.

    The file is locked. Who begins anew takes a file of its own in its place: a process that does not know yet that its
    work is another's goes on writing to what nobody reads.

    Raises:
        DraftLost: The file has not as many bytes as are to be kept.
        DraftHeld: They are to be kept, and another writer has the file still.
    """

    def __init__(
        self,
        path: Path,
        *,
        at: int = 0,
        open_writer: Callable[[], Awaitable[ObjectWriter]],
        convert: Callable[[Rows], AsyncGenerator[bytes, None]],
    ) -> None:
        self._path = path
        self._open_writer = open_writer
        self._convert = convert
        self._file = _locked(path, at)
        self._file.truncate(at)
        self._file.seek(at)

    async def write(self, chunk: bytes | memoryview) -> None:
        """Append text."""
        await asyncio.to_thread(self._file.write, chunk)

    async def checkpoint(self) -> int:
        """Make the text durable; return how many bytes it has."""
        await asyncio.to_thread(self._sync)
        return self._file.tell()

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    async def commit(self, *, origin: str = "") -> ObjectInfo:
        """Make the object of the text, and make it visible; what was written of it is aborted if that fails."""
        await asyncio.to_thread(self._file.flush)
        writer = await self._open_writer()
        try:
            pieces = self._convert(self._text)
            try:
                async for piece in pieces:
                    await writer.write(piece)
            finally:
                await pieces.aclose()
            info = await writer.commit(origin=origin)
        except BaseException:
            await writer.abort()
            raise
        await self.abort()
        return info

    async def _text(self) -> AsyncGenerator[bytes, None]:
        position = 0
        while chunk := await asyncio.to_thread(os.pread, self._file.fileno(), READ_BYTES, position):
            yield chunk
            position += len(chunk)

    async def abort(self) -> None:
        """Forget the text; harmless after commit or a second time."""
        if self._file.closed:
            return
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(self._file.fileno()), self._path.stat()):  # not that of one who began anew
                self._path.unlink()
        self._file.close()

    async def suspend(self) -> None:
        """Leave the text to a later writer."""
        self._file.close()


def _locked(path: Path, at: int) -> BinaryIO:
    """Open a file of at least `at` bytes for one writer; a new one if none are to be kept."""
    if not at:
        path.unlink(missing_ok=True)
    try:
        file = path.open("r+b" if at else "x+b")
    except FileNotFoundError as exc:
        raise DraftLost(path.name, "it is not there") from exc
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        kept = file.seek(0, os.SEEK_END)
        if kept < at:
            raise DraftLost(path.name, f"it must have {at} bytes, has {kept}")
    except BaseException as exc:
        file.close()
        if isinstance(exc, BlockingIOError):
            raise DraftHeld(path.name, "another writer holds it") from None
        raise
    return file
