"""Decode aws-chunked bodies as they arrive: sizes, signatures and trailing headers.

hex-size [";chunk-signature=" signature] CRLF data CRLF ... 0 [;chunk-signature=...] CRLF [name:value CRLF]... CRLF
"""

import hashlib
from collections.abc import AsyncIterator
from typing import Final

from millrace.protocol.bodies import read_all
from millrace.protocol.faults import AuthFailure, AuthProblem, IncompleteBody
from millrace.protocol.message import Body
from millrace.protocol.sigv4 import ChunkSignatures

__all__ = ["MAX_LINE_BYTES", "MAX_TRAILERS", "ChunkedBody", "is_chunked_hash", "is_signed_hash"]

MAX_LINE_BYTES = 8192
"""Bytes of a chunk's first line or of one trailing header at most."""

MAX_TRAILERS = 16
"""Trailing headers at most."""

_UNSIGNED = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
_SIGNED = frozenset({"STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"})
_TRAILER_SIGNATURE: Final = "x-amz-trailer-signature"


def is_chunked_hash(payload_hash: str | None) -> bool:
    """Tell whether x-amz-content-sha256 says that the body is aws-chunked."""
    return payload_hash is not None and payload_hash.startswith("STREAMING-")


def is_signed_hash(payload_hash: str) -> bool:
    """Tell whether each chunk carries a signature; raises AuthFailure for a form that we don't know."""
    if payload_hash not in _SIGNED and payload_hash != _UNSIGNED:
        raise AuthFailure(
            AuthProblem.MALFORMED,
            f"x-amz-content-sha256 must be UNSIGNED-PAYLOAD, {', '.join(sorted(_SIGNED))}, {_UNSIGNED} or a SHA-256 in "
            f"hexadecimal, got {payload_hash[:100]!r}",
        )
    return payload_hash in _SIGNED


class ChunkedBody:
    """The decoded bytes of an aws-chunked body; `trailers` is filled when the last of them has been read.

    Args:
        inner: The encoded body.
        length: Decoded bytes as X-Amz-Decoded-Content-Length announced them; another number raises IncompleteBody.
        signatures: Verifies each chunk and the trailer, if they are signed. A wrong one raises AuthFailure after the
            chunk's bytes were given out, before iteration ends.
    """

    __slots__ = ("_inner", "_length", "_signatures", "trailers")

    def __init__(self, inner: Body, *, length: int | None, signatures: ChunkSignatures | None = None) -> None:
        self._inner = inner
        self._length = length
        self._signatures = signatures
        self.trailers: dict[str, str] = {}

    @property
    def length(self) -> int | None:
        return self._length

    async def read(self, limit: int) -> bytes:
        return await read_all(self, limit)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        source = _Source(self._inner)
        total = 0
        while True:
            size, signature = _parse_first_line(await source.line())
            digest = None if self._signatures is None else hashlib.sha256()
            total += size
            if self._length is not None and total > self._length:
                raise IncompleteBody(f"the body must have {self._length} decoded bytes, got more")
            async for piece in source.take(size):
                if digest is not None:
                    digest.update(piece)
                yield piece
            if self._signatures is not None and digest is not None:
                self._signatures.check_chunk(signature, digest.hexdigest())
            if size == 0:
                break
            if await source.line() != b"":
                raise IncompleteBody(f"a chunk of {size} bytes must end with a line break")
        await self._read_trailers(source)
        if self._length is not None and total != self._length:
            raise IncompleteBody(f"the body must have {self._length} decoded bytes, got {total}")

    async def _read_trailers(self, source: "_Source") -> None:
        signed = hashlib.sha256()
        count = 0
        while line := await source.line(at_end=b""):
            name, colon, value = line.decode("latin-1").partition(":")
            count += 1
            if not colon or count > MAX_TRAILERS:
                raise IncompleteBody(f"expected at most {MAX_TRAILERS} trailing headers, each `name:value`")
            name = name.strip().lower()
            if name != _TRAILER_SIGNATURE:
                signed.update(f"{name}:{value.strip()}\n".encode("latin-1"))
            self.trailers[name] = value.strip()
        await source.finish()
        claimed = self.trailers.pop(_TRAILER_SIGNATURE, None)
        if self._signatures is not None and (claimed is not None or self.trailers):
            self._signatures.check_trailer(claimed or "", signed.hexdigest())


def _parse_first_line(line: bytes) -> tuple[int, str]:
    size, _, extension = line.decode("latin-1").partition(";")
    name, _, signature = extension.partition("=")
    digits = size.strip()
    # int() would take a sign, underscores and 0x.
    if not digits or len(digits) > 16 or any(digit not in "0123456789abcdefABCDEF" for digit in digits):
        raise IncompleteBody(f"expected the size of a chunk in hexadecimal, got {size[:50]!r}")
    return int(digits, 16), signature.strip() if name.strip() == "chunk-signature" else ""


class _Source:
    """Lines and counted bytes out of a body; holds at most one of its chunks and a line."""

    def __init__(self, body: Body) -> None:
        self._chunks = aiter(body)
        self._buffer = b""
        self._position = 0

    async def _more(self) -> bool:
        chunk = await anext(self._chunks, None)
        if chunk is None:
            return False
        self._buffer = self._buffer[self._position :] + chunk
        self._position = 0
        return True

    async def line(self, *, at_end: bytes | None = None) -> bytes:
        """Return the next line without its break; `at_end` stands in for it if the body has ended cleanly."""
        while (end := self._buffer.find(b"\r\n", self._position)) < 0:
            if len(self._buffer) - self._position > MAX_LINE_BYTES:
                raise IncompleteBody(f"a line of an aws-chunked body must have at most {MAX_LINE_BYTES} bytes")
            if not await self._more():
                if at_end is not None and self._position == len(self._buffer):
                    return at_end
                raise IncompleteBody("the aws-chunked body ends before its last chunk")
        if end - self._position > MAX_LINE_BYTES:
            raise IncompleteBody(f"a line of an aws-chunked body must have at most {MAX_LINE_BYTES} bytes")
        line = self._buffer[self._position : end]
        self._position = end + 2
        return line

    async def take(self, count: int) -> AsyncIterator[bytes]:
        """Yield exactly that many bytes."""
        while count:
            piece = self._buffer[self._position : self._position + count]
            if piece:
                self._position += len(piece)
                count -= len(piece)
                yield piece
            elif not await self._more():
                raise IncompleteBody(f"the aws-chunked body ends {count} bytes before the end of a chunk")

    async def finish(self) -> None:
        """Read to the end, so that the inner body's own checks run; raises IncompleteBody if there is more."""
        while self._position == len(self._buffer):
            if not await self._more():
                return
        raise IncompleteBody("the aws-chunked body goes on after its last chunk")
