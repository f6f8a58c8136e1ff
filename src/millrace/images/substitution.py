"""Variables, quotes and escapes in the words of a Dockerfile."""

import re
from collections.abc import Callable

__all__ = ["BadWord", "Lookup", "expand", "split_words"]

Lookup = Callable[[str], str | None]
"""Gives a variable's value, or None if it is not set."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9@*#?!$-]")
_MODIFIERS = (":-", ":+", ":?", "-", "+", "?")


class BadWord(ValueError):
    """A word does not parse; the message says why."""


def expand(word: str, lookup: Lookup, *, escape: str = "\\") -> str:
    """Return a word with its variables filled in, quotes removed and escapes undone.

    `$name`, `${name}`, `${name:-word}`, `${name:+word}`, `${name:?word}` and their forms without colon are known.
    Nothing is filled in between single quotes or behind the escape character.

    Raises:
        BadWord: A quote or brace is open, a modifier is not known, or `${name:?word}` finds nothing.

    Source:
        The Dockerfile reference, "Environment replacement".
    """
    reader = _Reader(word, lookup, escape)
    try:
        return reader.read_until("")
    except RecursionError as exc:
        raise BadWord(f"variables are nested too deep in {word[:100]!r}...") from exc


class _Reader:
    def __init__(self, text: str, lookup: Lookup, escape: str) -> None:
        self._text = text
        self._lookup = lookup
        self._escape = escape
        self._at = 0

    def read_until(self, end: str) -> str:
        """Return what stands before the character `end`, read and passed over; "" is the end of the text."""
        parts: list[str] = []
        while self._at < len(self._text):
            character = self._text[self._at]
            if end and character == end:
                self._at += 1
                return "".join(parts)
            self._at += 1
            if character == "'":
                parts.append(self._single_quoted())
            elif character == '"':
                parts.append(self._double_quoted())
            elif character == "$":
                parts.append(self._variable())
            elif character == self._escape:
                # "a backslash at the very end stands for itself"
                parts.append(self._text[self._at : self._at + 1] or character)
                self._at += 1
            else:
                parts.append(character)
        if end:
            raise BadWord(f"missing {end!r} in {self._text!r}")
        return "".join(parts)

    def _single_quoted(self) -> str:
        end = self._text.find("'", self._at)
        if end < 0:
            raise BadWord(f"single quote without end in {self._text!r}")
        inside = self._text[self._at : end]
        self._at = end + 1
        return inside

    def _double_quoted(self) -> str:
        parts: list[str] = []
        while self._at < len(self._text):
            character = self._text[self._at]
            self._at += 1
            if character == '"':
                return "".join(parts)
            if character == "$":
                parts.append(self._variable())
            elif character == self._escape and self._text[self._at : self._at + 1] in ('"', "$", self._escape):
                parts.append(self._text[self._at])
                self._at += 1
            else:
                parts.append(character)
        raise BadWord(f"double quote without end in {self._text!r}")

    def _variable(self) -> str:
        if self._text[self._at : self._at + 1] != "{":
            match = _NAME.match(self._text, self._at)
            if match is None:
                return "$"
            self._at = match.end()
            return self._lookup(match[0]) or ""
        match = _NAME.match(self._text, self._at + 1)
        if match is None:
            raise BadWord(f"bad substitution in {self._text!r}: a name must follow ${{")
        name = match[0]
        self._at = match.end()
        value = self._lookup(name)
        if self._text[self._at : self._at + 1] == "}":
            self._at += 1
            return value or ""
        for modifier in _MODIFIERS:
            if self._text.startswith(modifier, self._at):
                self._at += len(modifier)
                return _modified(name, value, modifier, self.read_until("}"))
        rest = self._text[self._at :]
        if not rest:
            raise BadWord(f"missing '}}' in {self._text!r}")
        raise BadWord(f"${{{name}{rest[:1]}...}} is not supported in {self._text!r}: use :-, :+ or :?")


def _modified(name: str, value: str | None, modifier: str, word: str) -> str:
    is_there = bool(value) if modifier.startswith(":") else value is not None
    match modifier[-1]:
        case "-":
            return (value or "") if is_there else word
        case "+":
            return word if is_there else ""
        case _:
            if not is_there:
                raise BadWord(f"{name}: {word or 'is not set'}")
            return value or ""


def split_words(text: str, *, escape: str = "\\") -> list[str]:
    """Cut text at white space outside of quotes and not escaped; quotes and escapes stay in the words.

    Raises:
        BadWord: A quote has no end.
    """
    words: list[str] = []
    current: list[str] = []
    quote = ""
    at = 0
    while at < len(text):
        character = text[at]
        if character == escape and quote != "'" and at + 1 < len(text):
            current += (character, text[at + 1])
            at += 2
            continue
        at += 1
        if not quote and character.isspace():
            if current:
                words.append("".join(current))
                current = []
            continue
        if character in "'\"":
            quote = "" if quote == character else quote or character
        current.append(character)
    if quote:
        raise BadWord(f"quote {quote} without end in {text!r}")
    if current:
        words.append("".join(current))
    return words
