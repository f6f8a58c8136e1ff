"""Carry text beyond ASCII in headers of user metadata, as S3 does.

Clients send it as UTF-8 or encoded as RFC 2047 says. It is answered encoded: a header's other bytes mean something else
to each client.

Source:
    S3 user guide, "User-defined object metadata": non-ASCII values are "character decoded as per RFC 2047 before
    storing and encoded as per RFC 2047 to make them mail-safe before returning".
"""

import base64
from email.errors import HeaderParseError
from email.header import decode_header

__all__ = ["received_value", "told_value"]


def received_value(value: str) -> str:
    """Return the text of a header as it came: bytes read as Latin-1."""
    if value.isascii():
        return _decoded(value) if "=?" in value else value
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value


def told_value(value: str) -> str:
    """Return the header that carries a text."""
    if value.isascii():
        return value
    return f"=?UTF-8?B?{base64.b64encode(value.encode()).decode()}?="


def _decoded(value: str) -> str:
    try:
        parts = decode_header(value)
        return "".join(part if isinstance(part, str) else part.decode(charset or "latin-1") for part, charset in parts)
    except (HeaderParseError, ValueError, LookupError):  # it only looks encoded
        return value
