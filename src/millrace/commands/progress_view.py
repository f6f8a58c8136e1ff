"""Say how a transform is going: sums, rates over the last seconds and the time left, also of objects in work. Pure.

The command without a server and `jobs watch` show the same, from the same counters.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from millrace.commands.sizes import counted, told_rate, told_size

__all__ = [
    "COUNTS",
    "ObjectView",
    "ProgressMeter",
    "ProgressView",
    "RateWindow",
    "activity",
    "duration",
    "latencies",
    "milliseconds",
    "progress_line",
    "short_name",
    "sum_views",
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
    """All of one instance, or of several."""

    objects_done: int = 0
    objects_total: int = 0
    listed: bool = True
    """Whether the totals are of all objects; else there are more."""
    objects_failed: int = 0
    records: int = 0
    records_failed: int = 0
    bytes_in: int = 0
    bytes_done: int = 0
    bytes_total: int = 0
    in_flight: int = 0
    retries: int = 0
    latency_p50_ms: float = 0.0
    latency_p99_ms: float = 0.0
    records_per_second: float | None = None
    bytes_per_second: float | None = None
    eta_seconds: float | None = None
    objects: tuple[ObjectView, ...] = ()
    """Those in work, the first ones."""

    @property
    def told_objects(self) -> str:
        """How many objects are done, and of how many."""
        return f"{self.objects_done:,}/{self.objects_total:,}{'' if self.listed else '+'}"

    @property
    def percent(self) -> int | None:
        """How much of the bytes is done; None while nobody knows."""
        return 100 * self.bytes_done // self.bytes_total if self.bytes_total and self.listed else None

    def at_rest(self) -> "ProgressView":
        """Return the counts of something that has ended."""
        return replace(self, records_per_second=None, bytes_per_second=None, eta_seconds=None, objects=())


def sum_views(views: Sequence[ProgressView]) -> ProgressView:
    """Return what several instances do together: as slow as the slowest, and ready when the last one is."""
    left = [view.eta_seconds for view in views if view.bytes_done < view.bytes_total or not view.listed]
    known = [seconds for seconds in left if seconds is not None]
    return ProgressView(
        **{name: sum(getattr(view, name) for view in views) for name in COUNTS},
        listed=all(view.listed for view in views),
        latency_p50_ms=max((view.latency_p50_ms for view in views), default=0.0),
        latency_p99_ms=max((view.latency_p99_ms for view in views), default=0.0),
        records_per_second=_sum_known([view.records_per_second for view in views]),
        bytes_per_second=_sum_known([view.bytes_per_second for view in views]),
        eta_seconds=max(known) if known and len(known) == len(left) else None,
        objects=tuple(entry for view in views for entry in view.objects),
    )


def _sum_known(rates: Sequence[float | None]) -> float | None:
    known = [rate for rate in rates if rate is not None]
    return sum(known) if known else None


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
        listed = bool(counters.get("listed", True))
        self._objects = {str(entry["key"]): self._objects.get(str(entry["key"])) or RateWindow() for entry in told}
        return ProgressView(
            **{name: counts[name] for name in COUNTS},
            listed=listed,
            latency_p50_ms=float(counters.get("latency_p50_ms", 0.0)),
            latency_p99_ms=float(counters.get("latency_p99_ms", 0.0)),
            records_per_second=rates[0],
            bytes_per_second=rates[1],
            eta_seconds=_eta(counts["bytes_done"], counts["bytes_total"], rates[1]) if listed else None,
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
    share = "-" if view.percent is None else f"{view.percent} %"
    words = [
        f"{share} of {told_size(view.bytes_total)}{'' if view.listed else '+'}",
        f"{view.told_objects} objects",
        counted(view.records, "record"),
        f"{view.objects_failed:,} failed",
    ]
    if view.records_failed:
        words.append(counted(view.records_failed, "bad record"))
    if view.records_per_second is not None and view.bytes_per_second is not None:
        words += [f"{view.records_per_second:,.0f} records/s", told_rate(view.bytes_per_second)]
    words.append(activity(view))
    if view.eta_seconds is not None:
        words.append(f"{duration(view.eta_seconds)} left")
    return ", ".join(words)


def activity(view: ProgressView) -> str:
    """Return what goes on with the container now."""
    words = [f"{view.in_flight:,} in flight"]
    if view.latency_p50_ms:
        words.append(f"p50 {milliseconds(view.latency_p50_ms)} ms, p99 {milliseconds(view.latency_p99_ms)} ms")
    if view.retries:
        words.append(f"{view.retries:,} retries")
    return ", ".join(words)


def latencies(view: ProgressView) -> str:
    """Return p50 and p99 as a cell has room for them."""
    p50, p99 = milliseconds(view.latency_p50_ms), milliseconds(view.latency_p99_ms)
    return f"{p50}/{p99}" if view.latency_p50_ms else ""


def duration(seconds: float) -> str:
    """Return a time as people read it: `1:05`, `2:03:04`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def short_name(key: str, width: int) -> str:
    """Return a key in so many characters: of a long one both ends, where names of parts differ."""
    if len(key) <= width:
        return key
    name = key.rpartition("/")[2] or key  # folders are the first to go
    if len(name) < width:
        return f"…{key[1 - width :]}"
    head = width // 2
    return f"{name[:head]}…{name[head + 1 - width :]}"


def milliseconds(latency: float) -> str:
    """Return a latency with three digits, or with all those before the point."""
    return f"{latency:,.0f}" if latency >= 100 else f"{latency:.3g}"
