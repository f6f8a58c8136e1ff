"""Draw how a transform is going on a terminal: a bar in total, and one for each object in work."""

from collections.abc import Iterable
from types import TracebackType

from rich import box
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from millrace.commands.progress_view import ObjectView, ProgressView, duration, milliseconds, short_name

__all__ = ["ProgressTable", "object_rows"]

BAR_WIDTH = 20


class ProgressTable:
    """Shows a view in one place on the terminal until it is left."""

    def __init__(self) -> None:
        self._live = Live(console=Console(stderr=True), auto_refresh=False)

    def __enter__(self) -> "ProgressTable":
        self._live.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._live.__exit__(kind, error, at)

    def show(self, view: ProgressView) -> None:
        """Draw what there is now."""
        self._live.update(progress_table(view), refresh=True)


def progress_table(view: ProgressView) -> Table:
    """Return a table of a view: the total first."""
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("", "", "MB", "records", "records/s", "MB/s", "failed", "left"):
        table.add_column(title, justify="right" if title else "left", no_wrap=True)
    table.add_row(
        f"{view.objects_done}/{view.objects_total} objects" if view.objects_total else "starting",
        _bar(view.bytes_done, view.bytes_total),
        _megabytes(view.bytes_done, view.bytes_total),
        f"{view.records:,}",
        *_rates(view),
        f"{view.objects_failed}" + (f" + {view.records_failed} records" if view.records_failed else ""),
        "" if view.eta_seconds is None else duration(view.eta_seconds),
    )
    for row in object_rows(view.objects):
        table.add_row(*row, style="dim")
    p50, p99 = milliseconds(view.latency_p50_ms), milliseconds(view.latency_p99_ms)
    latency = f", p50 {p50} ms, p99 {p99} ms" if view.latency_p50_ms else ""
    retries = f", {view.retries} retries" if view.retries else ""
    table.caption = f"{view.in_flight} in flight{latency}{retries}"
    table.caption_justify = "left"
    return table


def object_rows(objects: Iterable[ObjectView]) -> Iterable[tuple[str | Text | ProgressBar, ...]]:
    """Yield the rows of objects in work."""
    for entry in objects:
        yield (
            Text(short_name(entry.key)),  # a key is no markup
            _bar(entry.bytes_done, entry.bytes_total),
            _megabytes(entry.bytes_done, entry.bytes_total),
            f"{entry.records:,}",
            *_rates(entry),
            f"{entry.records_failed} records" if entry.records_failed else "",
            "" if entry.eta_seconds is None else duration(entry.eta_seconds),
        )


def _bar(done: int, total: int) -> ProgressBar:
    return ProgressBar(total=total or None, completed=done, width=BAR_WIDTH)


def _megabytes(done: int, total: int) -> str:
    return f"{done / 1e6:,.1f}/{total / 1e6:,.1f}" if total else ""


def _rates(view: ObjectView | ProgressView) -> tuple[str, str]:
    records, received = view.records_per_second, view.bytes_per_second
    return (
        "" if records is None else f"{records:,.0f}",
        "" if received is None else f"{received / 1e6:,.2f}",
    )
