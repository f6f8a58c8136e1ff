"""Name the types that columns of an output may be given, and cast text to them."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from millrace.dataplane.formats.unreadable import UnfitFormat

__all__ = ["ANSWER_COLUMN", "arrow_type", "cast_column", "check_count", "plain_rows", "read_as", "rows_told"]

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
_ZONED = r"([Zz]|[+-]\d\d(:?\d\d)?)$"


def arrow_type(text: str) -> Any:
    """Return the type that a column of the output is given by name."""
    return pa.list_(arrow_type(text[5:-1])) if text.startswith("list<") else _TYPES[text]


def read_as(kind: Any) -> Any:
    """Return the type that text is parsed to before it is cast: dates and times are strings first, of any ISO form."""
    if pa.types.is_list(kind):
        return pa.list_(read_as(kind.value_type))
    return pa.string() if pa.types.is_temporal(kind) else kind


def cast_column(column: Any, kind: Any) -> Any:
    if column.type == kind:
        return column
    if pa.types.is_list(kind):
        values = cast_column(column.flatten(), kind.value_type)
        lengths = pc.fill_null(pc.list_value_length(column), 0)
        edges = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths)])
        return pa.ListArray.from_arrays(edges, values, mask=column.is_null()).cast(kind)
    if pa.types.is_timestamp(kind):  # a time that tells no zone is UTC
        utc = pc.binary_join_element_wise(column, "Z", "")
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
