"""Fit the rows of a progress table to the width of a terminal: what matters least goes first. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from rich.cells import cell_len

from millrace.commands.progress_view import ObjectView, ProgressView, duration, short_name
from millrace.commands.sizes import told_part, told_rate

__all__ = ["USUAL", "Column", "Layout", "ProgressRow", "fitting", "object_row", "total_row"]


class Column(Enum):
    """What a column of a progress table is about; its title."""

    NAME = ""
    STATUS = "status"
    BAR = " "
    SHARE = "%"
    OBJECTS = "objects"
    SIZE = "size"
    RECORDS = "records"
    RECORD_RATE = "records/s"
    BYTE_RATE = "bytes/s"
    FAILED = "failed"
    IN_FLIGHT = "in flight"
    LATENCY = "p50/p99 ms"
    TIME = "time"
    LEFT = "left"


LEAST_FIRST = (
    Column.BYTE_RATE,
    Column.SIZE,
    Column.IN_FLIGHT,
    Column.LATENCY,
    Column.RECORDS,
    Column.OBJECTS,
    Column.TIME,
    Column.RECORD_RATE,
    Column.BAR,
    Column.FAILED,
)
"""What is left out where there is no room for all, in this order."""

WIDTHS = ((40, 20), (32, 20), (24, 16), (24, 10))
"""Characters of a name, and of a bar, that are tried first."""

NARROW = (16, 8)

USUAL = {
    Column.SIZE: 13,
    Column.RECORDS: 7,
    Column.BYTE_RATE: 10,
    Column.FAILED: 9,
    Column.LATENCY: 10,
    Column.LEFT: 5,
}
"""Characters that columns have at least: else they would come and go, and move others, with each digit."""

BESIDE = 3
"""Spaces beside and between columns, for each of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProgressRow:
    """One row: how far something is, and the texts of its other cells."""

    name: str
    done: int
    total: int
    cells: Mapping[Column, str] = field(default_factory=dict)
    is_part: bool = False
    """Whether it is a part of what a row above it shows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """What a table has room for."""

    columns: tuple[Column, ...]
    name_width: int
    bar_width: int


def total_row(view: ProgressView, *, name: str | None = None) -> ProgressRow:
    """Return the row of an instance, or of all of them."""
    objects = view.told_objects
    failed = [f"{view.objects_failed:,} {_objects(view.objects_failed)}"] if view.objects_failed else []
    failed += [f"{view.records_failed:,} {_records(view.records_failed)}"] if view.records_failed else []
    return ProgressRow(
        name=name or (f"{objects} objects" if view.objects_total else "starting"),
        done=view.bytes_done,
        total=view.bytes_total,
        cells={
            Column.SHARE: "" if view.percent is None else str(view.percent),
            Column.OBJECTS: objects if view.objects_total else "",
            Column.SIZE: told_part(view.bytes_done, view.bytes_total),
            Column.RECORDS: f"{view.records:,}" if view.objects_total else "",
            Column.RECORD_RATE: _rate(view.records_per_second),
            Column.BYTE_RATE: told_rate(view.bytes_per_second),
            Column.FAILED: ", ".join(failed),
            Column.LEFT: "" if view.eta_seconds is None else duration(view.eta_seconds),
        },
    )


def object_row(entry: ObjectView) -> ProgressRow:
    """Return the row of an object in work."""
    return ProgressRow(
        name=entry.key,
        done=entry.bytes_done,
        total=entry.bytes_total,
        cells={
            Column.SHARE: _share(entry.bytes_done, entry.bytes_total),
            Column.SIZE: told_part(entry.bytes_done, entry.bytes_total),
            Column.RECORDS: f"{entry.records:,}",
            Column.RECORD_RATE: _rate(entry.records_per_second),
            Column.BYTE_RATE: told_rate(entry.bytes_per_second),
            Column.FAILED: f"{entry.records_failed:,} {_records(entry.records_failed)}" if entry.records_failed else "",
            Column.LEFT: "" if entry.eta_seconds is None else duration(entry.eta_seconds),
        },
        is_part=True,
    )


def fitting(rows: Sequence[ProgressRow], columns: Sequence[Column], width: int) -> Layout:
    """Return the widest layout that a terminal has room for; the last one if it has room for none."""
    layout = None
    for layout in _layouts(tuple(columns)):
        if _width(rows, layout) <= width:
            return layout
    assert layout is not None, "there is always a last one"
    return layout


def _layouts(columns: tuple[Column, ...]) -> Iterator[Layout]:
    for name_width, bar_width in WIDTHS:
        yield Layout(columns=columns, name_width=name_width, bar_width=bar_width)
    for dropped in LEAST_FIRST:
        if dropped not in columns:
            continue
        columns = tuple(column for column in columns if column is not dropped)
        for name_width, bar_width in (WIDTHS[-1], NARROW):
            yield Layout(columns=columns, name_width=name_width, bar_width=bar_width)


def _width(rows: Sequence[ProgressRow], layout: Layout) -> int:
    total = 1  # the last edge
    for column in layout.columns:
        if column is Column.BAR:
            total += layout.bar_width + BESIDE
            continue
        cells = (_text(row, column, layout) for row in rows)
        total += max(USUAL.get(column, 0), *map(cell_len, (column.value, *cells))) + BESIDE
    return total


def _text(row: ProgressRow, column: Column, layout: Layout) -> str:
    return short_name(row.name, layout.name_width) if column is Column.NAME else row.cells.get(column, "")


def _share(done: int, total: int) -> str:
    return f"{100 * done // total}" if total else ""


def _rate(records: float | None) -> str:
    return "" if records is None else f"{records:,.0f}"


def _objects(count: int) -> str:
    return "object" if count == 1 else "objects"


def _records(count: int) -> str:
    return "record" if count == 1 else "records"
