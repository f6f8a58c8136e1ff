"""Count what an instance has done, cheaply enough to do it for every request."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

from millrace.dataplane.counts import Counts
from millrace.jobs.transform import LATENCY_BOUNDS, OpenObject, Progress

__all__ = ["Counters", "LatencyHistogram"]

_STEPS = 8
"""Buckets per power of two: a percentile is right within about 9 %."""

_BUCKETS = _STEPS * 42
"""They reach beyond a year."""


class LatencyHistogram:
    """Latencies in buckets whose width grows with the value; memory does not depend on how many there are."""

    __slots__ = ("_buckets", "_count", "_total_seconds", "recent")

    def __init__(self) -> None:
        self._buckets = [0] * _BUCKETS
        self._count = 0
        self._total_seconds = 0.0
        self.recent: list[float] = []
        """Latencies that are not in buckets yet; the inner loop appends them itself."""

    def add(self, seconds: float) -> None:
        """Count one latency."""
        self.recent.append(seconds)

    @property
    def count(self) -> int:
        """How many there were."""
        return self._count + len(self.recent)

    @property
    def total_seconds(self) -> float:
        """The sum of all latencies."""
        self.fold()
        return self._total_seconds

    def fold(self) -> None:
        """Put what was appended into buckets, which is much cheaper for many at once than for each."""
        recent = self.recent
        if not recent:
            return
        recent.sort()
        self._count += len(recent)
        self._total_seconds += sum(recent)
        done, index = 0, bisect_right(_UPPER_SECONDS, recent[0])
        while done < len(recent):
            end = bisect_left(recent, _UPPER_SECONDS[index], done)
            self._buckets[index] += end - done
            done = end
            index += 1
        recent.clear()

    def percentile_ms(self, share: float) -> float:
        """Return the latency in milliseconds that this share of all (0 to 1) does not exceed; 0 if there is none."""
        self.fold()
        wanted = share * self._count
        seen = 0
        for index, count in enumerate(self._buckets):
            seen += count
            if count and seen >= wanted:
                return _upper_microseconds(index) / 1000.0
        return 0.0

    def coarse(self) -> tuple[int, ...]:
        """Return the counts between LATENCY_BOUNDS; a latency within 9 % of a bound may be counted on either side."""
        self.fold()
        counts = [0] * (len(LATENCY_BOUNDS) + 1)
        for index, count in enumerate(self._buckets):
            if count:
                counts[bisect_left(LATENCY_BOUNDS, (_upper_microseconds(index) - 1) / 1e6)] += count
        return tuple(counts)


def _upper_microseconds(index: int) -> int:
    """Return what the latencies of a bucket are below."""
    power, step = divmod(index, _STEPS)
    return (step + _STEPS + 1 << power) - _STEPS


_UPPER_SECONDS = [_upper_microseconds(index) / 1e6 for index in range(_BUCKETS)]
"""What the latencies of each bucket are below."""


class Counters:
    """The live counters of one instance."""

    __slots__ = (
        "bytes_done",
        "bytes_in",
        "bytes_out",
        "bytes_total",
        "in_flight",
        "latency",
        "listed",
        "objects_done",
        "objects_failed",
        "objects_total",
        "records",
        "records_failed",
        "records_failed_by_algorithm",
        "records_filtered",
        "requests",
        "retries",
        "rows_out",
    )

    def __init__(self, *, objects_total: int = 0, bytes_total: int = 0) -> None:
        self.objects_total = objects_total
        self.bytes_total = bytes_total
        self.listed = True
        """Whether the totals are of all objects."""
        self.objects_done = 0
        self.objects_failed = 0
        self.records = self.records_failed = self.records_filtered = 0
        self.records_failed_by_algorithm = 0
        self.requests = 0
        self.retries = 0
        self.bytes_in = 0
        self.bytes_done = 0
        """Of objects that are no more in work."""
        self.bytes_out = 0
        self.rows_out = 0
        self.in_flight = 0
        self.latency = LatencyHistogram()

    def count(self, counts: Counts) -> None:
        """Add what became of an object's records."""
        self.records += counts.ok
        self.records_failed += counts.failed
        self.records_filtered += counts.filtered
        self.records_failed_by_algorithm += counts.failed_by_algorithm

    def count_bytes(self, size: int) -> None:
        """Add an object, or a range of one, that needs not be read."""
        self.bytes_in += size
        self.bytes_done += size

    def snapshot(
        self, in_work: Iterable[Counts] = (), shown: Sequence[OpenObject] = (), *, bytes_done: int = 0
    ) -> Progress:
        """Return the counters as they stand.

        Args:
            in_work: What became of the records of each object in work.
            shown: Those of them that are told of one by one.
            bytes_done: Bytes of objects in work that are done with.
        """
        open_objects = list(in_work)
        return Progress(
            objects_total=self.objects_total,
            listed=self.listed,
            objects_done=self.objects_done,
            objects_failed=self.objects_failed,
            records=self.records + sum(counts.ok for counts in open_objects),
            records_failed=self.records_failed + sum(counts.failed for counts in open_objects),
            records_filtered=self.records_filtered + sum(counts.filtered for counts in open_objects),
            records_failed_by_algorithm=self.records_failed_by_algorithm
            + sum(counts.failed_by_algorithm for counts in open_objects),
            requests=self.requests,
            retries=self.retries,
            bytes_total=self.bytes_total,
            bytes_in=self.bytes_in,
            bytes_done=self.bytes_done + bytes_done,
            bytes_out=self.bytes_out,
            rows_out=self.rows_out,
            in_flight=self.in_flight,
            latency_p50_ms=self.latency.percentile_ms(0.5),
            latency_p99_ms=self.latency.percentile_ms(0.99),
            latency_seconds=self.latency.total_seconds,
            latency_counts=self.latency.coarse(),
            open_objects=tuple(shown),
        )
