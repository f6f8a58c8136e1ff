"""Match text against patterns with `*` and `?`, as policies and CORS rules write them.

Whoever owns a bucket writes patterns, and each request is compared with them: a regular expression could be made to try
for hours. Taking each piece between stars at its first place is enough, as a star takes whatever is left before the
next.
"""

__all__ = ["matches"]


def matches(pattern: str, text: str) -> bool:
    """Tell whether a pattern covers the whole text: `*` stands for any characters, `?` for one."""
    head, *pieces = pattern.split("*")
    if not pieces:
        return len(head) == len(text) and _fits(head, text)
    tail = pieces.pop()
    position, end = len(head), len(text) - len(tail)
    if position > end or not _fits(head, text[:position]) or not _fits(tail, text[end:]):
        return False
    for piece in pieces:
        found = _find(piece, text, position, end)
        if found < 0:
            return False
        position = found + len(piece)
    return True


def _fits(piece: str, text: str) -> bool:
    """Tell whether a piece without stars stands for a text of its length."""
    return piece == text or ("?" in piece and all(one in ("?", other) for one, other in zip(piece, text, strict=True)))


def _find(piece: str, text: str, start: int, end: int) -> int:
    if "?" not in piece:
        return text.find(piece, start, end)
    places = range(start, end - len(piece) + 1)
    return next((place for place in places if _fits(piece, text[place : place + len(piece)])), -1)
