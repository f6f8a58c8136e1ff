"""Add up what the instances of a job tell of their work. Pure."""

from collections.abc import Sequence
from dataclasses import fields
from itertools import zip_longest
from typing import Any

from millrace.dataplane.failures import select_failures
from millrace.jobs.transform import InstanceOutcome, OpenObject, Progress

__all__ = ["add_outcomes", "add_progress"]

_SLOWEST = {"latency_p50_ms", "latency_p99_ms"}
"""Counters that are those of the instance whose model is slowest: percentiles don't add up."""


def add_progress(parts: Sequence[Progress]) -> Progress:
    """Return the counters of all instances together; an object that several have in work is one."""
    if len(parts) == 1:
        return parts[0]
    added: dict[str, Any] = {
        "latency_counts": tuple(map(sum, zip_longest(*(part.latency_counts for part in parts), fillvalue=0))),
        "open_objects": _open_objects(parts),
        "listed": all(part.listed for part in parts),
    }
    for field in fields(Progress):
        if field.name not in added:
            values = [getattr(part, field.name) for part in parts]
            added[field.name] = max(values, default=0) if field.name in _SLOWEST else sum(values)
    return Progress(**added)


def _open_objects(parts: Sequence[Progress]) -> tuple[OpenObject, ...]:
    by_key: dict[str, list[OpenObject]] = {}
    for part in parts:
        for opened in part.open_objects:
            by_key.setdefault(opened.key, []).append(opened)
    names = [field.name for field in fields(OpenObject) if field.name != "key"]
    return tuple(
        OpenObject(key=key, **{name: sum(getattr(it, name) for it in opened) for name in names})
        for key, opened in sorted(by_key.items(), key=lambda found: found[0].encode())
    )


def add_outcomes(outcomes: Sequence[InstanceOutcome], *, failures_kept: int) -> InstanceOutcome:
    """Return how all instances together ended; their settings and what was tuned are the first one's."""
    if len(outcomes) == 1:
        return outcomes[0]
    failures = [failure for outcome in outcomes for failure in outcome.failures]
    ranges = [failure.key for failure in failures if failure.is_range]
    count = sum(max(outcome.failure_count, len(outcome.failures)) for outcome in outcomes)
    by_place = sorted(failures, key=lambda failure: (failure.key.encode(), failure.offset or 0))
    first = {failure.key: failure for failure in reversed(by_place)}  # of several ranges the first one is told
    return InstanceOutcome(
        progress=add_progress([outcome.progress for outcome in outcomes]),
        failures=select_failures(list(first.values()), failures_kept),
        failure_count=count - (len(ranges) - len(set(ranges))),
        stopped=any(outcome.stopped for outcome in outcomes),
        effective=next((outcome.effective for outcome in outcomes if outcome.effective), None),
        tuning=next((outcome.tuning for outcome in outcomes if outcome.tuning), None),
    )
