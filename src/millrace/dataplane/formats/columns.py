"""Parse lists of columns, of what a container gets and of what it answers. Pure."""

import csv
import re
from dataclasses import dataclass

__all__ = ["COLUMN_TYPES", "InvalidColumns", "OutputColumn", "parse_input_columns", "parse_output_columns"]

COLUMN_TYPES = (
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float",
    "double",
    "string",
    "date",
    "timestamp",
)
"""Types that a column of an output may be given; each also as the element of a list, `list<double>`."""

_LIST = re.compile(r"list<(\w+)>")


class InvalidColumns(ValueError):
    """The text is no list of columns; the message is a rule, such as "must name at least one column"."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputColumn:
    """A column of the output; `type` is one of COLUMN_TYPES or a list of one, None to find it out."""

    name: str
    type: str | None = None


def parse_input_columns(text: str) -> tuple[str, ...]:
    """Return the names of a row of CSV, white space around them aside; raises InvalidColumns."""
    names = _names(text)
    _check_distinct(names)
    return tuple(names)


def parse_output_columns(text: str) -> tuple[OutputColumn, ...]:
    """Return the columns of a row of CSV whose fields are `name` or `name:type`; raises InvalidColumns.

    What follows the last colon is the type: a name with colons needs one.
    """
    columns = [_output_column(field) for field in _names(text)]
    _check_distinct([column.name for column in columns])
    return tuple(columns)


def _output_column(field: str) -> OutputColumn:
    name, colon, kind = (part.strip() for part in field.rpartition(":"))
    element = _LIST.fullmatch(kind)
    if not colon:
        return OutputColumn(name=field)
    if (element[1] if element else kind) not in COLUMN_TYPES:
        raise InvalidColumns(
            f"must give columns as name or name:type, with a type of [{', '.join(COLUMN_TYPES)}] or list<type> "
            f'(a name with a colon needs its type), but has "{field}"'
        )
    if not name:
        raise InvalidColumns(f'must name each column, but has "{field}"')
    return OutputColumn(name=name, type=kind)


def _names(text: str) -> list[str]:
    try:
        rows = list(csv.reader([text], skipinitialspace=True, strict=True))
    except csv.Error as exc:
        raise InvalidColumns(f"must be a row of CSV ({exc})") from exc
    names = [field.strip() for row in rows for field in row]
    if not names or not all(names):
        raise InvalidColumns("must name columns, with commas between them and none empty")
    return names


def _check_distinct(names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise InvalidColumns(f'must name each column once, but names "{name}" {names.count(name)} times')
