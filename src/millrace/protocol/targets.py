"""Raw request targets: percent-coding and query strings, without normalising anything."""

from urllib.parse import unquote_to_bytes

from millrace.protocol.faults import MalformedRequest

__all__ = ["BadTarget", "decode_component", "parse_pairs"]

MAX_PAIRS = 20_000
"""Parameters in one query string or form beyond which it is refused."""


class BadTarget(MalformedRequest):
    """The request target does not decode: S3 calls it InvalidURI."""

    code = "InvalidURI"


def decode_component(raw: bytes) -> str:
    """Decode percent escapes into UTF-8.

    Raises:
        BadTarget: An escape is cut or the bytes are no UTF-8.
    """
    if b"%" not in raw:
        decoded = raw
    else:
        decoded = unquote_to_bytes(raw)
        # unquote passes a cut escape through; each real one shortens the text by two bytes.
        if raw.count(b"%") * 2 != len(raw) - len(decoded):
            raise BadTarget(f"expected two hexadecimal digits after each % in the request target, got {raw[:200]!r}")
    try:
        return decoded.decode()
    except UnicodeDecodeError:
        raise BadTarget(f"expected UTF-8 in the request target, got {raw[:200]!r}") from None


def parse_pairs(raw: bytes) -> list[tuple[str, str]]:
    """Parse a query string or form into decoded names and values, in order; a name alone has the value ""."""
    if not raw:
        return []
    parts = raw.replace(b"+", b" ").split(b"&", MAX_PAIRS)
    if len(parts) > MAX_PAIRS:
        raise BadTarget(f"a query string or form must have at most {MAX_PAIRS} parameters")
    pairs = []
    for part in parts:
        if part:
            name, _, value = part.partition(b"=")
            pairs.append((decode_component(name), decode_component(value)))
    return pairs
