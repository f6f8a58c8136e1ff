"""Cut a stream of rows into blocks of whole rows, whatever the chunks' borders. Pure but for waiting."""

from collections.abc import AsyncGenerator, AsyncIterator

from millrace.dataplane.csv_records import last_record_end
from millrace.dataplane.formats.unreadable import UnfitFormat

__all__ = ["BLOCK_BYTES", "row_blocks"]

BLOCK_BYTES = 2 * 1024 * 1024
"""Bytes of rows that are parsed at a time; a row that is longer is a block of its own."""


async def row_blocks(
    chunks: AsyncIterator[bytes], *, quoted_newlines: bool, block_bytes: int = BLOCK_BYTES
) -> AsyncGenerator[bytes, None]:
    """Yield the rows in blocks of about `block_bytes`, each row with its line feed but perhaps the last.

    Where blocks end follows from the rows alone, so that files made of them are the same in every run.

    Args:
        chunks: Rows that end with line feeds, cut anywhere.
        quoted_newlines: Whether a line feed between quotes belongs to its row.
        block_bytes: Size that is aimed at.

    Raises:
        UnfitFormat: The rows end between quotes.
    """
    waiting = bytearray()
    stop = block_bytes
    async for chunk in chunks:
        waiting += chunk
        while len(waiting) >= stop:
            end = _last_end(waiting, stop, quoted_newlines=quoted_newlines)
            if not end:
                stop *= 2  # doubled, so that a long row is not searched once for every chunk
                continue
            with memoryview(waiting) as rows:
                block = bytes(rows[:end])
            yield block
            del waiting[:end]
            stop = block_bytes
    if quoted_newlines and waiting.count(b'"') % 2:
        raise UnfitFormat("the rows of CSV end between quotes: a quoted field has no closing quote")
    if waiting:
        yield bytes(waiting)


def _last_end(rows: bytearray, stop: int, *, quoted_newlines: bool) -> int:
    return last_record_end(rows, stop) if quoted_newlines else rows.rfind(b"\n", 0, stop) + 1
