"""Write the facts of an output in so few bytes that they have room in its inode.

ext4 keeps extended attributes in the inode itself, as long as they fit: 64 bytes of value for our name, in inodes of
256 bytes. Longer ones get a block of 4 kB of their own, which for a small object is a third of what is written, and was
16 of 100 samples of the processor time of storing it.

What is written, numbers with the least byte first:

    1 byte    1, which no JSON begins with
    1 byte    the content type: 0 none, or the number of one that is known, or 128 and more: 128 and its length
    8 bytes   the file's time in nanoseconds
    4 bytes   its size
    16 bytes  the digits of the ETag, which ends with "-1"
    the content type, where it is not known, in ASCII; then the origin, in UTF-8

Facts that this has no place for are written as JSON.
"""

import struct
from collections.abc import Mapping

__all__ = ["pack", "packed_headers", "unpack"]

_HEAD = struct.Struct("<BBQI16s")
_FORM = 1
_SPELLED = 128

_KNOWN = (
    "application/octet-stream",
    "application/json",
    "application/jsonlines",
    "text/csv",
    "text/plain",
    "application/x-npy",
    "application/x-recordio-protobuf",
    "application/x-parquet",
    "image/jpeg",
    "image/png",
)
"""Files tell them by their place here, counted from 1: it never changes, and new ones come at the end."""
_NUMBERS = {name: number for number, name in enumerate(_KNOWN, 1)}


def packed_headers(headers: Mapping[str, str]) -> tuple[int, bytes] | None:
    """Return how a content type is told, None if there are other headers, or if it is an odd one."""
    if not headers:
        return 0, b""
    name = headers.get("content-type")
    if name is None or len(headers) > 1:
        return None
    if name in _NUMBERS:
        return _NUMBERS[name], b""
    if not name.isascii() or len(name) >= 256 - _SPELLED:
        return None
    return _SPELLED + len(name), name.encode("ascii")


def pack(size: int, time_ns: int, etag: str, headers: tuple[int, bytes], origin: str) -> bytes | None:
    """Return facts as bytes, None if they have no place here.

    Args:
        size: Of the file.
        time_ns: Of the file.
        etag: The object's.
        headers: What `packed_headers` returned.
        origin: The object's; empty if it has none.
    """
    if len(etag) != 34 or etag[32:] != "-1" or not 0 <= size < 1 << 32 or not 0 <= time_ns < 1 << 64:
        return None
    try:
        digits = bytes.fromhex(etag[:32])
    except ValueError:
        return None
    if digits.hex() != etag[:32]:  # spaces, or capital letters
        return None
    number, name = headers
    return _HEAD.pack(_FORM, number, time_ns, size, digits) + name + origin.encode()


def unpack(text: bytes) -> tuple[int, int, str, dict[str, str], str] | None:
    """Return size, time, ETag, headers and origin; None if the text is not of this form.

    Raises:
        ValueError: It is of this form, but damaged.
    """
    if text[:1] != b"\x01":
        return None
    if len(text) < _HEAD.size:
        raise ValueError(f"expected short facts of at least {_HEAD.size} bytes, got {len(text)}")
    _, number, time_ns, size, digits = _HEAD.unpack_from(text)
    at = _HEAD.size
    headers = {}
    if number >= _SPELLED:
        end = at + number - _SPELLED
        if end > len(text):
            raise ValueError(f"expected a content type of {number - _SPELLED} bytes, got {len(text) - at}")
        headers = {"content-type": text[at:end].decode("ascii")}
        at = end
    elif number:
        if number > len(_KNOWN):
            raise ValueError(f"expected the number of a content type up to {len(_KNOWN)}, got {number}")
        headers = {"content-type": _KNOWN[number - 1]}
    return size, time_ns, f"{digits.hex()}-1", headers, text[at:].decode()
