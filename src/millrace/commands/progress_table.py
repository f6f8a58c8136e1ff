"""Draw progress on a terminal: rows with bars, as many columns as it has room for, in one place until the end."""

from collections.abc import Sequence
from types import TracebackType

from rich import box
from rich.console import Console, ConsoleOptions, ConsoleRenderable, Group, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from millrace.commands.progress_cells import USUAL, Column, ProgressRow, fitting, object_row, total_row
from millrace.commands.progress_view import ProgressView, activity, short_name

__all__ = ["TRANSFORM_COLUMNS", "LiveDisplay", "ProgressTable", "transform_progress"]

TRANSFORM_COLUMNS = (
    Column.NAME,
    Column.BAR,
    Column.SHARE,
    Column.SIZE,
    Column.RECORDS,
    Column.RECORD_RATE,
    Column.BYTE_RATE,
    Column.FAILED,
    Column.LEFT,
)

_LEFT = {Column.NAME, Column.STATUS, Column.BAR}
"""Columns whose texts begin at the left; numbers end at the right."""

_STYLES = {Column.FAILED: "red"}

_STATUS_STYLES = {
    "Completed": "green",
    "InService": "green",
    "Failed": "red",
    "Stopped": "yellow",
    "Stopping": "yellow",
}


class LiveDisplay:
    """Shows one thing after another in the same place of a terminal until it is left; what was last there stays."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False)
        self.moves = console.is_terminal and not console.is_dumb_terminal
        """Whether the terminal can show things in one place at all."""

    def __enter__(self) -> "LiveDisplay":
        self._live.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._live.__exit__(kind, error, at)

    def show(self, what: ConsoleRenderable) -> None:
        """Draw what there is now."""
        self._live.update(what, refresh=True)


class ProgressTable:
    """Rows of progress with bars; how many columns it has follows from the width it is given."""

    def __init__(self, rows: Sequence[ProgressRow], columns: Sequence[Column]) -> None:
        self._rows = rows
        self._columns = columns

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        layout = fitting(self._rows, self._columns, options.max_width)
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
        for column in layout.columns:
            justify = "left" if column in _LEFT else "right"
            table.add_column(
                column.value.strip(),
                justify=justify,  # type: ignore[arg-type]  # rich names a Literal that it does not export
                no_wrap=True,
                min_width=USUAL.get(column),
                style=_STYLES.get(column),
            )
        for row in self._rows:
            cells: list[Text | ProgressBar] = []
            for column in layout.columns:
                if column is Column.BAR:
                    cells.append(ProgressBar(total=row.total or 1, completed=row.done, width=layout.bar_width))
                elif column is Column.NAME:
                    cells.append(Text(short_name(row.name, layout.name_width)))  # a key is no markup
                else:
                    cells.append(Text(row.cells.get(column, ""), style=_status_style(row, column)))
            table.add_row(*cells, style="dim" if row.is_part else None)
        yield table


def transform_progress(view: ProgressView) -> ConsoleRenderable:
    """Return what a transform without a server shows of itself."""
    rows = [total_row(view), *map(object_row, view.objects)]
    return Group(ProgressTable(rows, TRANSFORM_COLUMNS), Text(f"  {activity(view)}", style="dim"))


_STATUS_STYLES = {
    "Completed": "green",
    "InService": "green",
    "Failed": "red",
    "Stopped": "yellow",
    "Stopping": "yellow",
}


def _status_style(row: ProgressRow, column: Column) -> str:
    return _STATUS_STYLES.get(row.cells.get(column, ""), "cyan") if column is Column.STATUS else ""
