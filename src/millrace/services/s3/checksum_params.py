"""Find the checksums in a request, and write them into a result."""

import base64
import binascii
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from millrace.ports.objects import ObjectMeta
from millrace.protocol.message import Context
from millrace.services.s3.faults import fault

__all__ = [
    "CHECKSUMS",
    "DEFAULT_ALGORITHM",
    "BodyDigests",
    "body_digests",
    "checksum_members",
    "content_md5",
    "given_checksums",
]

CHECKSUMS: Mapping[str, tuple[str, int]] = {
    "crc32": ("ChecksumCRC32", 4),
    "crc32c": ("ChecksumCRC32C", 4),
    "crc64nvme": ("ChecksumCRC64NVME", 8),
    "sha1": ("ChecksumSHA1", 20),
    "sha256": ("ChecksumSHA256", 32),
    "sha512": ("ChecksumSHA512", 64),
    "md5": ("ChecksumMD5", 16),
    "xxhash64": ("ChecksumXXHASH64", 8),
    "xxhash3": ("ChecksumXXHASH3", 8),
    "xxhash128": ("ChecksumXXHASH128", 16),
}
"""The member and the number of bytes of each algorithm, by its lower-case name."""

DEFAULT_ALGORITHM = "crc64nvme"
"""What S3 computes when the client asks for no checksum."""

_TRAILER = "x-amz-checksum-"


@dataclass(frozen=True, slots=True)
class BodyDigests:
    """What a body has to hash to.

    `checksums` is filled from the body's trailers while it is read, for the store to verify afterwards.
    """

    chunks: AsyncIterator[bytes]
    md5: bytes | None
    algorithms: tuple[str, ...]
    checksums: dict[str, str] = field(default_factory=dict)


def body_digests(ctx: Context, params: Mapping[str, Any]) -> BodyDigests:
    """Return the body of an upload and its digests, as headers or trailers give them."""
    checksums = given_checksums(params)
    trailing = _trailing_algorithms(ctx)
    asked = (params.get("ChecksumAlgorithm") or "").lower()
    algorithms = {*checksums, *trailing} or ({asked} if asked in CHECKSUMS else {DEFAULT_ALGORITHM})
    return BodyDigests(
        chunks=_chunks(params.get("Body"), checksums, trailing),
        md5=content_md5(params),
        algorithms=tuple(algorithms),
        checksums=checksums,
    )


async def _chunks(body: Any, checksums: dict[str, str], trailing: set[str]) -> AsyncIterator[bytes]:
    if body is None:
        return
    async for chunk in body:
        yield chunk
    trailers = getattr(body, "trailers", None) or {}
    for algorithm in trailing:
        value = trailers.get(_TRAILER + algorithm)
        if value is None:
            raise fault("InvalidRequest", f"The trailer {_TRAILER}{algorithm} was announced but did not come.")
        _check(algorithm, value)
        checksums[algorithm] = value


def _trailing_algorithms(ctx: Context) -> set[str]:
    names = (name.strip().lower() for name in (ctx.request.header("x-amz-trailer") or "").split(","))
    return {name.removeprefix(_TRAILER) for name in names if name.startswith(_TRAILER)} & set(CHECKSUMS)


def given_checksums(params: Mapping[str, Any]) -> dict[str, str]:
    """Return the checksums that the client sent, by algorithm; raises InvalidRequest for one that cannot be one."""
    given = {algorithm: params[member] for algorithm, (member, _) in CHECKSUMS.items() if params.get(member)}
    for algorithm, value in given.items():
        _check(algorithm, value)
    return given


def _check(algorithm: str, value: str) -> None:
    try:
        # A composite checksum ends with "-N", the number of parts.
        valid = len(base64.b64decode(value.partition("-")[0], validate=True)) == CHECKSUMS[algorithm][1]
    except (binascii.Error, ValueError):
        valid = False
    if not valid:
        raise fault("InvalidRequest", f"Value for {_TRAILER}{algorithm} header is invalid: {value!r}")


def content_md5(params: Mapping[str, Any]) -> bytes | None:
    """Return the Content-MD5 that the client sent; raises InvalidDigest if it is no MD5 in base64."""
    text = params.get("ContentMD5")
    if text is None:
        return None
    try:
        digest = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != 16:
        raise fault("InvalidDigest", **{"Content-MD5": text})
    return digest


def checksum_members(meta: ObjectMeta, *, with_type: bool = True) -> dict[str, str]:
    """Return an object's checksums as members of a result."""
    members = {CHECKSUMS[algorithm][0]: value for algorithm, value in meta.checksums.items() if algorithm in CHECKSUMS}
    if members and with_type:
        members["ChecksumType"] = meta.checksum_type
    return members
