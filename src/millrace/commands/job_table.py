"""Draw jobs for `millrace jobs watch` on a terminal: one with all that is in work, several as a row each."""

from collections.abc import Iterator, Sequence

from rich.console import ConsoleRenderable, Group
from rich.text import Text

from millrace.commands.job_view import InstanceView, JobView
from millrace.commands.progress_cells import Column, ProgressRow, object_row, total_row
from millrace.commands.progress_table import TRANSFORM_COLUMNS, ProgressTable
from millrace.commands.progress_view import activity, duration, latencies

__all__ = ["jobs_progress"]

JOB_COLUMNS = (
    Column.NAME,
    Column.STATUS,
    Column.BAR,
    Column.OBJECTS,
    Column.RECORDS,
    Column.RECORD_RATE,
    Column.BYTE_RATE,
    Column.FAILED,
    Column.IN_FLIGHT,
    Column.LATENCY,
    Column.TIME,
    Column.LEFT,
)

SHOWN_OBJECTS = 8
"""Rows of objects in work, over all instances."""


def jobs_progress(views: Sequence[JobView]) -> ConsoleRenderable:
    """Return what there is to see of some jobs."""
    if len(views) == 1 and views[0].sums.objects_total:
        return Group(*_one_job(views[0]))
    alike = len({view.kind for view in views}) == 1
    rows = [row for view in views for row in _rows(view, view.name if alike else _name(view))]
    parts: list[ConsoleRenderable] = [ProgressTable(rows, JOB_COLUMNS)]
    return Group(*parts, *(_reason(view) for view in views if view.failure_reason))


def _one_job(view: JobView) -> Iterator[ConsoleRenderable]:
    """Yield the parts of one transform: its instances where there are several, and its objects in work."""
    rows = [total_row(view.sums)]
    room = SHOWN_OBJECTS
    for instance in view.instances:
        if len(view.instances) > 1:
            rows.append(_instance_row(instance))
        rows += map(object_row, instance.going.objects[:room])
        room = max(0, room - len(instance.going.objects))
    facts = f"{_name(view)}  {view.status.value}  {duration(view.elapsed_seconds)}"
    yield Text(f"  {facts}", style="bold")
    yield ProgressTable(rows, TRANSFORM_COLUMNS)
    if view.sums.latency_p50_ms:
        yield Text(f"  {activity(view.sums)}", style="dim")
    if view.failure_reason:
        yield _reason(view)


def _rows(view: JobView, name: str) -> Iterator[ProgressRow]:
    """Yield the row of a job among others, and those of its instances where there are several."""
    row = total_row(view.sums, name=name)
    cells = {
        **row.cells,
        Column.STATUS: view.status.value,
        Column.IN_FLIGHT: f"{view.sums.in_flight}" if view.sums.latency_p50_ms else "",
        Column.LATENCY: latencies(view.sums),
        Column.TIME: duration(view.elapsed_seconds),
    }
    yield ProgressRow(name=row.name, done=row.done, total=row.total, cells=cells)
    if len(view.instances) > 1:
        yield from map(_instance_row, view.instances)


def _instance_row(instance: InstanceView) -> ProgressRow:
    attempt = f", attempt {instance.attempt}" if instance.attempt > 1 else ""
    row = total_row(instance.going, name=f"instance {instance.index}{attempt}")
    cells = {**row.cells, Column.STATUS: instance.state}
    return ProgressRow(name=row.name, done=row.done, total=row.total, cells=cells, is_part=True)


def _name(view: JobView) -> str:
    return f"{view.kind.value}/{view.name}"


def _reason(view: JobView) -> Text:
    return Text(f"  {view.failure_reason}", style="red")
