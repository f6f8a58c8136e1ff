"""Decompress the objects of a job by what the job says, or by the ends of their keys."""

from collections.abc import AsyncGenerator

from millrace.dataplane.formats.options import Codec, InputCompression
from millrace.dataplane.gzip import CorruptGzip, gunzip
from millrace.dataplane.zstd import CorruptZstd, unzstd
from millrace.jobs.transform import Compression

__all__ = ["CORRUPT", "codec_of", "decompressed"]

CORRUPT = (CorruptGzip, CorruptZstd)
"""What `decompressed` raises where the input is at fault."""

_SUFFIXES = {".gz": Codec.GZIP, ".gzip": Codec.GZIP, ".zst": Codec.ZSTD, ".zstd": Codec.ZSTD}


def codec_of(key: str, wire: Compression, given: InputCompression | None) -> Codec | None:
    """Return how the object of a key is compressed, None if it is not. Pure.

    Args:
        key: The object's key; only `auto` looks at it, capital letters aside.
        wire: What CompressionType says.
        given: What MILLRACE_INPUT_COMPRESSION says; `check_formats` saw to it that it fits.
    """
    if given is InputCompression.AUTO:
        _, dot, suffix = key.rpartition(".")
        return _SUFFIXES.get((dot + suffix).lower())
    if given is not None:
        return Codec(given)
    return Codec.GZIP if wire is Compression.GZIP else None


def decompressed(
    chunks: AsyncGenerator[bytes, None], codec: Codec | None, *, chunk_bytes: int
) -> AsyncGenerator[bytes, None]:
    """Return the plain bytes of an object in chunks of at most `chunk_bytes`, or its own chunks without a codec.

    Closing what is returned does not close `chunks`: whoever opened them does. It raises CORRUPT where the bytes are
    not what they should be.
    """
    if codec is None:
        return chunks
    if codec is Codec.GZIP:
        return gunzip(chunks, chunk_bytes=chunk_bytes)
    return unzstd(chunks, chunk_bytes=chunk_bytes)
