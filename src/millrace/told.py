"""Text of strangers as it may be told: a container's answers, log lines, keys and names. Pure."""

import re

__all__ = ["printable", "shortened"]

SHOWN_CHARS = 200
"""Characters of a key or name that are told in full."""

# C0 and C1 controls and DEL, but for tab and line feed; and what makes text run backwards on a terminal.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Return a text with its control characters escaped: what a terminal would obey is shown instead.

    Tabs and line feeds stay.
    """
    return _UNPRINTABLE.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def shortened(name: str, most: int = SHOWN_CHARS) -> str:
    """Return a name of at most `most` characters: of a longer one the middle is left out."""
    if len(name) <= most:
        return name
    head = (most - 3) // 2
    return f"{name[:head]}...{name[len(name) - (most - 3 - head) :]}"
