"""The models' patterns, which are Java's, as Python's: what has no counterpart is not checked."""

import re
import unicodedata
import warnings
from functools import cache

__all__ = ["compile_pattern"]

_CLASS_NAME = re.compile(r"\\([pP])\{(\w+)\}")

# Classes of java.util.regex.Pattern ("POSIX character classes (US-ASCII only)"), as the inside of a set.
_POSIX = {
    "ASCII": r"\x00-\x7f",
    "Alnum": "a-zA-Z0-9",
    "Alpha": "a-zA-Z",
    "Blank": r" \t",
    "Cntrl": r"\x00-\x1f\x7f",
    "Digit": "0-9",
    "Graph": "!-~",
    "Lower": "a-z",
    "Print": " -~",
    "Punct": r"!-/:-@\[-`{-~",
    "Space": r" \t-\r",
    "Upper": "A-Z",
    "XDigit": "0-9a-fA-F",
}

# Letters, emoji and ideographs beyond the basic plane: one range, taken to belong to every category, because telling
# them apart would cost a tenth of a second at the first request with a tag.
_BEYOND_BASIC_PLANE = "\U00010000-\U0010ffff"


@cache
def compile_pattern(pattern: str) -> re.Pattern[str] | None:
    """Return the pattern for `fullmatch`, or None where Python cannot express it."""
    translated = _translate(pattern)
    if translated is None:
        return None
    with warnings.catch_warnings():
        # Set operations ("[a&&[b]]") compile with a FutureWarning, to something else.
        warnings.simplefilter("error")
        try:
            return re.compile(translated)
        except (re.error, FutureWarning, DeprecationWarning, RecursionError, OverflowError):
            return None


def _translate(pattern: str) -> str | None:
    pieces = []
    in_set = False
    position = 0
    while position < len(pattern):
        character = pattern[position]
        if character != "\\":
            in_set = _in_set_after(character, in_set)
            pieces.append(character)
            position += 1
            continue
        named = _CLASS_NAME.match(pattern, position)
        if named is None:
            escaped = pattern[position : position + 2]
            pieces.append(r"\Z" if escaped == r"\z" else escaped)
            position += 2
            continue
        characters = _characters(named[2])
        negated = named[1] == "P"
        if characters is None or (negated and in_set):
            return None
        pieces.append(characters if in_set else f"[{'^' if negated else ''}{characters}]")
        position = named.end()
    return "".join(pieces)


def _in_set_after(character: str, in_set: bool) -> bool:
    if character == "[":
        return True
    return in_set and character != "]"


@cache
def _characters(name: str) -> str | None:
    """Return the inside of a set for a class name: POSIX or a Unicode category."""
    if name in _POSIX:
        return _POSIX[name]
    category = name.removeprefix("Is")
    if not 1 <= len(category) <= 2:
        return None
    ranges: list[list[int]] = []
    for code in range(0x10000):
        if unicodedata.category(chr(code)).startswith(category):
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    if not ranges:
        return None
    return "".join(f"\\u{first:04x}-\\u{last:04x}" for first, last in ranges) + _BEYOND_BASIC_PLANE
