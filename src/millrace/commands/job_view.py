"""What a person wants to know of a job that runs: how far it is, how fast, what failed, how long it will take."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from millrace.commands.progress_view import COUNTS, ObjectView, ProgressMeter, ProgressView, milliseconds
from millrace.jobs.job import Job, JobKind, JobStatus
from millrace.ports.jobs import AgentRecord
from millrace.told import printable

__all__ = ["InstanceView", "JobView", "RateMeter", "exit_code", "view_document", "view_line", "view_of"]


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceView:
    """One instance: which attempt is at work, and its counters."""

    index: int
    attempt: int
    state: str
    objects_done: int = 0
    objects_total: int = 0
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
    objects: tuple[ObjectView, ...] = ()
    """Those in work, the first ones."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobView:
    """One job at one moment; counts are sums over its instances."""

    kind: JobKind
    name: str
    region: str
    status: JobStatus
    elapsed_seconds: float
    instances: tuple[InstanceView, ...]
    failure_reason: str | None = None

    def total(self, field: str) -> int:
        """Return the sum of a count over the instances."""
        return sum(getattr(instance, field) for instance in self.instances)

    def rate(self, field: str) -> float | None:
        """Return the sum of a rate over the instances for which it is known; None if it is for none."""
        known = [rate for instance in self.instances if (rate := getattr(instance, field)) is not None]
        return sum(known) if known else None

    def most(self, field: str) -> float:
        """Return the largest value of a field over the instances."""
        return max((getattr(instance, field) for instance in self.instances), default=0.0)

    @property
    def eta_seconds(self) -> float | None:
        """How long the slowest instance takes for the rest at its rate of now; None if that is not known."""
        if self.status is not JobStatus.IN_PROGRESS:
            return None
        left = [_eta(instance) for instance in self.instances if instance.bytes_done < instance.bytes_total]
        known = [seconds for seconds in left if seconds is not None]
        return max(known) if known and len(known) == len(left) else None


def _eta(instance: InstanceView) -> float | None:
    if not instance.bytes_per_second:
        return None
    return (instance.bytes_total - instance.bytes_done) / instance.bytes_per_second


class RateMeter:
    """Remembers the counters of the last seconds, for rates. One for a whole command."""

    def __init__(self) -> None:
        self._meters: dict[tuple[int, int, int], ProgressMeter] = {}

    def view(self, agent: AgentRecord) -> ProgressView:
        """Return how an agent is going; rates are None as long as there is one sample of it."""
        key = (agent.ref.job_id, agent.ref.index, agent.ref.attempt)
        meter = self._meters.setdefault(key, ProgressMeter())
        return meter.view(agent.heartbeat_at.timestamp(), agent.progress or {})


def view_of(kind: JobKind, job: Job, agents: Sequence[AgentRecord], *, now: datetime, meter: RateMeter) -> JobView:
    """Return what there is to know of a job now."""
    by_index = {agent.ref.index: agent for agent in agents}
    instances = []
    for instance in job.instances:
        agent = by_index.get(instance.index)
        if agent is None or agent.progress is None:
            instances.append(InstanceView(index=instance.index, attempt=instance.attempt, state=instance.state.value))
            continue
        going = meter.view(agent)
        over = job.is_terminal
        instances.append(
            InstanceView(
                index=instance.index,
                attempt=instance.attempt,
                state=instance.state.value,
                **{name: getattr(going, name) for name in COUNTS},
                latency_p50_ms=going.latency_p50_ms,
                latency_p99_ms=going.latency_p99_ms,
                records_per_second=None if over else going.records_per_second,
                bytes_per_second=None if over else going.bytes_per_second,
                objects=() if over else going.objects,
            )
        )
    return JobView(
        kind=kind,
        name=job.name,
        region=job.region,
        status=job.status,
        elapsed_seconds=max(0.0, ((job.ended_at or now) - job.created_at).total_seconds()),
        instances=tuple(instances),
        failure_reason=job.failure_reason,
    )


def view_document(view: JobView) -> dict[str, Any]:
    """Return a view as JSON has it."""
    return {
        "kind": view.kind.value,
        "name": view.name,
        "region": view.region,
        "status": view.status.value,
        "elapsed_seconds": round(view.elapsed_seconds, 3),
        **{field: view.total(field) for field in COUNTS},
        "records_per_second": _rounded(view.rate("records_per_second")),
        "bytes_per_second": _rounded(view.rate("bytes_per_second")),
        "latency_p50_ms": view.most("latency_p50_ms"),
        "latency_p99_ms": view.most("latency_p99_ms"),
        "eta_seconds": _rounded(view.eta_seconds),
        "failure_reason": view.failure_reason,
        "instances": [
            {
                "instance": instance.index,
                "attempt": instance.attempt,
                "state": instance.state,
                **{field: getattr(instance, field) for field in COUNTS},
                "latency_p50_ms": instance.latency_p50_ms,
                "latency_p99_ms": instance.latency_p99_ms,
                "records_per_second": _rounded(instance.records_per_second),
                "bytes_per_second": _rounded(instance.bytes_per_second),
                "open_objects": [_object(entry) for entry in instance.objects],
            }
            for instance in view.instances
        ],
    }


def _object(entry: ObjectView) -> dict[str, Any]:
    return {
        "key": entry.key,
        "bytes_in": entry.bytes_in,
        "bytes_done": entry.bytes_done,
        "bytes_total": entry.bytes_total,
        "records": entry.records,
        "records_failed": entry.records_failed,
        "records_per_second": _rounded(entry.records_per_second),
        "bytes_per_second": _rounded(entry.bytes_per_second),
        "eta_seconds": _rounded(entry.eta_seconds),
    }


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 3)


def view_line(view: JobView) -> str:
    """Return a view as one line of text."""
    words = [f"{view.kind.value}/{view.name} {view.status.value}"]
    if view.total("objects_total"):
        words.append(f"{view.total('objects_done')}/{view.total('objects_total')} objects")
        words.append(f"{view.total('records')} records")
        words.append(f"{view.total('objects_failed')} failed")
    if view.total("records_failed"):
        words.append(f"{view.total('records_failed')} bad records")
    records, received = view.rate("records_per_second"), view.rate("bytes_per_second")
    if records is not None and received is not None:
        words.append(f"{records:.0f} records/s")
        words.append(f"{received / 1e6:.2f} MB/s")
    if view.most("latency_p50_ms") and view.status is JobStatus.IN_PROGRESS:
        words.append(f"{view.total('in_flight')} in flight")
        p50, p99 = milliseconds(view.most("latency_p50_ms")), milliseconds(view.most("latency_p99_ms"))
        words.append(f"p50 {p50} ms, p99 {p99} ms")
    if view.eta_seconds is not None:
        words.append(f"{view.eta_seconds:.0f} s left")
    if view.failure_reason:
        words.append(printable(view.failure_reason))
    return ", ".join(words)


_CODES = {JobStatus.COMPLETED: 0, JobStatus.IN_SERVICE: 0, JobStatus.FAILED: 1, JobStatus.STOPPED: 2}


def exit_code(statuses: Sequence[JobStatus]) -> int:
    """Return 1 if one failed, else 2 if one was stopped, else 0."""
    codes = {_CODES.get(status, 0) for status in statuses}
    return 1 if 1 in codes else max(codes, default=0)
