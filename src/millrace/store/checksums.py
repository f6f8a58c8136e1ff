"""Compute S3's checksums over streams, and join those of parts into an object's."""

import base64
import hashlib
import importlib
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

__all__ = ["ALGORITHMS", "JOINABLE", "Digests", "composite", "join_full_object", "multipart_etag"]


def _crt() -> Any:
    """Return awscrt.checksums; it takes 40 ms to import, and most objects need none of it."""
    return importlib.import_module("awscrt.checksums")


class _Hasher(Protocol):
    def update(self, chunk: bytes | memoryview, /) -> None: ...
    def digest(self) -> bytes: ...


class _Crc:
    """A CRC with the interface of hashlib."""

    def __init__(self, function: Callable[[bytes, int], int], width: int) -> None:
        self._function = function
        self._width = width
        self._value = 0

    def update(self, chunk: bytes | memoryview, /) -> None:
        self._value = self._function(chunk, self._value)  # type: ignore[arg-type]  # both take any buffer

    def digest(self) -> bytes:
        return self._value.to_bytes(self._width, "big")


class _XxHash:
    """An xxHash with the interface of hashlib."""

    def __init__(self, hasher: Any) -> None:
        self._hasher = hasher

    def update(self, chunk: bytes | memoryview, /) -> None:
        self._hasher.update(chunk)

    def digest(self) -> bytes:
        return bytes(self._hasher.finalize())


_HASHERS: Mapping[str, Callable[[], _Hasher]] = {
    "crc32": lambda: _Crc(zlib.crc32, 4),
    "crc32c": lambda: _Crc(_crt().crc32c, 4),
    "crc64nvme": lambda: _Crc(_crt().crc64nvme, 8),
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "sha256": lambda: hashlib.sha256(),
    "sha512": lambda: hashlib.sha512(),
    "md5": lambda: hashlib.md5(usedforsecurity=False),
    "xxhash64": lambda: _XxHash(_crt().XXHash.new_xxhash64()),
    "xxhash3": lambda: _XxHash(_crt().XXHash.new_xxhash3_64()),
    "xxhash128": lambda: _XxHash(_crt().XXHash.new_xxhash3_128()),
}
_JOINS: Mapping[str, tuple[Callable[[int, int, int], int], int]] = {
    "crc32": (lambda *values: int(_crt().combine_crc32(*values)), 4),
    "crc32c": (lambda *values: int(_crt().combine_crc32c(*values)), 4),
    "crc64nvme": (lambda *values: int(_crt().combine_crc64nvme(*values)), 8),
}

ALGORITHMS = frozenset(_HASHERS)
"""Lower-case names of the algorithms that S3 clients may ask for."""

JOINABLE = frozenset(_JOINS)
"""Algorithms whose value over a whole object follows from the values of its parts."""


class Digests:
    """The MD5 of a stream and the checksums that were asked for."""

    def __init__(self, algorithms: Iterable[str] = ()) -> None:
        """Raises ValueError for an algorithm that is not in ALGORITHMS."""
        chosen = set(algorithms)
        unknown = sorted(chosen - ALGORITHMS)
        if unknown:
            raise ValueError(f"a checksum algorithm must be one of {', '.join(sorted(ALGORITHMS))}, got {unknown[0]!r}")
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._hashers = {name: _HASHERS[name]() for name in chosen}

    def update(self, chunk: bytes | memoryview) -> None:
        """Take further bytes; hashers let go of the GIL for long ones, so threads hash side by side."""
        self._md5.update(chunk)
        for hasher in self._hashers.values():
            hasher.update(chunk)

    def md5(self) -> bytes:
        """Return the MD5 so far."""
        return self._md5.digest()

    def checksums(self) -> dict[str, str]:
        """Return each checksum so far in base64, by the algorithm's name."""
        return {name: base64.b64encode(hasher.digest()).decode() for name, hasher in self._hashers.items()}


def multipart_etag(part_md5s: Sequence[bytes]) -> str:
    """Return the ETag of an object joined from parts: the MD5 of their MD5s, and their number."""
    return f"{hashlib.md5(b''.join(part_md5s), usedforsecurity=False).hexdigest()}-{len(part_md5s)}"


def composite(algorithm: str, values: Sequence[str]) -> str:
    """Return the checksum of the parts' checksums with its "-N": S3's COMPOSITE type.

    Args:
        algorithm: One of ALGORITHMS.
        values: The parts' checksums in base64, in order.
    """
    hasher = _HASHERS[algorithm]()
    for value in values:
        hasher.update(base64.b64decode(value))
    return f"{base64.b64encode(hasher.digest()).decode()}-{len(values)}"


def join_full_object(algorithm: str, parts: Sequence[tuple[str, int]]) -> str:
    """Return the checksum of a whole object from the checksums (base64) and sizes of its parts.

    Args:
        algorithm: One of JOINABLE.
        parts: At least one checksum and size, in order.
    """
    join, width = _JOINS[algorithm]
    (first, _), *others = parts
    value = int.from_bytes(base64.b64decode(first), "big")
    for part, size in others:
        value = join(value, int.from_bytes(base64.b64decode(part), "big"), size)
    return base64.b64encode(value.to_bytes(width, "big")).decode()
