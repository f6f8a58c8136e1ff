"""Write outputs in their formats behind the interface of every output: the transform loop writes text as ever.

What can be gone on with must not hold state that dies with its process: `KeptTextWriter` keeps the text, to which more
can be added after any checkpoint, and makes the object of it when it is committed. `EncodedWriter` is for outputs that
are not gone on with, and spares keeping the text. Both give the same bytes.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Protocol

from millrace.dataplane.formats.compress import Encoder
from millrace.dataplane.formats.kept_rows import Rows
from millrace.ports.objects import ObjectInfo, ObjectWriter, ResumableWriter

__all__ = ["DraftText", "EncodedWriter", "FileText", "KeptText", "KeptTextWriter", "encoded"]

READ_BYTES = 1024 * 1024
"""Bytes of text in a file that are read at a time."""


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


class KeptText(Protocol):
    """The text of one output, until it is complete."""

    async def write(self, chunk: bytes | memoryview) -> None:
        """Append text."""
        ...

    async def checkpoint(self) -> int:
        """Make the text durable; return how many bytes it has."""
        ...

    async def rows(self) -> Rows:
        """Return what reads the text, to which nothing is added any more."""
        ...

    async def suspend(self) -> None:
        """Leave the text to a later writer, where there may be one."""
        ...

    async def abort(self) -> None:
        """Forget the text; harmless after another end, or a second time."""
        ...


class DraftText:
    """Text in a draft of the store, to which any process may add more after a checkpoint: also that of another job."""

    def __init__(self, draft: ResumableWriter, read: Callable[[int], AsyncGenerator[bytes, None]]) -> None:
        """`read` yields the first bytes of the draft, as many as it is told."""
        self._draft = draft
        self._read = read
        self.write = draft.write
        self.checkpoint = draft.checkpoint
        self.suspend = draft.suspend
        self.abort = draft.abort

    async def rows(self) -> Rows:
        return partial(self._read, await self._draft.flush())


class FileText:
    """Text in a file that ends with its process, for outputs that are not gone on with."""

    def __init__(self, path: Path) -> None:
        """`path` is that of no file as yet."""
        self._path = path
        self._file = path.open("x+b")

    async def write(self, chunk: bytes | memoryview) -> None:
        await asyncio.to_thread(self._file.write, chunk)

    async def checkpoint(self) -> int:
        await asyncio.to_thread(self._file.flush)
        return self._file.tell()

    async def rows(self) -> Rows:
        await self.checkpoint()
        return self._read

    async def _read(self) -> AsyncGenerator[bytes, None]:
        position = 0
        while chunk := await asyncio.to_thread(os.pread, self._file.fileno(), READ_BYTES, position):
            yield chunk
            position += len(chunk)

    async def suspend(self) -> None:
        await self.abort()

    async def abort(self) -> None:
        if not self._file.closed:
            self._path.unlink(missing_ok=True)
            self._file.close()


class KeptTextWriter:
    """Keeps text, and writes the object that it makes when it is committed. A resumable writer.

    Args:
        text: Where it is kept; commit and abort remove it.
        open_writer: Opens the object, once the text is complete: one that need not be resumable, as it is begun anew.
        convert: Makes the object's bytes of the text; it may raise UnfitFormat, which passes `commit`.

    If the object can't be made, the text is there still, to be suspended or aborted.
    """

    def __init__(
        self,
        text: KeptText,
        *,
        open_writer: Callable[[], Awaitable[ObjectWriter]],
        convert: Callable[[Rows], AsyncGenerator[bytes, None]],
    ) -> None:
        self._text = text
        self._open_writer = open_writer
        self._convert = convert
        self.write = text.write
        self.checkpoint = text.checkpoint
        self.suspend = text.suspend
        self.abort = text.abort

    async def commit(self, *, origin: str = "") -> ObjectInfo:
        """Make the object of the text, and make it visible; what was written of it is aborted if that fails."""
        rows = await self._text.rows()
        writer = await self._open_writer()
        try:
            async with aclosing(self._convert(rows)) as pieces:
                async for piece in pieces:
                    await writer.write(piece)
            info = await writer.commit(origin=origin)
        except BaseException:
            await writer.abort()
            raise
        await self._text.abort()
        return info
