"""Select columns of rows of CSV in their text, where no field is in quotes: nothing is parsed. Pure.

A row that has no quotes and no carriage return is split at its commas, and comes out of a filter as it went in. Only as
many commas are looked for, from either end, as the filter needs: `$[1:]` makes two pieces of a row of any width.
"""

from collections.abc import Callable, Sequence

from millrace.dataplane.jsonpath import Filter
from millrace.dataplane.record_errors import RecordError

__all__ = ["Select", "columns_in_text", "select_all"]

Select = Callable[[bytes], bytes]
"""Returns the columns of a row; raises IndexError if the row has too few of them."""


def columns_in_text(chosen: Filter) -> Select | None:
    """Return what selects the columns of a filter; None if there is nothing for it."""
    pieces = [_piece(first, last) for first, last in chosen.column_ranges]
    takers = [piece for piece in pieces if piece is not None]
    if len(takers) < len(pieces) or not pieces:
        return None
    if len(takers) == 1:
        return takers[0]
    return lambda row: b",".join([take(row) for take in takers])


def select_all(
    select: Select, rows: Sequence[bytes], slowly: Callable[[int], bytes], *, are_plain: bool
) -> list[bytes] | None:
    """Return the columns of all rows; None if one can't be selected, and somebody must find out which, and why.

    Args:
        select: What selects them.
        rows: Rows without line ends.
        slowly: Does the same for the row of that position by parsing it; raises RecordError.
        are_plain: Whether none of them has quotes or a carriage return; else each is looked at.
    """
    try:
        if are_plain:
            return list(map(select, rows))
        return [slowly(i) if b'"' in row or b"\r" in row else select(row) for i, row in enumerate(rows)]
    except (IndexError, RecordError):
        return None


def _piece(first: int, last: int) -> Select | None:
    """Return what takes the columns from `first` to `last`, both included; those below 0 count from the end."""
    if first == 0 and last == -1:
        return _all
    if first >= 0 and last == -1:
        return lambda row: row.split(b",", first)[first]
    if first == last:
        return _one(first)
    if first >= 0 and last >= 0:
        return _from_left(first, last) if first < last else None
    if first < 0 and last < 0:
        return _from_right(-first, -last) if first < last else None
    return _inner(first, -last) if first >= 0 else None


def _all(row: bytes) -> bytes:
    return row


def _one(index: int) -> Select:
    if index >= 0:
        return lambda row: row.split(b",", index + 1)[index]
    return lambda row: row.rsplit(b",", -index)[index]


def _from_left(first: int, last: int) -> Select:
    def take(row: bytes) -> bytes:
        fields = row.split(b",", last + 1)
        if len(fields) <= last:
            raise IndexError(last)
        return b",".join(fields[first : last + 1])

    return take


def _from_right(first: int, last: int) -> Select:
    """Return what takes columns whose places are counted from the end, which is 1."""

    def take(row: bytes) -> bytes:
        fields = row.rsplit(b",", first)
        if len(fields) < first:
            raise IndexError(-first)
        return b",".join(fields[len(fields) - first : len(fields) - last + 1])

    return take


def _inner(first: int, last: int) -> Select:
    """Return what takes columns from `first` on up to the one that is number `last` from the end, which is 1."""

    def take(row: bytes) -> bytes:
        fields = row.split(b",", first)[first].rsplit(b",", last - 1)
        if len(fields) < last:
            raise IndexError(-last)
        return fields[0]

    return take
