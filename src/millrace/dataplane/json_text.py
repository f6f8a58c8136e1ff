"""Write JSON values as rows have them, from their text: parsed only where the text is not written so already. Pure.

Theory. A row is written in one way: no white space, members sorted at every level, strings with no more escapes than
they need, numbers as they came. Text without white space, escapes and objects is written that way already, which a few
searches tell at the speed of memory.
"""

from collections.abc import Sequence

import msgspec
import orjson

from millrace.dataplane.rows import RowError, rewrite_json

__all__ = [
    "MembersText",
    "all_written",
    "canonical",
    "is_text",
    "is_worth_searching",
    "keys_of",
    "may_nest_deeply",
    "members_of",
    "written",
]

MOST_OPEN = 200
"""Brackets that may open in a record before somebody looks how deep they nest: what can be written has a limit."""

MEMBER_BYTES = 256
SAMPLE_BYTES, SAMPLE_COMMAS = 512, 16
"""From so many bytes a member on, finding the members of an object takes less than parsing and printing it, if much of
it are numbers; in texts there are not as many commas. Measured with 50 to 5,000 bytes of numbers, texts, and columns.
"""

_QUOTE = ord('"')

MembersText = dict[str, msgspec.Raw]
"""The text of each member of an object; the last one of those with the same name."""

members_of = msgspec.json.Decoder(MembersText).decode
"""Return the text of the members of an object, whose strings are not checked to be UTF-8. Raises MsgspecError."""

_whole = msgspec.json.Decoder(msgspec.Raw).decode


def is_text(body: bytes) -> bool:
    """Return whether a body is UTF-8."""
    if body.isascii():
        return True
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def keys_of(names: Sequence[str], opening: bytes) -> list[bytes]:
    """Return the names of members that follow each other, each with what stands before its value."""
    return [(b"," if number else opening) + orjson.dumps(name) + b":" for number, name in enumerate(names)]


def is_worth_searching(document: bytes) -> bool:
    """Return whether finding the members of a document, if it is an object, takes less than parsing and printing it."""
    size = len(document)
    middle = (size - SAMPLE_BYTES) // 2
    if middle < 0 or document.count(b",", middle, middle + SAMPLE_BYTES) < SAMPLE_COMMAS:
        return False
    # Leaving a byte that is rare out of a copy is quicker than counting it.
    return MEMBER_BYTES * (size - len(document.replace(b":", b""))) <= size


def canonical(document: bytes) -> bytes | None:
    """Return a document that is UTF-8 as it is written; None if it is none, or may not be written within another."""
    if may_nest_deeply(document):
        return None
    try:
        if not is_worth_searching(document):
            return rewrite_json(document)
        if not document.lstrip().startswith(b"{"):
            return written(bytes(_whole(document)))
        members = members_of(document)
        names = sorted(members)
        pairs = zip(keys_of(names, b""), names, strict=True)
        return b"{%b}" % b"".join([key + written(bytes(members[name])) for key, name in pairs])
    except (msgspec.MsgspecError, RecursionError, RowError):
        return None


def written(text: bytes) -> bytes:
    """Return the text of a value that is known to be one, and has no line feed, as it is written. Raises RowError."""
    if text.isalnum() or _is_written(text):
        return text
    if text[0] == _QUOTE and b"\\" not in text:
        return text
    return rewrite_json(text)


def all_written(texts: Sequence[bytes]) -> tuple[Sequence[bytes], bytes]:
    """Return the texts of values as they are written, and the same as lines, the last one without its end.

    Raises:
        RowError: One of them cannot be written.
    """
    joined = b"\n".join(texts)  # one search over all is much quicker than one over each
    if _is_written(joined):
        return texts, joined
    texts = [written(bytes(text)) for text in texts]
    return texts, b"\n".join(texts)


def _is_written(text: bytes) -> bool:
    """Return whether values are surely written as they are to be; False says nothing."""
    if b" " in text or b"\t" in text or b"\r" in text:
        return False
    # Without a quote there is neither a string nor an object with members.
    return b'"' not in text or not (b"{" in text or b"\\" in text)


def may_nest_deeply(document: bytes) -> bool:
    """Return False if a document surely nests less than MOST_OPEN deep."""
    if len(document) <= 2 * MOST_OPEN:
        return False
    opening = len(document) - len(document.replace(b"[", b""))
    opening += 1 if document.find(b"{", 1) < 0 else len(document) - len(document.replace(b"{", b""))
    if opening < MOST_OPEN:
        return False
    # Rows of a matrix: where one closes as the next one opens, it is no deeper behind than before.
    return opening - document.count(b"],[") - document.count(b"},{") >= MOST_OPEN
