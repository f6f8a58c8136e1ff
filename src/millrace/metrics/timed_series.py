"""Counters and latency histograms of what every request adds to, in plain numbers until somebody reads them.

The library's own take a lock and some calls for each number: 5 us of the 45 that the Python of a request took. All of
this is added to and read by one thread, the event loop's.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from time import time

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

__all__ = ["REQUEST_SECONDS", "TimedSeries", "Timings"]

REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
"""Upper bounds of the latency histograms' buckets. A held Describe is answered after up to a minute."""

_BOUNDS = (*map(floatToGoString, REQUEST_SECONDS), "+Inf")


class Timings:
    """How many took how long: numbers by the buckets of REQUEST_SECONDS and one for all beyond, and the sum."""

    __slots__ = ("numbers", "seconds", "since")

    def __init__(self) -> None:
        self.numbers = [0] * len(_BOUNDS)
        self.seconds = 0.0
        self.since = time()

    def add(self, seconds: float) -> None:
        """Count one that took `seconds`."""
        self.numbers[bisect_left(REQUEST_SECONDS, seconds)] += 1
        self.seconds += seconds


class TimedSeries(Collector):
    """One kind of thing: a counter by labels and status, and a histogram of times by labels, over all statuses."""

    def __init__(self, counter: tuple[str, str], histogram: tuple[str, str], labels: tuple[str, ...]) -> None:
        """Take name and description of both, and the labels that they share."""
        self._counter = counter
        self._histogram = histogram
        self._labels = labels
        self._timings: dict[tuple[tuple[str, ...], int], Timings] = {}

    def timings(self, values: tuple[str, ...], status: int) -> Timings:
        """Return what counts things with these values of the labels and this status."""
        return self._timings.setdefault((values, status), Timings())

    def collect(self) -> Iterator[Metric]:
        """Yield both as they are now."""
        counter = CounterMetricFamily(*self._counter, labels=(*self._labels, "status"))
        over_all: defaultdict[tuple[str, ...], list[Timings]] = defaultdict(list)
        for (values, status), timings in self._timings.items():
            counter.add_metric((*values, str(status)), sum(timings.numbers), created=timings.since)
            over_all[values].append(timings)
        yield counter
        yield self._latencies(over_all)

    def _latencies(self, over_all: dict[tuple[str, ...], list[Timings]]) -> Metric:
        name, text = self._histogram
        histogram = HistogramMetricFamily(name, text, labels=self._labels)
        for values, found in over_all.items():
            so_far = 0
            buckets = []
            for bound, numbers in zip(_BOUNDS, zip(*(it.numbers for it in found), strict=True), strict=True):
                so_far += sum(numbers)
                buckets.append((bound, so_far))
            histogram.add_metric(values, buckets, sum_value=sum(it.seconds for it in found))
            labels = dict(zip(self._labels, values, strict=True))
            histogram.add_sample(f"{name}_created", labels, min(it.since for it in found))
        return histogram
