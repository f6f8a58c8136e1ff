"""Turn rows of JSON into columns with types, found by looking at all rows where nobody stated them."""

from collections.abc import Sequence
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.json as arrow_json

from millrace.dataplane.formats.arrow_errors import arrow_errors
from millrace.dataplane.formats.column_types import (
    ANSWER_COLUMN,
    arrow_type,
    cast_table,
    check_count,
    plain_rows,
    read_as,
    rows_told,
)
from millrace.dataplane.formats.columns import OutputColumn
from millrace.dataplane.formats.unreadable import UnfitFormat
from millrace.dataplane.rows import nonblank_lines

__all__ = ["JsonColumns"]

NOTHING = b"null"
"""The row that stands for one whose columns are all null, among objects too."""

_UNNAMED = "Failed to convert JSON"
"""What the reader begins with when a number does not fit the type of its column."""


class JsonColumns:
    """Columns of JSON: members of the rows' objects; of rows that are no objects there is one column, the value.

    Args:
        columns: Those that are written, in this order; all members that occur if there are none here.
    """

    def __init__(self, columns: Sequence[OutputColumn]) -> None:
        self._columns = columns
        self._bare: bool | None = None
        self._seen: Any = None
        self.schema: Any = None
        if columns and all(column.type for column in columns):
            self.schema = pa.schema([(column.name, arrow_type(column.type or "")) for column in columns])

    def look(self, block: bytes, first_row: int) -> int:
        text, rows = self._objects(block, first_row)
        if not rows:
            return 0
        with arrow_errors(rows_told(first_row, rows), first_row=first_row):
            found = _read_json(text, None)
            schema = pa.schema([(field.name, _untimed(field.type)) for field in found.schema])
            known = [schema] if self._seen is None else [self._seen, schema]
            self._seen = pa.unify_schemas(known, promote_options="permissive")
        check_count(found.num_rows if found.num_columns else rows, rows, first_row)
        return rows

    def settle(self) -> None:
        seen = self._seen if self._seen is not None else pa.schema([])
        if not self._columns:
            self.schema = seen
            return
        kinds = {field.name: field.type for field in seen}
        self.schema = pa.schema(
            [
                (column.name, arrow_type(column.type) if column.type else kinds.get(column.name, pa.null()))
                for column in self._columns
            ]
        )

    def parse(self, block: bytes, first_row: int) -> Any:
        text, rows = self._objects(block, first_row)
        if not rows:
            return self.schema.empty_table()
        if not self.schema.names:
            raise UnfitFormat("rows of the output must have members to become columns, got none in all of them")
        with arrow_errors(rows_told(first_row, rows), first_row=first_row):
            found = _read_typed(text, pa.schema([(field.name, read_as(field.type)) for field in self.schema]))
            check_count(found.num_rows if found.num_columns else rows, rows, first_row)
            return cast_table([found.column(field.name) for field in self.schema], self.schema, first_row)

    def _objects(self, block: bytes, first_row: int) -> tuple[bytes, int]:
        """Return the rows as lines of objects, and how many: one of another kind is the only member of its object."""
        count = plain_rows(block)
        if count and not self._bare and block.startswith(b"{") and block.count(b"\n{") == count - 1:
            self._bare = False
            _require_text(block, first_row)
            return block, count
        rows = nonblank_lines(block)
        for at, row in enumerate(rows):
            bare = not row.lstrip(b" \t").startswith(b"{")
            if bare is self._bare or row == NOTHING:
                continue
            if self._bare is not None:
                kinds = ("an object", "no object")
                raise UnfitFormat(
                    f"rows of the output must all be JSON objects or none, but row {first_row + at} is "
                    f"{kinds[bare]}, earlier ones are {kinds[not bare]}"
                )
            self._bare = bare
        if self._bare:
            name = self._bare_name()
            text = b"\n".join([b'{"%b":%b}' % (name, row) for row in rows])
        else:
            text = b"\n".join([b"{}" if row == NOTHING else row for row in rows])
        _require_text(text, first_row)
        return text, len(rows)

    def _bare_name(self) -> bytes:
        if len(self._columns) > 1:
            named = ", ".join(column.name for column in self._columns)
            raise UnfitFormat(f"rows of the output must be JSON objects with the members [{named}], got other values")
        name = self._columns[0].name if self._columns else ANSWER_COLUMN
        return orjson.dumps(name)[1:-1]


def _require_text(rows: bytes, first_row: int) -> None:
    """Raise UnfitFormat if lines are not in UTF-8: the reader takes any bytes, and whoever reads the table may not."""
    if rows.isascii():
        return
    try:
        rows.decode()
    except UnicodeDecodeError as exc:
        row = first_row + rows.count(b"\n", 0, exc.start)
        raise UnfitFormat(f"row {row} of the output has bytes that are not UTF-8") from exc


def _read_json(text: bytes, schema: Any) -> Any:
    return arrow_json.read_json(
        pa.BufferReader(text),
        arrow_json.ReadOptions(use_threads=False, block_size=len(text) + 1),
        arrow_json.ParseOptions(
            explicit_schema=schema,
            newlines_in_values=False,
            unexpected_field_behavior="infer" if schema is None else "ignore",
        ),
    )


def _read_typed(text: bytes, schema: Any) -> Any:
    """Read rows whose columns have types; a value that has not its column's type is told with the column's name."""
    try:
        return _read_json(text, schema)
    except pa.ArrowInvalid as exc:
        if not str(exc).startswith(_UNNAMED):
            raise
    for field in schema:  # one by one, for the reader does not tell which it is
        try:
            _read_json(text, pa.schema([field]))
        except pa.ArrowInvalid as exc:
            raise ValueError(f'column "{field.name}": {exc}') from exc
    return _read_json(text, schema)


def _untimed(kind: Any) -> Any:
    """Return a type with strings for the times that the reader takes texts of some form for."""
    if pa.types.is_list(kind):
        return pa.list_(_untimed(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _untimed(field.type)) for field in kind])
    return pa.string() if pa.types.is_temporal(kind) else kind
