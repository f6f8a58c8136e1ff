"""Keep the curve that a search saw, in bounded memory, and tell what it chose."""

from millrace.dataplane.autotune_base import Base
from millrace.dataplane.autotune_measure import CurvePoint, Slice, Verdict
from millrace.dataplane.autotune_settings import AutotuneSettings, Setting
from millrace.jobs.transform import MIB

__all__ = ["Curve", "told_choice"]

KEPT_SECONDS = 1.0
"""A setting that is kept shows at most one point in so long."""


class Curve:
    """Points in the order of their times; when there are too many, every second one goes, of settings kept first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept_at = 0.0
        self._started_at: float | None = None
        self.points: list[CurvePoint] = []

    def start(self, now: float) -> None:
        """Count times from now on."""
        self._started_at = now

    def note(self, now: float, setting: Setting, verdict: Verdict, measured: Slice | None = None) -> None:
        """Add what became of a setting, and what was measured of it."""
        at = now - self._started_at if self._started_at is not None else 0.0
        if verdict is Verdict.KEPT:
            if self.points and at < self._kept_at:
                return
            self._kept_at = at + KEPT_SECONDS
        self.points.append(
            CurvePoint(
                at_seconds=at,
                concurrency=setting.concurrency,
                payload_bytes=setting.payload_bytes,
                verdict=verdict,
                records_per_second=measured.record_rate if measured else 0.0,
                megabytes_per_second=measured.byte_rate / 1e6 if measured else 0.0,
                mean_latency_seconds=measured.latency_seconds if measured else 0.0,
            )
        )
        if len(self.points) > self._most:
            self.points = _thinned(self.points, self._most)


def _thinned(points: list[CurvePoint], most: int) -> list[CurvePoint]:
    """Return fewer points: the last one stays, as do all tries if the rest is enough to drop."""
    thin = [
        point
        for index, point in enumerate(points)
        if point.verdict is not Verdict.KEPT or index % 2 or index == len(points) - 1
    ]
    return thin if len(thin) <= most * 3 // 4 else [*points[:-1:2], points[-1]]


def told_choice(base: Base, tries: int, settings: AutotuneSettings) -> str:
    """Return what the search has found so far, after so many other settings, as the data log tells it."""
    chosen = base.setting
    payloads = f", payloads of {chosen.payload_bytes / MIB:.3g} MB" if settings.tunes_payload else ""
    found = f"Autotuning: {chosen.concurrency} requests at a time{payloads}"
    if not len(base):
        return found
    best = base.slice
    return (
        f"{found}, after {tries} other{'s were' if tries != 1 else ' was'} tried: {best.record_rate:.4g} records/s, "
        f"{best.byte_rate / 1e6:.4g} MB/s, {best.latency_seconds * 1e3:.3g} ms a request"
    )
