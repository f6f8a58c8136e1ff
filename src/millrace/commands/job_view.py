"""What a person wants to know of a job that runs: how far it is, how fast, what failed, how long it will take."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from millrace.commands.progress_view import (
    COUNTS,
    ObjectView,
    ProgressMeter,
    ProgressView,
    progress_line,
    sum_views,
)
from millrace.commands.sizes import counted
from millrace.jobs.job import Job, JobKind, JobStatus
from millrace.ports.jobs import AgentRecord
from millrace.told import printable

__all__ = ["InstanceView", "JobView", "RateMeter", "exit_code", "view_document", "view_line", "view_of"]

NOTHING_YET = ProgressView()


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceView:
    """One instance: which attempt is at work, and how it is going."""

    index: int
    attempt: int
    state: str
    going: ProgressView = NOTHING_YET


@dataclass(frozen=True, kw_only=True, slots=True)
class JobView:
    """One job at one moment."""

    kind: JobKind
    name: str
    region: str
    status: JobStatus
    elapsed_seconds: float
    instances: tuple[InstanceView, ...]
    sums: ProgressView = NOTHING_YET
    """All instances together."""
    failure_reason: str | None = None


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
        going = NOTHING_YET if agent is None or agent.progress is None else meter.view(agent)
        instances.append(
            InstanceView(
                index=instance.index,
                attempt=instance.attempt,
                state=instance.state.value,
                going=going.at_rest() if job.is_terminal else going,
            )
        )
    sums = sum_views([instance.going for instance in instances])
    return JobView(
        kind=kind,
        name=job.name,
        region=job.region,
        status=job.status,
        elapsed_seconds=max(0.0, ((job.ended_at or now) - job.created_at).total_seconds()),
        instances=tuple(instances),
        sums=sums if job.status is JobStatus.IN_PROGRESS else replace(sums, eta_seconds=None),
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
        **_going(view.sums),
        "eta_seconds": _rounded(view.sums.eta_seconds),
        "failure_reason": view.failure_reason,
        "instances": [
            {
                "instance": instance.index,
                "attempt": instance.attempt,
                "state": instance.state,
                **_going(instance.going),
                "open_objects": [_object(entry) for entry in instance.going.objects],
            }
            for instance in view.instances
        ],
    }


def _going(view: ProgressView) -> dict[str, Any]:
    return {
        **{field: getattr(view, field) for field in COUNTS},
        "listed": view.listed,
        "records_per_second": _rounded(view.records_per_second),
        "bytes_per_second": _rounded(view.bytes_per_second),
        "latency_p50_ms": view.latency_p50_ms,
        "latency_p99_ms": view.latency_p99_ms,
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
    sums = view.sums
    if sums.objects_total and view.status is JobStatus.IN_PROGRESS:
        words.append(progress_line(sums))
    elif sums.objects_total:
        words.append(f"{sums.told_objects} objects")
        words.append(counted(sums.records, "record"))
        words.append(f"{sums.objects_failed:,} failed")
        if sums.records_failed:
            words.append(counted(sums.records_failed, "bad record"))
    if view.failure_reason:
        words.append(printable(view.failure_reason))
    return ", ".join(words)


_CODES = {JobStatus.COMPLETED: 0, JobStatus.IN_SERVICE: 0, JobStatus.FAILED: 1, JobStatus.STOPPED: 2}


def exit_code(statuses: Sequence[JobStatus]) -> int:
    """Return 1 if one failed, else 2 if one was stopped, else 0."""
    codes = {_CODES.get(status, 0) for status in statuses}
    return 1 if 1 in codes else max(codes, default=0)
