"""Draw a transform that runs in the background, for notebooks. Pure."""

from collections.abc import Iterator
from html import escape

from millrace.commands.progress_view import ObjectView, ProgressView, duration, milliseconds
from millrace.commands.sizes import told_rate

__all__ = ["handle_html"]


def handle_html(status: str, view: ProgressView, output: str) -> str:
    """Return how it goes now, as a fragment of HTML in which every text is escaped."""
    facts = [
        f"{view.objects_done:,} of {view.objects_total:,}{'' if view.listed else '+'} objects",
        f"{view.records:,} records",
        *_rates(view.records_per_second, view.bytes_per_second),
        f"{view.in_flight} in flight",
    ]
    if view.latency_p50_ms:
        facts.append(f"p50 {milliseconds(view.latency_p50_ms)} ms, p99 {milliseconds(view.latency_p99_ms)} ms")
    if view.objects_failed or view.records_failed:
        facts.append(f"{view.objects_failed:,} objects and {view.records_failed:,} records failed")
    if view.eta_seconds is not None and status == "InProgress":
        facts.append(f"{duration(view.eta_seconds)} left")
    return (
        f"<div><b>millrace transform</b>: {escape(status)}, output in <code>{escape(output)}</code><br>"
        f"{_bar(view.bytes_done, view.bytes_total)} {', '.join(facts)}{''.join(_objects(view.objects))}</div>"
    )


def _bar(done: int, total: int) -> str:
    return f'<progress value="{done}" max="{max(total, 1)}"></progress>'


def _rates(records: float | None, received: float | None) -> Iterator[str]:
    if records is not None and received is not None:
        yield f"{records:,.0f} records/s"
        yield told_rate(received)


def _objects(objects: tuple[ObjectView, ...]) -> Iterator[str]:
    for entry in objects:
        rates = ", ".join([f"{entry.records:,} records", *_rates(entry.records_per_second, entry.bytes_per_second)])
        yield f"<br>{_bar(entry.bytes_done, entry.bytes_total)} <small>{escape(entry.key)}: {rates}</small>"
