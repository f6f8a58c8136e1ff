"""The JSON codec: shapes to and from JSON documents. It knows no HTTP."""

from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any

import orjson

from millrace.protocol.message import WireEntries
from millrace.protocol.timestamps import TimestampFormat, format_timestamp, parse_timestamp, timestamp_format
from millrace.protocol.wire_values import BadValue, Reader, decode_base64, encode_base64, number_text, shown

__all__ = ["JsonReaders", "JsonWriters", "decode", "encode"]

Writer = Callable[[Any], Any]

_INT64 = float(1 << 63)


def decode(content: bytes) -> Any:
    """Decode a document; nothing at all stands for an empty structure.

    Raises:
        BadValue: It is no JSON.
    """
    if not content:
        return {}
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as exc:
        raise BadValue(f"expected a JSON document: {exc}") from None


def encode(document: Any) -> bytes:
    """Encode what a writer gave."""
    return orjson.dumps(document)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    return {bool: "boolean", int: "number", float: "number", str: "string", list: "list", dict: "structure"}.get(
        type(value), type(value).__name__
    )


def _refuse(expected: str, value: Any) -> BadValue:
    return BadValue(f"expected {expected}, got {shown(value)} ({_kind(value)})")


def _read_string(value: Any) -> str:
    if type(value) is str:
        return value
    raise _refuse("a string", value)


def _read_integer(value: Any) -> int:
    if type(value) is int:
        return value
    if type(value) is float and value.is_integer() and -_INT64 <= value < _INT64:
        return int(value)
    raise _refuse("an integer", value)


def _read_float(value: Any) -> float:
    if type(value) is float:
        return value
    if type(value) is int:
        return float(value)
    if value in ("NaN", "Infinity", "-Infinity"):
        return float(value)
    raise _refuse("a number", value)


def _read_boolean(value: Any) -> bool:
    if type(value) is bool:
        return value
    raise _refuse("true or false", value)


def _read_timestamp(value: Any) -> datetime:
    try:
        return parse_timestamp(value)
    except ValueError as exc:
        raise BadValue(str(exc)) from None


def _read_blob(value: Any) -> bytes:
    if type(value) is not str:
        raise _refuse("base64", value)
    return decode_base64(value)


_SCALAR_READERS: dict[str, Reader] = {
    "string": _read_string,
    "character": _read_string,
    "integer": _read_integer,
    "long": _read_integer,
    "bigInteger": _read_integer,
    "float": _read_float,
    "double": _read_float,
    "bigDecimal": _read_float,
    "boolean": _read_boolean,
    "timestamp": _read_timestamp,
    "blob": _read_blob,
}


class JsonReaders:
    """Builds, once per shape, the function that turns a decoded document into parameters.

    Unknown members are ignored and null members are left out. The functions raise BadValue with the path.
    """

    def __init__(self) -> None:
        self._structures: dict[str, Reader] = {}

    def reader(self, shape: Any) -> Reader:
        """Return the reader of a shape."""
        kind = shape.type_name
        if kind == "structure":
            return self._structure(shape)
        if kind == "list":
            return self._list(self.reader(shape.member))
        if kind == "map":
            return self._map(self.reader(shape.value))
        return _SCALAR_READERS[kind]

    def members_reader(self, shape: Any, names: Collection[str]) -> Reader:
        """Return a reader of some members of a structure only: those that stand in the body."""
        readers: dict[str, tuple[str, Reader]] = {}
        return self._fill(readers, shape, names)

    def _structure(self, shape: Any) -> Reader:
        if getattr(shape, "is_document_type", False):
            return lambda value: value
        known = self._structures.get(shape.name)
        if known is not None:
            return known
        readers: dict[str, tuple[str, Reader]] = {}
        # Registered before it is filled: shapes such as SearchExpression contain themselves.
        self._structures[shape.name] = reader = _structure_reader(readers)
        self._fill(readers, shape, shape.members)
        return reader

    def _fill(self, readers: dict[str, tuple[str, Reader]], shape: Any, names: Collection[str]) -> Reader:
        for name in names:
            member = shape.members[name]
            readers[member.serialization.get("name", name)] = (name, self.reader(member))
        return _structure_reader(readers)

    @staticmethod
    def _list(element: Reader) -> Reader:
        def read(value: Any) -> list[Any]:
            if type(value) is not list:
                raise _refuse("a list", value)
            index = 0
            result = []
            try:
                for index, entry in enumerate(value):  # noqa: B007 - the index names the culprit below
                    result.append(None if entry is None else element(entry))
            except BadValue as bad:
                bad.path.append(str(index + 1))
                raise
            return result

        return read

    @staticmethod
    def _map(element: Reader) -> Reader:
        def read(value: Any) -> dict[str, Any]:
            if type(value) is not dict:
                raise _refuse("a map", value)
            key = ""
            result = {}
            try:
                for key, entry in value.items():
                    result[key] = None if entry is None else element(entry)
            except BadValue as bad:
                bad.path.append(key)
                raise
            return result

        return read


