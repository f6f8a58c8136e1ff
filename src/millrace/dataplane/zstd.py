"""Decompress Zstandard as a stream of bounded chunks."""

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING

if TYPE_CHECKING or sys.version_info < (3, 14):
    from backports import zstd
else:
    from compression import zstd

__all__ = ["WINDOW_LOG_MAX", "CorruptZstd", "unzstd"]

WINDOW_LOG_MAX = 27
"""Binary logarithm of the longest window: 128 MiB, what `zstd -d` takes unless it is told otherwise."""

STEP_BYTES = 128 * 1024
"""Bytes handed to the decompressor at a time: damage costs what these hold, and its place is told so exactly."""


class CorruptZstd(Exception):
    """The bytes are no Zstandard; the message says where in the compressed object and why."""


async def unzstd(chunks: AsyncIterator[bytes], *, chunk_bytes: int) -> AsyncGenerator[bytes, None]:
    """Yield the decompressed bytes in chunks of at most `chunk_bytes`.

    Any number of frames may follow each other, skippable ones among them. Nothing at all is an empty stream. Chunks are
    decompressed on a thread: the library lets go of the interpreter lock meanwhile.

    Raises:
        CorruptZstd: Bad header, data or checksum, a window beyond WINDOW_LOG_MAX, a dictionary, or an early end.

    Source:
        RFC 8878 3.1: "Zstandard compressed data is made up of one or more frames."
    """
    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: WINDOW_LOG_MAX}
    decompressor: zstd.ZstdDecompressor | None = None
    position = frame = 0
    async for chunk in chunks:
        rest = memoryview(chunk)
        while rest or (decompressor is not None and not decompressor.needs_input):
            if decompressor is None:
                decompressor = zstd.ZstdDecompressor(options=options)
                frame = position
            given: memoryview | bytes = b""
            if decompressor.needs_input:
                given, rest = rest[:STEP_BYTES], rest[STEP_BYTES:]
            try:
                plain = await asyncio.to_thread(decompressor.decompress, given, chunk_bytes)
            except zstd.ZstdError as exc:
                reason = str(exc).rpartition(": ")[2].rstrip(".")
                raise CorruptZstd(
                    f"Failed to decompress zstd in the frame that begins at byte {frame}, "
                    f"at byte {position} or up to {STEP_BYTES} behind it: {reason}"
                ) from exc
            position += len(given)
            if plain:
                yield plain
            if decompressor.eof:
                unused = len(decompressor.unused_data)
                position -= unused
                if unused:
                    rest = memoryview(chunk)[len(chunk) - len(rest) - unused :]
                decompressor = None
    if decompressor is not None:
        raise CorruptZstd(f"Failed to decompress zstd: the data ends at byte {position}, before the end of the frame")
