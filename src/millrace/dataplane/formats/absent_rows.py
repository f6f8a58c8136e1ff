"""Keep the rows of a table whose records are left out of the output apart, until the answers join them. Pure.

Row i of the answers stands beside row i of the input, so a record without an answer must keep its place among the rows
that are kept: by a row that no answer has, which becomes one of nulls and goes out again with that of the input.
"""

from collections import deque

from millrace.dataplane.csv_records import PLACEHOLDER_ROW, nonblank_csv_records
from millrace.dataplane.jsonpath import Format
from millrace.dataplane.rows import nonblank_lines

__all__ = ["ABSENT_ROW", "AbsentRows"]

ABSENT_ROW = b"\0no answer\0"
"""The row that keeps the place of a record which is left out; it is no JSON, and no CSV that anybody writes."""


class AbsentRows:
    """Which rows of one output are absent; `fill` is told of them block by block, `present` asked in the same order."""

    def __init__(self, media_type: str) -> None:
        self._is_csv = media_type == Format.CSV
        self._places: deque[int] = deque()

    def fill(self, block: bytes, first_row: int) -> bytes:
        """Return a block of rows, the first of which has that number, with rows of nulls for those that are absent."""
        if ABSENT_ROW not in block:
            return block
        rows = nonblank_csv_records(block) if self._is_csv else nonblank_lines(block)
        nothing = PLACEHOLDER_ROW if self._is_csv else b"null"
        for at, row in enumerate(rows):
            if row == ABSENT_ROW:
                rows[at] = nothing
                self._places.append(first_row + at)
        return b"\n".join([*rows, b""])

    def present(self, first_row: int, count: int) -> list[bool] | None:
        """Return which of the next rows are not absent, None if all of them are there."""
        end = first_row + count
        if not self._places or self._places[0] >= end:
            return None
        present = [True] * count
        while self._places and self._places[0] < end:
            present[self._places.popleft() - first_row] = False
        return present