def _structure_reader(readers: dict[str, tuple[str, Reader]]) -> Reader:
    def read(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise _refuse("a structure", value)
        result = {}
        key = ""
        try:
            for key, entry in value.items():
                if entry is not None and key in readers:
                    name, reader = readers[key]
                    result[name] = reader(entry)
        except BadValue as bad:
            bad.path.append(key)
            raise
        return result

    return read


def _write_string(value: Any) -> str:
    return value if type(value) is str else str(value)


def _write_number(value: Any) -> Any:
    # The infinities have no JSON number; the protocol writes their names.
    return value if value - value == 0 else number_text(value)


def _write_entries(entries: WireEntries) -> orjson.Fragment:
    if entries.json is None:
        entries.json = orjson.dumps(entries)
    return orjson.Fragment(entries.json)


_SCALAR_WRITERS: dict[str, Writer] = {
    "string": _write_string,
    "character": _write_string,
    "integer": int,
    "long": int,
    "bigInteger": int,
    "float": _write_number,
    "double": _write_number,
    "bigDecimal": _write_number,
    "boolean": bool,
    "blob": encode_base64,
}


class JsonWriters:
    """Builds, once per shape, the function that turns a result into what `encode` takes.

    Members that the shape does not have and members that are None are left out: an explicit null breaks SDK code
    that tests `"X" in description`.
    """

    def __init__(self) -> None:
        self._structures: dict[str, Writer] = {}

    def writer(self, shape: Any) -> Writer:
        """Return the writer of a shape."""
        kind = shape.type_name
        if kind == "structure":
            return self._structure(shape)
        if kind == "list":
            element = self.writer(shape.member)
            return lambda value: (
                _write_entries(value) if type(value) is WireEntries else [element(entry) for entry in value]
            )
        if kind == "map":
            entry_writer = self.writer(shape.value)
            return lambda value: {str(key): entry_writer(entry) for key, entry in value.items() if entry is not None}
        if kind == "timestamp":
            style = timestamp_format(shape, TimestampFormat.EPOCH)
            return lambda value: format_timestamp(value, style)
        return _SCALAR_WRITERS[kind]

    def members_writer(self, shape: Any, names: Collection[str]) -> Writer:
        """Return a writer of some members of a structure only."""
        writers: dict[str, tuple[str, Writer]] = {}
        return self._fill(writers, shape, names)

    def _structure(self, shape: Any) -> Writer:
        if getattr(shape, "is_document_type", False):
            return lambda value: value
        known = self._structures.get(shape.name)
        if known is not None:
            return known
        writers: dict[str, tuple[str, Writer]] = {}
        self._structures[shape.name] = writer = _structure_writer(writers)
        self._fill(writers, shape, shape.members)
        return writer

    def _fill(self, writers: dict[str, tuple[str, Writer]], shape: Any, names: Collection[str]) -> Writer:
        for name in names:
            member = shape.members[name]
            writers[name] = (member.serialization.get("name", name), self.writer(member))
        return _structure_writer(writers)


def _structure_writer(writers: dict[str, tuple[str, Writer]]) -> Writer:
    def write(value: Any) -> dict[str, Any]:
        document = {}
        for name, entry in value.items():
            if entry is not None and name in writers:
                key, writer = writers[name]
                document[key] = writer(entry)
        return document

    return write
