"""Decompress gzip as a stream of bounded chunks."""

import asyncio
import zlib
from collections.abc import AsyncGenerator, AsyncIterator

__all__ = ["CorruptGzip", "gunzip"]

_GZIP_FRAMING = 31  # 15 window bits plus 16: zlib's way to say gzip header and trailer

STEP_BYTES = 1024
"""Damaged data are decompressed again in steps of this size, and the step with the damage byte by byte."""


class CorruptGzip(Exception):
    """The bytes are no gzip; the message says where in the compressed object and why."""


async def gunzip(chunks: AsyncIterator[bytes], *, chunk_bytes: int) -> AsyncGenerator[bytes, None]:
    """Yield the decompressed bytes in chunks of at most `chunk_bytes`.

    Any number of gzip members may follow each other, and zero bytes may follow the last. Nothing at all is an empty
    stream. Chunks are decompressed on a thread: zlib lets go of the interpreter lock meanwhile.

    Raises:
        CorruptGzip: Bad header, data, checksum, or an early end.

    Source:
        RFC 1952 2.2: "A gzip file consists of a series of members".
    """
    decompressor = None
    position = 0
    members = 0
    async for chunk in chunks:
        data = chunk
        while data or decompressor is not None:
            if decompressor is None:
                if members:  # zero bytes pad the last member up to a block
                    padding = len(data) - len(data.lstrip(b"\0"))
                    position += padding
                    data = data[padding:]
                    if not data:
                        break
                decompressor = zlib.decompressobj(_GZIP_FRAMING)
            before = decompressor.copy()  # some 40 KB, to find the place of a damage
            try:
                plain = await asyncio.to_thread(decompressor.decompress, data, chunk_bytes)
            except zlib.error as exc:
                plain, reached = await asyncio.to_thread(_up_to_damage, before, data)
                if plain:
                    yield plain
                raise CorruptGzip(f"Failed to decompress gzip at byte {position + reached}: {exc}") from exc
            rest = decompressor.unused_data if decompressor.eof else decompressor.unconsumed_tail
            position += len(data) - len(rest)
            data = rest
            if plain:
                yield plain
            if decompressor.eof:
                decompressor = None
                members += 1
            elif not data and len(plain) < chunk_bytes:
                break  # it has no output left either: more input is needed
    if decompressor is not None:
        raise CorruptGzip(f"Failed to decompress gzip: the data ends at byte {position}, before the end of the stream")


def _up_to_damage(decompressor: "zlib._Decompress", data: bytes) -> tuple[bytes, int]:
    """Return what can be decompressed of damaged data, and how many bytes of them can be read."""
    plain = []
    for at in range(0, len(data), STEP_BYTES):
        before = decompressor.copy()
        try:
            plain.append(decompressor.decompress(data[at : at + STEP_BYTES]))
        except zlib.error:
            for single in range(at, len(data)):
                try:
                    plain.append(before.decompress(data[single : single + 1]))
                except zlib.error:
                    return b"".join(plain), single
    return b"".join(plain), len(data)
