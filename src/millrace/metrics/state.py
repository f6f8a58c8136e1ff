"""What the state store tells at each scrape: how many jobs there are, and what transforms have done.

An agent's counters start from nothing with each attempt and vanish with the job's record; a Prometheus counter must
only grow. So each scrape adds what an attempt has done since the last one, and an attempt is remembered for as long as
the store still tells of it.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from millrace.clock import Clock
from millrace.jobs.transform import LATENCY_BOUNDS
from millrace.ports.operation import InstanceProgress, OperationStore, UnfinishedJob

__all__ = ["JobCounts", "StateFigures", "TransformTotals"]

COUNT_SHARE = 0.001
"""Share of the time that counting all jobs may take."""

SETTLED = timedelta(minutes=1)
"""A job's end may be saved this long after the time of it."""

_COUNTERS = {
    "records": ("millrace_transform_records", "Records that transforms have written results of."),
    "bytes_in": ("millrace_transform_input_bytes", "Bytes of input objects that transforms have read, as stored."),
    "bytes_out": ("millrace_transform_output_bytes", "Bytes of output that transforms have written."),
    "objects_done": ("millrace_transform_objects", "Input objects that transforms have finished."),
    "objects_failed": ("millrace_transform_failed_objects", "Input objects for which transforms have no output."),
    "requests": ("millrace_container_invocations", "Requests that transforms have sent to containers."),
    "retries": ("millrace_container_retries", "Of these, requests that were sent again."),
}


class TransformTotals:
    """Totals over all attempts of all transform jobs that it was told of."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(_COUNTERS, 0)
        self.latency_counts = [0] * (len(LATENCY_BOUNDS) + 1)
        self.latency_seconds = 0.0
        self._seen: dict[tuple[int, int, int], Mapping[str, Any]] = {}

    def absorb(self, told: Iterable[InstanceProgress]) -> None:
        """Add what each attempt has done since it was last told of."""
        seen = {}
        for progress in told:
            key = (progress.job_id, progress.index, progress.attempt)
            self._add(progress.counters, self._seen.get(key, {}))
            seen[key] = progress.counters
        self._seen = seen

    def _add(self, now: Mapping[str, Any], before: Mapping[str, Any]) -> None:
        for name in self.counts:
            self.counts[name] += max(0, now.get(name, 0) - before.get(name, 0))
        self.latency_seconds += max(0.0, now.get("latency_seconds", 0.0) - before.get("latency_seconds", 0.0))
        older: Sequence[int] = before.get("latency_counts") or ()
        for index, count in enumerate(now.get("latency_counts") or ()):
            if index < len(self.latency_counts):
                self.latency_counts[index] += max(0, count - (older[index] if index < len(older) else 0))


class JobCounts:
    """How many jobs there are by kind and status, without counting all of them at every scrape.

    Unfinished jobs, and those that ended since the last full count, are few: they are counted each time. All others may
    be a million: counting them may take COUNT_SHARE of the time. What is out of date till then is how many of them were
    deleted.
    """

    def __init__(self, store: OperationStore, *, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._older: Counter[tuple[str, str]] = Counter()
        self._since = clock.now()
        self._count_at = float("-inf")

    async def read(self) -> tuple[Mapping[tuple[str, str], int], Sequence[UnfinishedJob]]:
        """Return the counts, and the unfinished jobs."""
        started = self._clock.monotonic()
        if started >= self._count_at:
            self._since = self._clock.now() - SETTLED
            every = Counter(await self._store.count_jobs())
            self._older = every - (await self._lately(await self._store.list_unfinished()))
            now = self._clock.monotonic()
            self._count_at = now + (now - started) / COUNT_SHARE
        unfinished = await self._store.list_unfinished()
        return self._older + await self._lately(unfinished), unfinished

    async def _lately(self, unfinished: Sequence[UnfinishedJob]) -> Counter[tuple[str, str]]:
        return _by_status(unfinished) + Counter(await self._store.count_ended_jobs(self._since))


def _by_status(jobs: Iterable[UnfinishedJob]) -> Counter[tuple[str, str]]:
    return Counter((job.kind.value, job.status.value) for job in jobs)


class StateFigures(Collector):
    """Collects what `read` last found in the store."""

    def __init__(self, store: OperationStore, *, clock: Clock, registry: CollectorRegistry) -> None:
        self._store = store
        self._clock = clock
        self._counts = JobCounts(store, clock=clock)
        self._totals = TransformTotals()
        self._read_until = clock.now()
        self._jobs: Mapping[tuple[str, str], int] = {}
        self._queued: Mapping[str, int] = {}
        self._instances: Mapping[str, int] = {}
        self._reading = asyncio.Lock()
        registry.register(self)

    async def read(self) -> None:
        """Look into the store; raises StoreUnavailable.

        One after the other: an answer absorbed after a later one would count again what lies between them.
        """
        async with self._reading:
            await self._read()

    async def _read(self) -> None:
        now: datetime = self._clock.now()
        self._jobs, unfinished = await self._counts.read()
        self._queued = Counter(job.kind.value for job in unfinished if not job.registered)
        working: Counter[str] = Counter()
        for job in unfinished:
            working[job.kind.value] += job.working
        self._instances = working
        self._totals.absorb(await self._store.list_transform_progress(self._read_until))
        self._read_until = now

    def describe(self) -> Iterator[Metric]:
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        jobs = GaugeMetricFamily("millrace_jobs", "Jobs and endpoints there are.", labels=("kind", "status"))
        for labels, number in self._jobs.items():
            jobs.add_metric(labels, number)
        yield jobs
        yield _by_kind("millrace_jobs_queued", "Unfinished jobs that wait to be started.", self._queued)
        yield _by_kind("millrace_instances_running", "Instances with an agent at work.", self._instances)
        for name, (metric, help) in _COUNTERS.items():
            yield CounterMetricFamily(metric, help, value=self._totals.counts[name])
        yield self._latency()

    def _latency(self) -> HistogramMetricFamily:
        buckets, total = [], 0
        for bound, count in zip((*LATENCY_BOUNDS, float("inf")), self._totals.latency_counts, strict=True):
            total += count
            buckets.append(("+Inf" if bound == float("inf") else str(bound), float(total)))
        return HistogramMetricFamily(
            "millrace_container_invocation_duration_seconds",
            "Time of requests of transforms to containers.",
            buckets=buckets,
            sum_value=self._totals.latency_seconds,
        )


def _by_kind(name: str, help: str, numbers: Mapping[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, help, labels=("kind",))
    for kind, number in numbers.items():
        family.add_metric((kind,), number)
    return family
