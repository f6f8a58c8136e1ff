"""Turn columns of numbers, times and strings into columns of their text.

Values are written as columns, by compiled kernels: no Python object per value. A column of text is an array of bytes
(`pa.binary()`), null where the value is. What each type is written as stands in docs/formats.md.
"""

import base64
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from millrace.dataplane.formats.raw_values import BYTES, byte_scalar, byte_values
from millrace.dataplane.formats.unreadable import UnfitFormat

__all__ = ["holds_any", "plain_storage", "scalar_text", "string_bytes", "wrapped"]


def plain_storage(column: Any) -> Any:
    """Return an array without dictionary, run-end or extension encoding; UUIDs are strings."""
    while True:
        kind = column.type
        if isinstance(kind, pa.UuidType):
            column = _uuids(column.storage)
        elif isinstance(kind, pa.BaseExtensionType):
            column = column.storage
        elif pa.types.is_dictionary(kind):
            column = column.dictionary_decode()
        elif pa.types.is_run_end_encoded(kind):
            column = pc.run_end_decode(column)
        else:
            return column


def is_text(kind: Any) -> bool:
    """Return whether values of a type are strings."""
    types = pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def string_bytes(column: Any) -> Any:
    """Return the bytes of strings or binary values."""
    kind = column.type
    if pa.types.is_string_view(kind):
        column = column.cast(pa.string())
    elif pa.types.is_binary_view(kind) or pa.types.is_fixed_size_binary(kind):
        column = column.cast(BYTES)
    return column.cast(BYTES)


def scalar_text(column: Any, name: str) -> Any:
    """Return the text of numbers, truth values, dates and times; of binary values their Base64.

    Args:
        column: Of none of the nested types, and no strings.
        name: What messages call the column.

    Raises:
        UnfitFormat: The type has no text here, or a date is beyond the years that can be written.
    """
    types, kind = pa.types, column.type
    if types.is_null(kind):
        return pa.nulls(len(column), BYTES)
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return _base64(column)
    if types.is_binary_view(kind):
        return _base64(column)
    if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind):
        return column.cast(pa.string()).cast(BYTES)
    if types.is_date(kind) or types.is_time(kind):
        return _in_range(column.cast(pa.string()), column, name)
    if types.is_timestamp(kind):
        if kind.tz is not None:
            column = column.cast(pa.timestamp(kind.unit, "UTC"))
        return _in_range(pc.replace_substring(column.cast(pa.string()), " ", "T", max_replacements=1), column, name)
    raise UnfitFormat(f'column "{name}" has type {kind}, which has no text; leave it out by MILLRACE_INPUT_COLUMNS')


def _in_range(text: Any, column: Any, name: str) -> Any:
    if pc.any(pc.starts_with(text, "<")).as_py():
        raise UnfitFormat(f'column "{name}" of type {column.type} has a value beyond the dates that can be written')
    return text.cast(BYTES)


def _uuids(column: Any) -> Any:
    digits = ((value or b"").hex() for value in column.to_pylist())
    texts = [f"{d[:8]}-{d[8:12]}-{d[12:16]}-{d[16:20]}-{d[20:]}".encode() for d in digits]
    return byte_values(texts, like=column).cast(pa.string())


def _base64(column: Any) -> Any:
    return byte_values([base64.b64encode(value or b"") for value in column.to_pylist()], like=column)


def holds_any(column: Any, characters: bytes) -> bool:
    """Return whether any value of an array of bytes holds one of some characters: one look at all of them together."""
    offsets, data = column.buffers()[1:3]
    if data is None or not len(column):
        return False
    edges = memoryview(offsets).cast("i")
    start, end = edges[column.offset], edges[column.offset + len(column)]
    held = bytes(memoryview(data)[start:end])
    return len(held.translate(None, characters)) != len(held)


def wrapped(before: bytes, column: Any, after: bytes) -> Any:
    """Return an array of bytes with something before and behind each value; nulls stay."""
    return pc.binary_join_element_wise(byte_scalar(before), column, byte_scalar(after), byte_scalar(b""))
