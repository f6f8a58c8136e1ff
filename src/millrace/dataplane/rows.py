"""Read and write the rows of CSV and JSON bodies without changing what they say. Pure.

JSON keeps its number tokens exactly as written. orjson does that as long as it would print a text's tokens the same
way; this is checked by printing the parsed value and comparing, white space aside. Everything else takes the slower
parser of the standard library, which hands out the tokens.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn

import orjson

__all__ = [
    "PIECE_BYTES",
    "RowError",
    "line_pieces",
    "nonblank_lines",
    "parse_csv",
    "parse_json",
    "rewrite_json",
    "serialize_csv",
    "serialize_json",
    "with_member",
]

PIECE_BYTES = 256 * 1024
"""Lines of a text are worked on so many bytes at a time: as objects of their own they take several times their room."""

_WHITE_SPACE = b" \t\r\n"
_SNIPPET = 60
_COPIED_BELOW = 2048
_TOO_DEEP = "nested too deeply"


class RowError(ValueError):
    """A row is not what its media type promises."""


def line_pieces(text: bytes | memoryview | Sequence[bytes]) -> Iterable[bytes]:
    """Return a text, which may be in a buffer or in parts, in pieces of whole lines.

    None is longer than PIECE_BYTES, but where a line is, or where a part begins within a line.
    """
    if isinstance(text, bytes):
        return (text,) if len(text) <= PIECE_BYTES else _line_pieces(text)
    return _pieces_of_parts((text,) if isinstance(text, memoryview) else text)


def _line_pieces(text: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(text):
        end = text.rfind(b"\n", start, start + PIECE_BYTES) + 1 or text.find(b"\n", start) + 1 or len(text)
        yield text[start:end]
        start = end


def _pieces_of_parts(parts: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    begun: list[bytes] = []
    """A line whose end is still to come."""
    for part in parts:
        for start in range(0, len(part), PIECE_BYTES):
            text = bytes(part[start : start + PIECE_BYTES])
            end = text.rfind(b"\n") + 1
            if end:
                yield b"".join([*begun, memoryview(text)[:end]]) if begun else text[:end]
                begun = [text[end:]] if end < len(text) else []
            else:
                begun.append(text)
    if begun:
        yield b"".join(begun)


def nonblank_lines(body: bytes) -> list[bytes]:
    """Return the lines that are not empty, without LF or CR LF."""
    if b"\r" not in body:
        if 0 < body.find(b"\n") == len(body) - 1:  # one line: what a job of one record a request has
            return [body[:-1]]
        return [line for line in body.split(b"\n") if line]
    lines = (line[:-1] if line.endswith(b"\r") else line for line in body.split(b"\n"))
    return [line for line in lines if line]


# -- CSV


def parse_csv(line: bytes) -> list[str]:
    """Return the fields of one row; bytes that are no UTF-8 survive.

    Raises:
        RowError: Quotes where RFC 4180 has none.
    """
    text = line.decode("utf-8", "surrogateescape")
    if '"' not in text:
        return text.split(",")
    fields = []
    at = 0
    while True:
        if text.startswith('"', at):
            field, at = _quoted_field(text, at + 1)
        else:
            end = text.find(",", at)
            end = len(text) if end < 0 else end
            field = text[at:end]
            if '"' in field:
                raise RowError(f'bare " in non quoted field found near: {_near(text, at)}')
            at = end
        fields.append(field)
        if at >= len(text):
            return fields
        at += 1


def _quoted_field(text: str, start: int) -> tuple[str, int]:
    """Return the field whose opening quote stands before `start`, and where its comma or the end is."""
    at = start
    while True:
        end = text.find('"', at)
        if end < 0:
            raise RowError(f'extraneous or missing " in quoted field found near: {_near(text, start - 1)}')
        if text.startswith('""', end):
            at = end + 2
            continue
        if end + 1 < len(text) and text[end + 1] != ",":
            raise RowError(f'extraneous or missing " in quoted field found near: {_near(text, start - 1)}')
        return text[start:end].replace('""', '"'), end + 1


def _near(text: str, at: int) -> str:
    return text[at : at + _SNIPPET].encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def serialize_csv(fields: Sequence[str]) -> bytes:
    """Return a row without its line end; a field is quoted only if it holds a comma, a quote, CR or LF."""
    return ",".join([_csv_field(field) for field in fields]).encode("utf-8", "surrogateescape")


def _csv_field(field: str) -> str:
    if "," in field or '"' in field or "\n" in field or "\r" in field:
        return '"' + field.replace('"', '""') + '"'
    return field


# -- JSON


def parse_json(text: bytes) -> Any:
    """Return a JSON value that `serialize_json` writes with the same tokens.

    Numbers that Python would print in another way come as opaque fragments.

    Raises:
        RowError: The text is no JSON document, or one that could not be written again: it is nested too deeply.
    """
    try:
        value = orjson.loads(text)
        printed = orjson.dumps(value)
    except ValueError:
        return _parse_json_slowly(text)
    except TypeError as exc:  # what can be read may be deeper than what can be written
        raise RowError(_TOO_DEEP + _found_near(text)) from exc
    return value if _says_the_same(printed, text) else _parse_json_slowly(text)


def _says_the_same(printed: bytes, text: bytes) -> bool:
    """Return whether printing what a text was parsed to gives back its tokens, each as it was spelled.

    Only white space may differ. Without any white space, inside strings or outside, both texts must be the same
    characters, so every number is written as orjson writes it; strings are taken from the value itself.
    """
    return printed == text or printed.translate(None, _WHITE_SPACE) == text.translate(None, _WHITE_SPACE)


def rewrite_json(text: bytes) -> bytes:
    """Return a document as `serialize_json` writes it; of one that is written so already, nothing is printed twice.

    Raises:
        RowError: The text is no JSON document, or is nested too deeply.
    """
    try:
        value = orjson.loads(text)
        written = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
        if written == text:
            return text
        if _says_the_same(orjson.dumps(value), text):
            return _fitted(written)
    except (ValueError, TypeError):
        pass  # numbers beyond its range, half pairs; or no document
    return serialize_json(parse_json(text))


def with_member(record: bytes, name: str, document: bytes) -> bytes | None:
    """Return an object with a document as one more member, as `serialize_json` writes it.

    Both are parsed once, and their tokens are looked at once, together. None is returned where those would be printed
    in another way, where either is no JSON or has line feeds, and where the object has such a member already.
    """
    try:
        value = orjson.loads(record)
        if type(value) is not dict or name in value:
            return None
        value[name] = orjson.loads(document)  # the last member, so that it is printed behind all that the record has
        spelled = b'%b,"%b":%b}' % (record[:-1], name.encode(), document)
        written = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
        if written == spelled or (printed := orjson.dumps(value)) == spelled:
            return written
        if b"\n" not in spelled and _says_the_same(printed, spelled):
            return written
    except (ValueError, TypeError):
        pass
    return None


def serialize_json(value: Any) -> bytes:
    """Return compact JSON in UTF-8, members sorted by key at every level.

    Raises:
        RowError: The value is nested too deeply.
    """
    try:
        return _fitted(orjson.dumps(value, option=orjson.OPT_SORT_KEYS))
    except TypeError as exc:
        raise RowError(f"Failed to write JSON: {exc}") from exc


def _fitted(printed: bytes) -> bytes:
    """Return a copy of a short text: as orjson returns it, it keeps some 4 KiB of memory from others."""
    return b"%b" % printed if len(printed) < _COPIED_BELOW else printed


def _fragment(token: str) -> orjson.Fragment:
    return orjson.Fragment(token.encode())


def _refuse_constant(token: str) -> NoReturn:
    raise ValueError(f"{token} is no JSON value")


_TOKEN_DECODER = json.JSONDecoder(parse_float=_fragment, parse_int=_fragment, parse_constant=_refuse_constant)


def _parse_json_slowly(text: bytes) -> Any:
    try:
        decoded = text.decode("utf-8").strip(" \t\r\n")
        if decoded.startswith("\ufeff"):
            raise ValueError("a byte order mark (ef bb bf) stands before the value")  # which nobody sees in a message
        value, end = _TOKEN_DECODER.raw_decode(decoded)
        if end != len(decoded):
            raise ValueError(f"Extra data at character {end}")
        if "\\u" in decoded or "\\U" in decoded:
            value = _without_lone_surrogates(value)
        orjson.dumps(value)
    except (ValueError, RecursionError, TypeError) as exc:
        reason = str(exc) if isinstance(exc, ValueError) else _TOO_DEEP
        raise RowError(reason + _found_near(text)) from exc
    return value


def _found_near(text: bytes) -> str:
    return f", found near: {text[:_SNIPPET].decode('utf-8', 'replace')}"


def _without_lone_surrogates(value: Any) -> Any:
    """Replace half pairs such as `\\ud800`, which UTF-8 cannot write, by U+FFFD as other JSON readers do."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_without_lone_surrogates(element) for element in value]
    if isinstance(value, dict):
        return {_without_lone_surrogates(key): _without_lone_surrogates(member) for key, member in value.items()}
    return value
