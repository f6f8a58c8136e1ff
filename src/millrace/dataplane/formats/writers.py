"""Write outputs in their formats behind the interface of every output: the transform loop writes text as ever.

Theory of going on. `EncodedWriter` gives its store compressed bytes, so a checkpoint can only be where a part ends:
`checkpoint` ends one. The output is the same to the byte whether or not it was broken off as long as parts end where
the data say; `whole_parts` says where that is, and it is always between two answers. `TableFileWriter` keeps the rows
in a file of its own and makes the table of them when it is committed; its checkpoints are those of the file.
"""

import asyncio
import os
from bisect import bisect_left
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from itertools import accumulate
from pathlib import Path

from millrace.dataplane.formats.compress import Encoder
from millrace.dataplane.formats.kept_rows import Rows
from millrace.ports.objects import DraftLost, ObjectInfo, ObjectWriter, ResumableWriter

__all__ = ["PART_BYTES", "EncodedWriter", "TableFileWriter", "whole_parts"]

PART_BYTES = 8 * 1024 * 1024
"""Bytes of an output after which a part of its compressed form may end."""

READ_BYTES = 1024 * 1024
"""Bytes of kept rows that are read at a time."""


def whole_parts(sizes: Sequence[int], held: int, part_bytes: int = PART_BYTES) -> int:
    """Return how many of the next answers complete a part, 0 if all of them together don't. Pure.

    Args:
        sizes: Bytes that each of the next answers adds to the output, its line feed included.
        held: Bytes of the part so far.
        part_bytes: Size that a part must reach.
    """
    reached = bisect_left(list(accumulate(sizes)), part_bytes - held)
    return reached + 1 if reached < len(sizes) else 0


class EncodedWriter:
    """Compresses what it is given on its way to another writer."""

    def __init__(self, writer: ObjectWriter, encoder: Encoder) -> None:
        self._writer = writer
        self._encoder = encoder

    async def write(self, chunk: bytes | memoryview) -> None:
        """Append bytes of the output."""
        await self._pass_on(await asyncio.to_thread(self._encoder.compress, chunk))

    async def end_part(self) -> None:
        """Have everything that was written so far complete in the store's bytes."""
        await self._pass_on(await asyncio.to_thread(self._encoder.end_part))

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

    async def checkpoint(self) -> int:
        """End the part and make it durable; return the bytes of the store's draft. Nobody writes meanwhile."""
        await self.end_part()
        return await _resumable(self._writer).checkpoint()

    async def suspend(self) -> None:
        """Leave the draft to a later writer, which gets an encoder that is told so."""
        await _resumable(self._writer).suspend()


def _resumable(writer: ObjectWriter) -> ResumableWriter:
    if not hasattr(writer, "checkpoint"):
        raise TypeError(f"only a resumable writer can be suspended, got {type(writer).__name__}")
    return writer  # type: ignore[return-value] # what has a checkpoint has the rest


class TableFileWriter:
    """Keeps rows in a file, and writes the table that they make when it is committed.

    Args:
        path: The file, of this output alone; it is removed after commit and abort.
        at: 0 to begin anew, else the bytes of the file that are kept: those that a checkpoint told.
        open_writer: Opens the object, once the rows are complete.
        table: Makes the bytes of the table; it may raise UnfitFormat, which passes `commit`.

    Raises:
        DraftLost: The file has not as many bytes as are to be kept.
    """

    def __init__(
        self,
        path: Path,
        *,
        at: int = 0,
        open_writer: Callable[[], Awaitable[ObjectWriter]],
        table: Callable[[Rows], AsyncGenerator[bytes, None]],
    ) -> None:
        self._path = path
        self._open_writer = open_writer
        self._table = table
        try:
            self._file = path.open("r+b" if at else "wb")
        except FileNotFoundError as exc:
            raise DraftLost(path.name, "it is not there") from exc
        kept = self._file.seek(0, os.SEEK_END)
        if kept < at:
            self._file.close()
            raise DraftLost(path.name, f"it must have {at} bytes, has {kept}")
        self._file.truncate(at)
        self._file.seek(at)

    async def write(self, chunk: bytes | memoryview) -> None:
        """Append rows."""
        await asyncio.to_thread(self._file.write, chunk)

    async def checkpoint(self) -> int:
        """Make the rows durable; return how many bytes they are."""
        await asyncio.to_thread(self._sync)
        return self._file.tell()

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    async def commit(self, *, origin: str = "") -> ObjectInfo:
        """Make the table of the rows, and make it visible; what was written of it is aborted if that fails."""
        await asyncio.to_thread(self._file.flush)
        writer = await self._open_writer()
        try:
            pieces = self._table(self._rows)
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

    async def _rows(self) -> AsyncGenerator[bytes, None]:
        with self._path.open("rb") as rows:
            while chunk := await asyncio.to_thread(rows.read, READ_BYTES):
                yield chunk

    async def abort(self) -> None:
        """Forget the rows; harmless a second time."""
        self._file.close()
        self._path.unlink(missing_ok=True)

    async def suspend(self) -> None:
        """Leave the rows to a later writer."""
        self._file.close()
