"""Remember the heads of good answers, so that none is parsed twice.

Servers repeat theirs, save for a date that changes once a second. The same bytes mean the same.
"""

__all__ = ["known_heads", "remember_head"]

KNOWN_HEADS = 1024
"""Heads that are remembered; with more than that all are forgotten."""

KNOWN_HEAD_BYTES = 1024
"""Longest head that is remembered."""

RawHeaders = list[tuple[bytes, bytes]]

known_heads: dict[bytes, tuple[int, RawHeaders]] = {}
"""Heads of answers of status 200 with their stated length and headers, after which the connection stays open."""


def remember_head(answer: bytes, headers: RawHeaders, body_bytes: int) -> None:
    """Remember the head of an answer of status 200 that came whole, behind no 1xx answer, with its parsed headers."""
    end = answer.find(b"\r\n\r\n") + 4
    lengths = [value for name, value in headers if name.lower() == b"content-length"]
    framed = len(lengths) == 1 and int(lengths[0]) == body_bytes == len(answer) - end
    if framed and 4 < end <= KNOWN_HEAD_BYTES:
        if len(known_heads) >= KNOWN_HEADS:
            known_heads.clear()
        known_heads[answer[:end]] = body_bytes, headers
