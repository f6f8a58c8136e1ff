"""Say how a transform is going: sums, rates over the last seconds and the time left, also of objects in work. Pure.

The command without a server and `jobs watch` show the same, from the same counters.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = [
    "COUNTS",
    "ObjectView",
    "ProgressMeter",
    "ProgressView",
    "RateWindow",
    "duration",
    "milliseconds",
    "progress_line",
    "short_name",
]

COUNTS = (
    "objects_done",
    "objects_total",
    "objects_failed",
    "records",
    "records_failed",
    "bytes_in",
    "bytes_done",
    "bytes_total",
    "in_flight",
    "retries",
)
"""Counters of an instance that views show as they are."""

WINDOW_SECONDS = 10.0
"""Rates are means over this long: short enough to show a change, long enough to be read."""

NAME_WIDTH = 32
"""Characters of a key that a row of a table has room for."""


class RateWindow:
    """The counters of the last seconds of one thing."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int, int]] = deque()

    def add(self, at: float, records: int, received: int) -> None:
        """Take a sample; one that is not later than the last one is left out."""
        samples = self._samples
        if not samples or samples[-1][0] < at:
            samples.append((at, records, received))
        while len(samples) > 2 and at - samples[1][0] >= WINDOW_SECONDS:
            samples.popleft()

    def rates(self) -> tuple[float, float] | None:
        """Return records and bytes a second; None as long as there is one sample."""
        if not self._samples:
            return None
        (since, records_then, bytes_then), (until, records, received) = self._samples[0], self._samples[-1]
        seconds = until - since
        if seconds <= 0:
            return None
        return (records - records_then) / seconds, (received - bytes_then) / seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectView:
    """One object in work."""

    key: str
    bytes_in: int
    bytes_done: int
    bytes_total: int
    records: int
    records_failed: int
    records_per_second: float | None
    bytes_per_second: float | None

    @property
    def eta_seconds(self) -> float | None:
        return _eta(self.bytes_done, self.bytes_total, self.bytes_per_second)


@dataclass(frozen=True, kw_only=True, slots=True)
class ProgressView:
    """All of one instance."""

    objects_done: int
    objects_total: int
    objects_failed: int
    records: int
    records_failed: int
    bytes_in: int
    bytes_done: int
    bytes_total: int
    in_flight: int
    retries: int
    latency_p50_ms: float
    latency_p99_ms: float
    records_per_second: float | None
    bytes_per_second: float | None
    objects: tuple[ObjectView, ...]

    @property
    def eta_seconds(self) -> float | None:
        return _eta(self.bytes_done, self.bytes_total, self.bytes_per_second)


def _eta(done: int, total: int, rate: float | None) -> float | None:
    return (total - done) / rate if rate and done < total else None


class ProgressMeter:
    """Remembers samples of one instance, in total and by object in work."""

    def __init__(self) -> None:
        self._total = RateWindow()
        self._objects: dict[str, RateWindow] = {}

    def view(self, at: float, counters: Mapping[str, Any]) -> ProgressView:
        """Return what there is to see of counters as an instance tells them.

        Args:
            at: When it told them, in seconds.
            counters: The members of Progress; those that an older release does not tell count as 0.
        """
        counts = _counts(counters)
        self._total.add(at, counts["records"], counts["bytes_done"])
        rates = self._total.rates() or (None, None)
        told = counters.get("open_objects") or ()
        self._objects = {str(entry["key"]): self._objects.get(str(entry["key"])) or RateWindow() for entry in told}
        return ProgressView(
            **{name: counts[name] for name in COUNTS},
            latency_p50_ms=float(counters.get("latency_p50_ms", 0.0)),
            latency_p99_ms=float(counters.get("latency_p99_ms", 0.0)),
            records_per_second=rates[0],
            bytes_per_second=rates[1],
            objects=tuple(self._object(at, entry) for entry in told),
        )

    def _object(self, at: float, entry: Mapping[str, Any]) -> ObjectView:
        window = self._objects[str(entry["key"])]
        counts = _counts(entry)
        window.add(at, counts["records"], counts["bytes_done"])
        rates = window.rates() or (None, None)
        return ObjectView(
            key=str(entry["key"]),
            **{name: counts[name] for name in ("bytes_in", "bytes_done", "bytes_total", "records", "records_failed")},
            records_per_second=rates[0],
            bytes_per_second=rates[1],
        )


def _counts(counters: Mapping[str, Any]) -> dict[str, int]:
    """Return the counts that were told; an older release tells what was read, not of how much there are results."""
    counts = {name: int(counters.get(name, 0)) for name in COUNTS}
    if "bytes_done" not in counters:
        counts["bytes_done"] = counts["bytes_in"]
    return counts


def progress_line(view: ProgressView) -> str:
    """Return a view as one line of text."""
    share = f"{100 * view.bytes_done / view.bytes_total:.0f} %" if view.bytes_total else "-"
    words = [
        f"{share} of {view.bytes_total / 1e6:.1f} MB",
        f"{view.objects_done}/{view.objects_total} objects",
        f"{view.records} records",
        f"{view.objects_failed} failed",
    ]
    if view.records_failed:
        words.append(f"{view.records_failed} bad records")
    if view.records_per_second is not None and view.bytes_per_second is not None:
        words.append(f"{view.records_per_second:.0f} records/s")
        words.append(f"{view.bytes_per_second / 1e6:.2f} MB/s")
    words.append(f"{view.in_flight} in flight")
    if view.latency_p50_ms:
        words.append(f"p50 {milliseconds(view.latency_p50_ms)} ms, p99 {milliseconds(view.latency_p99_ms)} ms")
    if view.retries:
        words.append(f"{view.retries} retries")
    if view.eta_seconds is not None:
        words.append(f"{duration(view.eta_seconds)} left")
    return ", ".join(words)


def duration(seconds: float) -> str:
    """Return a time as people read it: `1:05`, `2:03:04`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def short_name(key: str) -> str:
    """Return a key as a row of a table has room for it: of a long one both ends, where names of parts differ."""
    if len(key) <= NAME_WIDTH:
        return key
    name = key.rpartition("/")[2] or key  # folders are the first to go
    if len(name) < NAME_WIDTH:
        return f"…{key[1 - NAME_WIDTH :]}"
    head = NAME_WIDTH // 2
    return f"{name[:head]}…{name[head + 1 - NAME_WIDTH :]}"


def milliseconds(latency: float) -> str:
    """Return a latency with three digits, or with all those before the point."""
    return f"{latency:,.0f}" if latency >= 100 else f"{latency:.3g}"
