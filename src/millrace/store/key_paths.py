"""Map object keys to file names and back.

A key is a plain path wherever a file system can hold it, so that a person finds `data/train.csv` at `data/train.csv`.
Other keys (`a//b`, `../x`, `folder/`, a segment of more than 255 bytes) and keys whose plain place is taken by a folder
get an *alternate* name: the whole key in one escaped ASCII string, cut into pieces of 200.

The escape keeps order: names sort as the keys do, so one walk in order of names lists alternates in order of keys. Each
byte has a code, no code is a prefix of another, and codes ascend with bytes:

    00..25   %XX             '%' (25) sorts before every literal
    26..2d   itself
    2e '.'   .d              both codes start with a dot, so they stand between '-' (2d) and '0' (30),
    2f '/'   .s              and no name is "." or ".."
    30..7d   itself
    7e..ff   ~XX             '~' (7e) sorts after every literal

A piece that is followed by more is a folder, marked by a final "+". All folders have 201 characters and no file more
than 200, so that a key sorts before the longer keys that start with it.
"""

import re

__all__ = ["NAME_LIMIT", "alternate_segments", "escape", "plain_segments", "unescape"]

NAME_LIMIT = 255
"""Bytes of one file name on every file system in common use."""

_PIECE = 200
_CODES = tuple(
    f"%{byte:02X}" if byte <= 0x25 else
    ".d" if byte == 0x2E else
    ".s" if byte == 0x2F else
    f"~{byte:02X}" if byte >= 0x7E else
    chr(byte)
    for byte in range(256)
)  # fmt: skip
_BYTES = {code: bytes((byte,)) for byte, code in enumerate(_CODES)}
_CODE = re.compile(r"[%~][0-9A-F]{2}|\.[ds]|[^%~.]", re.DOTALL)


def plain_segments(key: bytes, *, reserved: bytes | None = None) -> list[bytes] | None:
    """Return the path of a key as names of folders and a file, or None if it cannot be a plain path.

    Args:
        key: A key in UTF-8.
        reserved: A first name that keys may not use, for it is ours.
    """
    segments = key.split(b"/")
    if b"" in segments or b"." in segments or b".." in segments or b"\0" in key or segments[0] == reserved:
        return None
    if len(key) > NAME_LIMIT and max(map(len, segments)) > NAME_LIMIT:
        return None
    return segments


def escape(key: bytes) -> str:
    """Return a key as an ASCII name that sorts as the key does."""
    return "".join([_CODES[byte] for byte in key])


def unescape(name: str) -> bytes:
    """Return the key behind an escaped name.

    Raises:
        ValueError: No key has this name.
    """
    codes = _CODE.findall(name)
    if sum(map(len, codes)) != len(name):
        raise ValueError(f"expected an escaped key, got {name!r}")
    try:
        return b"".join([_BYTES[code] for code in codes])
    except KeyError as error:
        raise ValueError(f"expected an escaped key, got {name!r} with the unknown code {error.args[0]!r}") from None


def alternate_segments(key: bytes) -> list[bytes]:
    """Return the alternate path of a key as names of folders and a file."""
    name = escape(key).encode("ascii")
    pieces = [name[at : at + _PIECE] for at in range(0, len(name), _PIECE)]
    return [*(piece + b"+" for piece in pieces[:-1]), pieces[-1]]
