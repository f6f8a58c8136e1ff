"""The live table of `millrace jobs watch` on a terminal."""

from collections.abc import Sequence
from types import TracebackType

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from millrace.commands.job_view import InstanceView, JobView
from millrace.commands.progress_view import ObjectView, duration, milliseconds, short_name

__all__ = ["JobTable"]

_STYLES = {"Completed": "green", "InService": "green", "Failed": "red", "Stopped": "yellow", "Stopping": "yellow"}


class JobTable:
    """Shows views in one place on the terminal until it is left."""

    def __init__(self) -> None:
        self._live = Live(console=Console(), auto_refresh=False)

    def __enter__(self) -> "JobTable":
        self._live.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._live.__exit__(kind, error, at)

    def show(self, views: Sequence[JobView]) -> None:
        """Draw what there is now."""
        self._live.update(_table(views), refresh=True)


def _table(views: Sequence[JobView]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for title, right in (
        ("job", False),
        ("status", False),
        ("objects", True),
        ("failed", True),
        ("records", True),
        ("records/s", True),
        ("MB/s", True),
        ("in flight", True),
        ("p50/p99 ms", True),
        ("time", True),
        ("left", True),
    ):
        table.add_column(title, justify="right" if right else "left", no_wrap=not right)
    for view in views:
        status = view.status.value
        table.add_row(
            f"{view.kind.value}/{view.name}",
            f"[{_STYLES.get(status, 'cyan')}]{status}[/]",
            _share(view.total("objects_done"), view.total("objects_total")),
            _count(view.total("objects_failed"), view.total("objects_total")),
            _count(view.total("records"), view.total("objects_total")),
            _rate(view.rate("records_per_second"), 1.0, 0),
            _rate(view.rate("bytes_per_second"), 1e6, 2),
            f"{view.total('in_flight')}" if view.most("latency_p50_ms") else "",
            _latency(view.most("latency_p50_ms"), view.most("latency_p99_ms")),
            duration(view.elapsed_seconds),
            "" if view.eta_seconds is None else duration(view.eta_seconds),
        )
        for instance in view.instances:
            if len(view.instances) > 1:
                table.add_row(*_instance_row(instance), style="dim")
            for entry in instance.objects:
                table.add_row(*_object_row(entry), style="dim")
        if view.failure_reason:
            table.add_row(Text(f"  {view.failure_reason[:100]}"), style="red")
    return table


def _instance_row(instance: InstanceView) -> Sequence[str]:
    attempt = f", attempt {instance.attempt}" if instance.attempt > 1 else ""
    return (
        f"  instance {instance.index}{attempt}",
        instance.state,
        _share(instance.objects_done, instance.objects_total),
        _count(instance.objects_failed, instance.objects_total),
        _count(instance.records, instance.objects_total),
        _rate(instance.records_per_second, 1.0, 0),
        _rate(instance.bytes_per_second, 1e6, 2),
        f"{instance.in_flight}" if instance.latency_p50_ms else "",
        _latency(instance.latency_p50_ms, instance.latency_p99_ms),
        "",
        "",
    )


def _object_row(entry: ObjectView) -> Sequence[str | Text]:
    share = f"{100 * entry.bytes_done / entry.bytes_total:.0f} %" if entry.bytes_total else ""
    return (
        Text(f"    {short_name(entry.key)}"),  # a key is no markup
        share,
        "",
        f"{entry.records_failed:,}" if entry.records_failed else "",
        f"{entry.records:,}",
        _rate(entry.records_per_second, 1.0, 0),
        _rate(entry.bytes_per_second, 1e6, 2),
        "",
        "",
        "",
        "" if entry.eta_seconds is None else duration(entry.eta_seconds),
    )


def _latency(p50: float, p99: float) -> str:
    return f"{milliseconds(p50)}/{milliseconds(p99)}" if p50 else ""


def _share(done: int, total: int) -> str:
    return f"{done}/{total}" if total else ""


def _count(number: int, total: int) -> str:
    return f"{number:,}" if total else ""


def _rate(rate: float | None, unit: float, digits: int) -> str:
    return "" if rate is None else f"{rate / unit:,.{digits}f}"
