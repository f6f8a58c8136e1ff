"""Turn batches of a table into rows of CSV or lines of JSON.

Each column becomes a column of text, and one kernel joins them row by row: the bytes of its result are the rows.

Source:
    RFC 4180 for CSV; RFC 8259 for JSON.
"""

from collections.abc import Callable, Sequence
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from millrace.dataplane.formats.raw_values import NO_BYTES, byte_scalar, byte_values, list_edges
from millrace.dataplane.formats.unreadable import UnfitFormat
from millrace.dataplane.formats.value_text import (
    holds_any,
    is_text,
    plain_storage,
    scalar_text,
    string_bytes,
    wrapped,
)
from millrace.dataplane.jsonpath import Format
from millrace.dataplane.rows import serialize_csv

__all__ = ["csv_rows", "header_row", "json_rows", "row_writer"]

_NOTHING, _COMMA, _COLON, _NULL, _EMPTY_STRING = map(byte_scalar, (b"", b",", b":", b"null", b'""'))
_QUOTED_FOR = b',"\r\n'
_ESCAPED = bytes(range(32)) + b'"\\'


def row_writer(text_format: str | None) -> Callable[[Any], bytes]:
    """Return what writes the rows of a record batch in a media type."""
    return csv_rows if text_format == Format.CSV else json_rows


def header_row(names: Sequence[str]) -> bytes:
    """Return the names of columns as a row of CSV."""
    return serialize_csv(names) + b"\n"


# -- CSV


def csv_rows(batch: Any) -> bytes:
    """Return rows of CSV, each with a line feed.

    A null is an empty field, an empty string a pair of quotes; else fields are quoted only where they must be. A null
    that is all of a row is a pair of quotes too: an empty line would be no record.

    Raises:
        UnfitFormat: A column has values that CSV cannot hold.
    """
    _check_any(batch)
    columns = [_csv_fields(column, name) for column, name in zip(batch.columns, batch.schema.names, strict=True)]
    last = wrapped(b"", columns[-1].fill_null(_EMPTY_STRING if len(columns) == 1 else _NOTHING), b"\n")
    joined = pc.binary_join_element_wise(*columns[:-1], last, _COMMA, null_handling="replace", null_replacement=b"")
    return _bytes_of(joined)


def _csv_fields(column: Any, name: str) -> Any:
    column = plain_storage(column)
    if pa.types.is_nested(column.type):
        raise UnfitFormat(
            f'column "{name}" has type {column.type}, which text/csv cannot hold; take application/jsonlines, or leave '
            "it out by MILLRACE_INPUT_COLUMNS"
        )
    if not is_text(column.type):
        return scalar_text(column, name)
    column = string_bytes(column)
    if holds_any(column, _QUOTED_FOR):
        quoted = wrapped(b'"', pc.replace_substring(column, b'"', b'""'), b'"')
        column = pc.if_else(pc.match_substring_regex(column, '[,"\r\n]'), quoted, column)
    if pc.min(pc.binary_length(column)).as_py() == 0:
        column = pc.if_else(pc.equal(column, _NOTHING), _EMPTY_STRING, column)
    return column


# -- JSON


def json_rows(batch: Any) -> bytes:
    """Return a JSON object for each row, its members in the order of the columns, each with a line feed.

    Raises:
        UnfitFormat: A column has values that JSON cannot hold, or the name of another.
    """
    _check_any(batch)
    _check_distinct(batch.schema.names)
    columns = [_json_values(column, name) for column, name in zip(batch.columns, batch.schema.names, strict=True)]
    return _bytes_of(_json_objects(batch.schema.names, columns, b"}\n"))


def _json_objects(names: Sequence[str], columns: Sequence[Any], end: bytes) -> Any:
    pieces: list[Any] = []
    before = b"{"
    for name, column in zip(names, columns, strict=True):
        pieces += [byte_scalar(before + orjson.dumps(name) + b":"), column]
        before = b","
    return pc.binary_join_element_wise(
        *pieces, byte_scalar(end), _NOTHING, null_handling="replace", null_replacement=b"null"
    )


def _json_values(column: Any, name: str) -> Any:
    """Return the JSON text of each value; null where the value is null, or a number that JSON does not know."""
    column = plain_storage(column)
    types, kind = pa.types, column.type
    if is_text(kind):
        return _json_strings(column, name)
    if types.is_map(kind):
        return _json_maps(column, name)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _json_lists(column, _json_values(column.flatten(), name), b"[", b"]")
    if types.is_struct(kind):
        return _json_structs(column, name)
    if types.is_nested(kind):
        raise UnfitFormat(f'column "{name}" has type {kind}, which has no text; leave it out by MILLRACE_INPUT_COLUMNS')
    text = scalar_text(column, name)
    if types.is_floating(kind):
        finite = pc.is_finite(column)
        return text if pc.all(finite).as_py() is not False else pc.if_else(finite, text, NO_BYTES)
    if types.is_null(kind) or types.is_integer(kind) or types.is_boolean(kind) or types.is_decimal(kind):
        return text
    return wrapped(b'"', text, b'"')


def _json_strings(column: Any, name: str) -> Any:
    raw = string_bytes(column)
    try:
        raw.cast(pa.string())
    except pa.ArrowInvalid as exc:
        raise UnfitFormat(f'column "{name}" has a string that is not UTF-8, which JSON cannot hold') from exc
    if holds_any(raw, _ESCAPED):
        return byte_values([orjson.dumps(value) for value in column.to_pylist()], like=column)
    return wrapped(b'"', raw, b'"')


def _json_lists(column: Any, entries: Any, opening: bytes, closing: bytes) -> Any:
    lists = pa.ListArray.from_arrays(list_edges(column), entries.fill_null(_NULL), mask=column.is_null())
    return wrapped(opening, pc.binary_join(lists, _COMMA), closing)


def _json_maps(column: Any, name: str) -> Any:
    kind = column.type
    pairs = column.cast(pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)])))
    keys, values = pairs.flatten().flatten()
    key_text = _json_values(keys, name)
    if not is_text(plain_storage(keys).type):
        key_text = wrapped(b'"', scalar_text(plain_storage(keys), name), b'"')
    entries = pc.binary_join_element_wise(key_text, _json_values(values, name).fill_null(_NULL), _COLON)
    return _json_lists(pairs, entries, b"{", b"}")


def _json_structs(column: Any, name: str) -> Any:
    names = [field.name for field in column.type]
    _check_distinct(names)
    if not names:
        objects = byte_values([b"{}"] * len(column))
    else:
        fields = [
            _json_values(field, f"{name}.{member}") for field, member in zip(column.flatten(), names, strict=True)
        ]
        objects = _json_objects(names, fields, b"}")
    return pc.if_else(column.is_valid(), objects, NO_BYTES) if column.null_count else objects


# -- both


def _check_any(batch: Any) -> None:
    if not batch.num_columns:
        raise UnfitFormat("a table must have at least one column, got none")


def _check_distinct(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise UnfitFormat(f'a JSON object must have each member once, but columns share the name "{name}"')


def _bytes_of(column: Any) -> bytes:
    """Return the values of an array of bytes, one behind the other, as they stand in its buffer."""
    if not len(column):
        return b""
    offsets, data = column.buffers()[1:3]
    edges = memoryview(offsets).cast("i")
    return bytes(memoryview(data)[edges[column.offset] : edges[column.offset + len(column)]])
