"""Read the Range header, as S3 takes it."""

import re
from dataclasses import dataclass

__all__ = ["ByteRange", "Unsatisfiable", "parse_position", "parse_range"]

_RANGE = re.compile(r"bytes=(?:([0-9]+)-([0-9]*)|-([0-9]+))")


_MAX_DIGITS = 19
"""Digits of the largest size of a file. int() refuses numbers of thousands of digits."""


class Unsatisfiable(ValueError):
    """No byte of the object is in the range."""


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes `start` to `start + length` of an object of `size` bytes."""

    start: int
    length: int
    size: int

    def __str__(self) -> str:
        """Return it as Content-Range has it."""
        return f"bytes {self.start}-{self.start + self.length - 1}/{self.size}"


def parse_position(digits: str) -> int:
    """Return the number; one with more digits than any object's size has becomes a number beyond them all."""
    significant = digits.lstrip("0") or "0"
    return int(significant) if len(significant) <= _MAX_DIGITS else 10**_MAX_DIGITS


def parse_range(text: str | None, size: int) -> ByteRange | None:
    """Return the range that a header asks for, or None for the whole object.

    Raises:
        Unsatisfiable: The range starts at or after the end, or is the last 0 bytes.

    Source:
        RFC 9110 14.2: "A server that supports range requests MAY ignore or reject a Range header field that contains
        an invalid ranges-specifier"; S3 ignores it, and several ranges at once, too.
    """
    match = _RANGE.fullmatch(text.replace(" ", "")) if text else None
    if match is None:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        start, end = max(0, size - parse_position(suffix)), size
    else:
        start, end = parse_position(first), size if not last else min(size, parse_position(last) + 1)
        if last and parse_position(last) < start:
            return None
    if start >= end:
        raise Unsatisfiable(text)
    return ByteRange(start, end - start, size)
