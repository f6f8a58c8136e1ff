"""Parse rows of an output as columns, whatever their media type."""

from collections.abc import Sequence
from typing import Any, Protocol

from millrace.dataplane.formats.columns import OutputColumn
from millrace.dataplane.formats.csv_columns import CsvColumns
from millrace.dataplane.formats.json_columns import JsonColumns
from millrace.dataplane.jsonpath import Format

__all__ = ["AnswerColumns", "answer_columns"]


class AnswerColumns(Protocol):
    """Parses blocks of rows of one output. Without a schema, all of them are looked at first, then it is settled."""

    schema: Any
    """The columns of the output, None as long as they are not known."""

    def look(self, block: bytes, first_row: int) -> int:
        """Learn from a block; return the number of its rows. `first_row` counts from 1, for messages."""
        ...

    def settle(self) -> None:
        """Decide on the schema: all blocks were looked at."""
        ...

    def parse(self, block: bytes, first_row: int) -> Any:
        """Return a block as a table of the schema; raises UnfitFormat."""
        ...


def answer_columns(media_type: str, columns: Sequence[OutputColumn], *, more: bool) -> AnswerColumns:
    """Return what parses the rows of a media type; `more` tells that CSV may have columns behind those named."""
    return CsvColumns(columns, more=more) if media_type == Format.CSV else JsonColumns(columns)
