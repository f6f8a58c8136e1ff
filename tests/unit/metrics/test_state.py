"""Totals of transforms out of counters that start anew with each attempt."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from millrace.dataplane.progress import Counters
from millrace.jobs.job import JobKind, JobStatus
from millrace.jobs.transform import LATENCY_BOUNDS
from millrace.metrics.state import JobCounts, StateFigures, TransformTotals
from millrace.ports.operation import InstanceProgress, UnfinishedJob
from millrace.testing.clock import ManualClock


def _told(attempt: int = 1, job_id: int = 1, **counters: object) -> InstanceProgress:
    return InstanceProgress(job_id=job_id, index=0, attempt=attempt, counters=counters)


def test_totals_grow_by_what_was_done_since_the_last_look() -> None:
    """An attempt's counters are added once, however often they are read; a new attempt's come on top."""
    totals = TransformTotals()
    for told in ([_told(records=5)], [_told(records=8)], [_told(records=8)], [_told(2, records=3)], []):
        totals.absorb(told)
    assert totals.counts["records"] == 11


@given(st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=5), max_size=6))
def test_totals_are_the_sums_over_attempts(attempts: list[list[int]]) -> None:
    """Whatever moments each attempt is looked at, its last count is what it adds."""
    totals = TransformTotals()
    expected = 0
    for number, counts in enumerate(attempts, start=1):
        for count in sorted(counts):
            totals.absorb([_told(number, records=count)])
        expected += max(counts)
    assert totals.counts["records"] == expected


def test_latencies_reach_their_buckets() -> None:
    """What the data plane counts finely is told in the histogram's buckets, with its sum."""
    counters = Counters(objects_total=1, bytes_total=1)
    for seconds in (0.0004, 0.003, 0.003, 0.2, 100.0):
        counters.latency.add(seconds)
    totals = TransformTotals()
    totals.absorb([InstanceProgress(job_id=1, index=0, attempt=1, counters=asdict(counters.snapshot()))])
    found = {bound: count for bound, count in zip((*LATENCY_BOUNDS, None), totals.latency_counts, strict=True) if count}
    assert found == {0.001: 1, 0.005: 2, 0.25: 1, None: 1}
    assert abs(totals.latency_seconds - 100.2064) < 1e-9


class _Slow:
    """A store in which counting takes a second."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.counted = 0
        self.lately = 0

    async def count_jobs(self) -> dict[tuple[str, str], int]:
        self.counted += 1
        self._clock.advance(1.0)
        return {("transform-job", "Completed"): 10 + self.counted, ("transform-job", "InProgress"): 1}

    async def count_ended_jobs(self, ended_after: datetime) -> dict[tuple[str, str], int]:
        return {("transform-job", "Completed"): self.lately} if self.lately else {}

    async def list_unfinished(self) -> list[UnfinishedJob]:
        return [
            UnfinishedJob(
                id=1, kind=JobKind.TRANSFORM, name="a", status=JobStatus.IN_PROGRESS, registered=1, working=self.counted
            )
        ]


async def test_counting_takes_a_small_share_of_the_time() -> None:
    """What takes a second is done every thousand seconds; what is unfinished or has just ended, each time."""
    clock = ManualClock()
    store = _Slow(clock)
    counts = JobCounts(store, clock=clock)  # type: ignore[arg-type]  # nothing else of it is asked
    for _ in range(5):
        found, unfinished = await counts.read()
        assert found == {("transform-job", "Completed"): 11, ("transform-job", "InProgress"): 1}
        assert len(unfinished) == 1
    assert store.counted == 1
    store.lately = 2
    found, _ = await counts.read()
    assert found["transform-job", "Completed"] == 13
    clock.advance(1000.0)
    store.lately = 0
    found, _ = await counts.read()
    assert (store.counted, found["transform-job", "Completed"]) == (2, 12)


class _LateAnswer:
    """A store whose first answer about transforms arrives when it is let."""

    def __init__(self) -> None:
        self.records = 100
        self.asked = asyncio.Event()
        self.let = asyncio.Event()
        self._answers = 0

    async def count_jobs(self) -> Mapping[tuple[str, str], int]:
        return {}

    async def list_unfinished(self) -> Sequence[UnfinishedJob]:
        return []

    async def count_ended_jobs(self, since: datetime) -> Mapping[tuple[str, str], int]:
        return {}

    async def list_transform_progress(self, since: datetime) -> Sequence[InstanceProgress]:
        self._answers += 1
        told = [_told(records=self.records)]
        if self._answers == 1:
            self.asked.set()
            await self.let.wait()
        return told


async def test_scrapes_at_the_same_time_count_nothing_twice() -> None:
    """The later scrape waits for the earlier one, so that no older answer comes after a newer one."""
    store, registry = _LateAnswer(), CollectorRegistry()
    figures = StateFigures(store, clock=ManualClock(), registry=registry)  # type: ignore[arg-type]  # all that is asked
    first = asyncio.create_task(figures.read())
    await store.asked.wait()
    store.records = 110
    second = asyncio.create_task(figures.read())
    await asyncio.sleep(0)
    store.let.set()
    await asyncio.gather(first, second)
    store.records = 120
    await figures.read()
    assert registry.get_sample_value("millrace_transform_records_total") == 120
