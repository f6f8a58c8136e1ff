"""Decompress gzip as a stream of bounded chunks."""

import asyncio
import zlib
from collections.abc import AsyncGenerator, AsyncIterator

__all__ = ["CorruptGzip", "gunzip"]

_GZIP_FRAMING = 31  # 15 window bits plus 16: zlib's way to say gzip header and trailer


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
            try:
                plain = await asyncio.to_thread(decompressor.decompress, data, chunk_bytes)
            except zlib.error as exc:
                raise CorruptGzip(f"Failed to decompress gzip near byte {position}: {exc}") from exc
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
