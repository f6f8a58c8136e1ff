"""What readers of all formats share: the error with a path, and scalars written as text."""

import base64
import binascii
import math
from collections.abc import Callable
from typing import Any

from millrace.protocol.timestamps import TimestampFormat, format_timestamp, parse_timestamp, timestamp_format

__all__ = [
    "BadArgument",
    "BadValue",
    "Reader",
    "decode_base64",
    "encode_base64",
    "number_text",
    "shown",
    "text_reader",
    "text_writer",
]

Reader = Callable[[Any], Any]

_INT64 = 1 << 63
_SHOWN_CHARACTERS = 200


class BadValue(ValueError):
    """A value has another type than the model says; `path` is collected, innermost first, while it is raised."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path: list[str] = []

    def __str__(self) -> str:
        path = ".".join(reversed(self.path))
        return f"{path}: {self.reason}" if path else self.reason


class BadArgument(BadValue):
    """A value in the path, the query string or a header has another type than the model says."""


def shown(value: Any) -> str:
    """Return a value as an error message shows it: its repr, cut where it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."


def decode_base64(text: Any) -> bytes:
    """Decode a blob; raises BadValue."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise BadValue(f"expected base64, got {shown(text)}") from None


def encode_base64(value: bytes | str) -> str:
    """Encode a blob; text is taken as UTF-8."""
    return base64.b64encode(value.encode() if isinstance(value, str) else value).decode()


def _read_integer(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise BadValue(f"expected an integer, got {shown(text)}") from None
    if not -_INT64 <= number < _INT64:
        raise BadValue(f"expected an integer of 64 bits, got {shown(text)}")
    return number


def _read_float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise BadValue(f"expected a number, got {shown(text)}") from None


def _read_boolean(text: str) -> bool:
    lowered = text.strip().lower()
    if lowered not in ("true", "false"):
        raise BadValue(f"expected true or false, got {shown(text)}")
    return lowered == "true"


def _read_timestamp(text: str) -> Any:
    try:
        return parse_timestamp(text)
    except ValueError as exc:
        raise BadValue(str(exc)) from None


_TEXT_READERS: dict[str, Reader] = {
    "string": lambda text: text,
    "character": lambda text: text,
    "integer": _read_integer,
    "long": _read_integer,
    "bigInteger": _read_integer,
    "float": _read_float,
    "double": _read_float,
    "bigDecimal": _read_float,
    "boolean": _read_boolean,
    "timestamp": _read_timestamp,
    "blob": decode_base64,
}


def text_reader(shape: Any) -> Reader:
    """Return the function that reads a scalar of this shape from text, as in XML, a form, a header or a query."""
    return _TEXT_READERS[shape.type_name]


def number_text(value: float | int) -> str:
    """Write a number; not-a-number and the infinities by the names that the protocols have for them."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return str(value)


def text_writer(shape: Any, default: TimestampFormat) -> Callable[[Any], str]:
    """Return the function that writes a scalar of this shape as text; `default` is the place's timestamp format."""
    kind = shape.type_name
    if kind == "boolean":
        return lambda value: "true" if value else "false"
    if kind == "timestamp":
        style = timestamp_format(shape, default)
        return lambda value: str(format_timestamp(value, style))
    if kind == "blob":
        return encode_base64
    if kind in ("float", "double", "integer", "long"):
        return number_text
    return str
