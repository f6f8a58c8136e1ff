"""Compress an output as gzip or Zstandard, in parts that are complete by themselves. Pure.

What comes out follows from the bytes and from where parts end, not from how the bytes were cut into chunks: the
compressor is always fed the same blocks. A part is a gzip member or a Zstandard frame (or none, if it holds nothing),
and readers take any number of them in a row for one file. So a run that was broken off goes on behind the last part
that was kept, with a new encoder that is told so, and the file is the same to the byte.
"""

import sys
import zlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from millrace.dataplane.formats.options import Codec

if TYPE_CHECKING or sys.version_info < (3, 14):
    from backports import zstd
else:
    from compression import zstd

__all__ = ["BLOCK_BYTES", "Encoder", "PartEncoder", "encoder_of"]

BLOCK_BYTES = 128 * 1024
"""Bytes that a compressor gets at a time; also what an encoder holds back at most."""

GZIP_LEVEL = 1
ZSTD_LEVEL = 1
"""Levels at which compressing does not become most of a job's work.

Measured on rows of ten numbers of nine digits, in MB a second and the ratio: gzip 128 and 2.10 at level 1, 19 and 2.27
at level 6; zstd 440 and 2.28 at level 1, 163 and 2.17 at level 3.
"""

_GZIP_FRAMING = 31  # 15 window bits plus 16: gzip header, of no time and no name, and trailer


class Encoder(Protocol):
    """Takes the bytes of one output, gives those of its compressed form."""

    def compress(self, data: bytes | memoryview) -> bytes:
        """Add bytes and return what is ready, perhaps nothing."""
        ...

    def end_part(self) -> bytes:
        """Return what completes the part: everything returned so far can be read. What follows is another part."""
        ...

    def finish(self) -> bytes:
        """Return what completes the output; one without a single byte becomes a file that reads as empty."""
        ...


class _Compressor(Protocol):
    """What zlib and Zstandard have in common."""

    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class PartEncoder:
    """An encoder that makes a new compressor for each part."""

    def __init__(self, new_part: Callable[[], _Compressor], *, resumed: bool = False) -> None:
        self._new_part = new_part
        self._part: _Compressor | None = None
        self._waiting = bytearray()
        self._any = resumed

    def compress(self, data: bytes | memoryview) -> bytes:
        self._waiting += data
        if len(self._waiting) < BLOCK_BYTES:
            return b""
        if self._part is None:
            self._part = self._new_part()
        end = len(self._waiting) - len(self._waiting) % BLOCK_BYTES
        with memoryview(self._waiting) as held:
            blocks = [bytes(held[at : at + BLOCK_BYTES]) for at in range(0, end, BLOCK_BYTES)]
        del self._waiting[:end]
        return b"".join([self._part.compress(block) for block in blocks])

    def end_part(self) -> bytes:
        if self._part is None:
            if not self._waiting:
                return b""
            self._part = self._new_part()
        rest = self._part.compress(bytes(self._waiting)) + self._part.flush()
        self._waiting.clear()
        self._part = None
        self._any = True
        return rest

    def finish(self) -> bytes:
        rest = self.end_part()
        if not self._any:
            rest = self._new_part().flush()
            self._any = True
        return rest


def _gzip_part() -> _Compressor:
    return zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, _GZIP_FRAMING)


def _zstd_part() -> _Compressor:
    options: dict[int, int] = {
        zstd.CompressionParameter.compression_level: ZSTD_LEVEL,
        zstd.CompressionParameter.checksum_flag: 1,  # as the zstd program: damage is noticed
    }
    return zstd.ZstdCompressor(options=options)


_PARTS: Mapping[Codec, Callable[[], _Compressor]] = {Codec.GZIP: _gzip_part, Codec.ZSTD: _zstd_part}


def encoder_of(codec: Codec, *, resumed: bool = False) -> Encoder:
    """Return a new encoder of one output; `resumed` if parts of it were kept from an earlier run."""
    return PartEncoder(_PARTS[codec], resumed=resumed)
