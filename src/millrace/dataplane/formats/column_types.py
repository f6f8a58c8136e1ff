"""Name the types that columns of an output may be given, and cast text to them."""

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from millrace.dataplane.formats.raw_values import byte_values, list_edges
from millrace.dataplane.formats.unreadable import UnfitFormat
from millrace.told import shortened

__all__ = [
    "ANSWER_COLUMN",
    "arrow_type",
    "cast_table",
    "check_count",
    "plain_rows",
    "read_as",
    "rows_told",
]

ANSWER_COLUMN = "SageMakerOutput"
"""Name of an answer's column that has none, as of the member that a join of JSON adds."""

_TYPES = {
    "bool": pa.bool_(),
    "int8": pa.int8(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "uint8": pa.uint8(),
    "uint16": pa.uint16(),
    "uint32": pa.uint32(),
    "uint64": pa.uint64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", "UTC"),
}
_ZULU, _NOTHING = (byte_values([text]).cast(pa.string())[0] for text in (b"Z", b""))
_ZONED = r"([Zz]|[+-]\d\d(:?\d\d)?)$"


def arrow_type(text: str) -> Any:
    """Return the type that a column of the output is given by name."""
    return pa.list_(arrow_type(text[5:-1])) if text.startswith("list<") else _TYPES[text]


def read_as(kind: Any) -> Any:
    """Return the type that text is parsed to before it is cast: dates and times are strings first, of any ISO form."""
    if pa.types.is_list(kind):
        return pa.list_(read_as(kind.value_type))
    return pa.string() if pa.types.is_temporal(kind) else kind


def cast_table(columns: Iterable[Any], schema: Any, first_row: int) -> Any:
    """Return a table of a schema, made of columns that were parsed as `read_as` says.

    Raises:
        UnfitFormat: A value has not its column's type; rows are counted from `first_row`.
    """
    cast = []
    for column, field in zip(columns, schema, strict=True):
        try:
            chunks = [_cast_column(chunk, field.type) for chunk in column.chunks]
        except pa.ArrowInvalid as exc:
            at = _first_unfit(column, field.type)
            raise UnfitFormat(
                f'row {first_row + at} of the output: column "{field.name}" must be of type {_type_name(field.type)}, '
                f"got {shortened(repr(column[at].as_py()))}"
            ) from exc
        cast.append(pa.chunked_array(chunks, field.type))
    return pa.table(cast, schema=schema)


def _first_unfit(column: Any, kind: Any) -> int:
    """Return the place of the first value of a column, one of which cannot be cast."""
    begin, end = 0, len(column)
    while end - begin > 1:
        middle = (begin + end) // 2
        try:
            for chunk in column.slice(begin, middle - begin).chunks:
                _cast_column(chunk, kind)
        except pa.ArrowInvalid:
            end = middle
        else:
            begin = middle
    return begin


def _type_name(kind: Any) -> str:
    """Return the name by which a column of the output is given a type."""
    if pa.types.is_list(kind):
        return f"list<{_type_name(kind.value_type)}>"
    return next((name for name, known in _TYPES.items() if known == kind), str(kind))


def _cast_column(column: Any, kind: Any) -> Any:
    if column.type == kind:
        return column
    if pa.types.is_list(kind):
        values = _cast_column(column.flatten(), kind.value_type)
        return pa.ListArray.from_arrays(list_edges(column), values, mask=column.is_null()).cast(kind)
    if pa.types.is_timestamp(kind):  # a time that tells no zone is UTC
        utc = pc.binary_join_element_wise(column, _ZULU, _NOTHING)
        column = pc.if_else(pc.match_substring_regex(column, _ZONED), column, utc)
    return column.cast(kind)


def plain_rows(block: bytes) -> int:
    """Return how many lines a block has, by one look at all of it; 0 if it must be looked at line by line."""
    if not block or b"\n\n" in block or b"\r" in block or block.startswith(b"\n"):
        return 0
    return block.count(b"\n") + (not block.endswith(b"\n"))


def rows_told(first_row: int, count: int) -> str:
    return f"Failed to read rows {first_row} to {first_row + count - 1} of the output"


def check_count(found: int, rows: int, first_row: int) -> None:
    if found != rows:
        raise UnfitFormat(f"{rows_told(first_row, rows)}: each line must be one row, got {found} rows, not {rows}")
