"""Request bodies that are read once: from memory, within a limit, or against a digest."""

import hashlib
import hmac
import zlib
from collections.abc import AsyncIterator

from millrace.errors import ValidationError
from millrace.protocol.faults import AuthFailure, AuthProblem
from millrace.protocol.message import Body

__all__ = ["DigestBody", "MemoryBody", "check_digest", "gunzip", "read_all"]


async def read_all(body: Body, limit: int) -> bytes:
    """Return the whole body; raises ValidationError as soon as it is known to exceed `limit` bytes."""
    if body.length is not None and body.length > limit:
        raise _too_long(limit, body.length)
    chunks = []
    size = 0
    async for chunk in body:
        size += len(chunk)
        if size > limit:
            raise _too_long(limit, size)
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _too_long(limit: int, size: int) -> ValidationError:
    return ValidationError(f"the request body must be at most {limit} bytes, got {size} or more")


def gunzip(content: bytes, limit: int) -> bytes:
    """Return the unpacked body; raises ValidationError where it is no gzip or unpacks to more than `limit` bytes."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        plain = unpacker.decompress(content, limit + 1)
    except zlib.error as exc:
        raise ValidationError(f"the request body does not unpack as gzip: {exc}") from None
    if len(plain) > limit:
        raise _too_long(limit, len(plain))
    if not unpacker.eof:
        raise ValidationError("the request body ends in the middle of its gzip stream")
    return plain


class MemoryBody:
    """A body that is in memory already."""

    __slots__ = ("_content", "trailers")

    def __init__(self, content: bytes = b"") -> None:
        self._content = content
        self.trailers: dict[str, str] = {}

    @property
    def length(self) -> int | None:
        return len(self._content)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._content:
            yield self._content

    async def read(self, limit: int) -> bytes:
        if len(self._content) > limit:
            raise _too_long(limit, len(self._content))
        return self._content


class DigestBody:
    """A body whose SHA-256 the client has signed; the last step of iterating raises if it is another."""

    __slots__ = ("_inner", "_sha256", "trailers")

    def __init__(self, inner: Body, sha256: str) -> None:
        self._inner = inner
        self._sha256 = sha256
        self.trailers: dict[str, str] = {}

    @property
    def length(self) -> int | None:
        return self._inner.length

    async def __aiter__(self) -> AsyncIterator[bytes]:
        digest = hashlib.sha256()
        async for chunk in self._inner:
            digest.update(chunk)
            yield chunk
        check_digest(digest.hexdigest(), self._sha256)

    async def read(self, limit: int) -> bytes:
        return await read_all(self, limit)


def check_digest(computed: str, claimed: str) -> None:
    """Raise AuthFailure unless the body's SHA-256 is the one that the client has signed."""
    if not hmac.compare_digest(computed, claimed):
        raise AuthFailure(
            AuthProblem.BAD_HASH,
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
            members={"ClientComputedContentSHA256": claimed, "S3ComputedContentSHA256": computed},
        )
