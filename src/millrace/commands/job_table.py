"""The live table of `millrace jobs watch` on a terminal."""

from collections.abc import Sequence
from types import TracebackType

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from millrace.commands.job_view import InstanceView, JobView

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
            _time(view.elapsed_seconds),
            "" if view.eta_seconds is None else _time(view.eta_seconds),
        )
        if len(view.instances) > 1:
            for instance in view.instances:
                table.add_row(*_instance_row(instance), style="dim")
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
        "",
        "",
    )


def _share(done: int, total: int) -> str:
    return f"{done}/{total}" if total else ""


def _count(number: int, total: int) -> str:
    return f"{number:,}" if total else ""


def _rate(rate: float | None, unit: float, digits: int) -> str:
    return "" if rate is None else f"{rate / unit:,.{digits}f}"


def _time(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
