"""Series that are plain numbers until they are read."""

import re

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from millrace.metrics.timed_series import REQUEST_SECONDS, TimedSeries

COUNTER = ("shop_requests", "Requests.")
HISTOGRAM = ("shop_request_seconds", "Times.")
LABELS = ("service", "operation")

_CREATED = re.compile(rb"(_created(?:\{.*\})?) .*")

observed = st.tuples(
    st.sampled_from([("s3", "GetObject"), ("sts", 'Odd"name\\'), ("s3", "PutObject")]),
    st.sampled_from([200, 404]),
    st.sampled_from([0.25, 0.5, 1.0, 2.5, 10.0, 60.0]) | st.integers(0, 2000).map(lambda part: part / 1024),
)
"""Times with exact sums, some of them the buckets' bounds."""


@given(st.lists(observed, max_size=30))
def test_they_read_as_the_librarys_own(all_observed: list[tuple[tuple[str, str], int, float]]) -> None:
    """In both formats, line by line, but for the times of their beginning."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    series = TimedSeries(COUNTER, HISTOGRAM, LABELS)
    ours.register(series)
    counter = Counter(*COUNTER, (*LABELS, "status"), registry=theirs)
    histogram = Histogram(*HISTOGRAM, LABELS, buckets=REQUEST_SECONDS, registry=theirs)
    for values, status, seconds in all_observed:
        series.timings(values, status).add(seconds)
        counter.labels(*values, status).inc()
        histogram.labels(*values).observe(seconds)
    for generate in (generate_latest, generate_openmetrics):
        assert _lines(generate(ours)) == _lines(generate(theirs))


def _lines(page: bytes) -> list[bytes]:
    """Return the lines in an order of their own, without the times of beginnings."""
    return sorted(_CREATED.sub(rb"\1", page).splitlines())
