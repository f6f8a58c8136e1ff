"""Turn rows of CSV into columns with types.

Types that nobody stated are found by looking at all rows before any is written: a column of whole numbers that turns
out to have fractions after an hour is one of doubles from its first row. Values that don't agree are strings.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.csv as arrow_csv

from millrace.dataplane.csv_records import PLACEHOLDER_ROW, nonblank_csv_records
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
from millrace.dataplane.formats.output_names import check_distinct_names
from millrace.dataplane.formats.unreadable import UnfitFormat
from millrace.dataplane.rows import RowError, parse_csv

__all__ = ["CsvColumns"]


class CsvColumns:
    """Columns of CSV, by place. An empty field is null; between quotes it is an empty string, if not alone in its row.

    Args:
        columns: What is known of them.
        more: Whether there may be more of them, which get names of ours.
    """

    def __init__(self, columns: Sequence[OutputColumn], *, more: bool) -> None:
        self._more = more
        self._columns = list(columns)
        self._seen: list[Any] = []
        self._no_answers = False
        """There are rows, but none so far that came of an answer."""
        self.schema: Any = None
        if not more and all(column.type for column in columns):
            self.schema = pa.schema([(column.name, arrow_type(column.type or "")) for column in columns])

    def look(self, block: bytes, first_row: int) -> int:
        if self._more and set(found := nonblank_csv_records(block)) <= {PLACEHOLDER_ROW}:
            self._no_answers = self._no_answers or bool(found)
            return len(found)  # rows of answers tell how many columns there are
        block, rows = self._whole_rows(block, first_row)
        if not rows:
            return 0
        stated = {column.name: pa.string() for column in self._columns if column.type}
        with arrow_errors(rows_told(first_row, rows), columns=self._names(), first_row=first_row):
            table = self._read(block, stated)
        check_count(table.num_rows, rows, first_row)
        kinds = [_simple(field.type, field.name) for field in table.schema]
        self._seen = [_common(one, other) for one, other in zip(self._seen or kinds, kinds, strict=True)]
        return rows

    def settle(self) -> None:
        if self._more and self._no_answers:
            if not self._columns:
                self._name(PLACEHOLDER_ROW, 1)
            self._more = False
        kinds = self._seen or [pa.null()] * len(self._columns)
        self.schema = pa.schema(
            [
                (column.name, arrow_type(column.type) if column.type else kind)
                for column, kind in zip(self._columns, kinds, strict=True)
            ]
        )

    def parse(self, block: bytes, first_row: int) -> Any:
        block, rows = self._whole_rows(block, first_row)
        if not rows:
            return self.schema.empty_table()
        with arrow_errors(rows_told(first_row, rows), columns=self._names(), first_row=first_row):
            found = self._read(block, {field.name: read_as(field.type) for field in self.schema})
            check_count(found.num_rows, rows, first_row)
            return cast_table(found.columns, self.schema, first_row)

    def _names(self) -> list[str]:
        return [column.name for column in self._columns]

    def _whole_rows(self, block: bytes, first_row: int) -> tuple[bytes, int]:
        """Return a block whose rows have all columns, and how many rows that are."""
        count = plain_rows(block)
        if count and b'"' not in block:
            self._name(block[: block.find(b"\n")] if b"\n" in block else block, first_row)
            return block, count
        rows = nonblank_csv_records(block)
        if PLACEHOLDER_ROW not in rows:
            if rows:
                self._name(rows[0], first_row)
            return block, len(rows)
        first = next((at for at, row in enumerate(rows) if row != PLACEHOLDER_ROW), None)
        if first is not None:
            self._name(rows[first], first_row + first)
        elif self._more:
            self._name(rows[0], first_row)
        if len(self._columns) == 1:
            return block, len(rows)
        nulls = b"," * (len(self._columns) - 1)
        return b"\n".join([nulls if row == PLACEHOLDER_ROW else row for row in rows]), len(rows)

    def _name(self, row: bytes, first_row: int) -> None:
        """Give names to columns that have none, by the first row; and check that there are as many as are named."""
        try:
            width = len(parse_csv(row))
        except RowError as exc:
            raise UnfitFormat(f"Failed to read row {first_row} of the output as CSV: {exc}") from exc
        if self._more:
            self._more = False
            further = width - len(self._columns)
            names = [ANSWER_COLUMN] if further == 1 else [f"{ANSWER_COLUMN}_{at}" for at in range(1, further + 1)]
            self._columns += [OutputColumn(name=name) for name in names]
            check_distinct_names(self._names())
        if width != len(self._columns):
            named = ", ".join(self._names())
            raise UnfitFormat(
                f"row {first_row} of the output must have a column for each of [{named}], got {width} columns"
            )

    def _read(self, block: bytes, types: dict[str, Any]) -> Any:
        return arrow_csv.read_csv(
            pa.BufferReader(block),
            arrow_csv.ReadOptions(
                use_threads=False,
                block_size=len(block) + 1,
                column_names=self._names(),
            ),
            arrow_csv.ParseOptions(newlines_in_values=True),
            arrow_csv.ConvertOptions(
                column_types=types,
                null_values=[""],
                strings_can_be_null=True,
                # An empty field that is all of a row must be quoted, or it would be no row: there it is null too.
                quoted_strings_can_be_null=len(self._columns) == 1,
                true_values=["true", "True", "TRUE"],
                false_values=["false", "False", "FALSE"],
            ),
        )


def _simple(kind: Any, name: str) -> Any:
    """Return what a type that was found stands for: of text, dates and times stay strings unless a type is stated."""
    types = pa.types
    if types.is_binary(kind):
        raise UnfitFormat(f'column "{name}" of the output has bytes that are not UTF-8')
    known = types.is_null(kind) or types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind)
    return kind if known else pa.string()


def _common(one: Any, other: Any) -> Any:
    """Return the type of values of both types."""
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    numbers = (pa.int64(), pa.float64())
    return pa.float64() if one in numbers and other in numbers else pa.string()
