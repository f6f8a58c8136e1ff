"""Tests of what the instances of a job tell together."""

from dataclasses import replace

from millrace.dataplane.outcomes import add_outcomes, add_progress
from millrace.jobs.transform import (
    EffectiveSettings,
    InstanceOutcome,
    ObjectFailure,
    OpenObject,
    Progress,
    transform_failure_reason,
)


def test_counters_add_up() -> None:
    """Percentiles are those of the slowest; an object whose ranges several instances have in work is one."""
    one = Progress(
        objects_total=2,
        records=5,
        latency_p99_ms=3.0,
        latency_counts=(1, 2),
        open_objects=(OpenObject(key="b", bytes_in=1, bytes_total=4), OpenObject(key="c", records=1)),
    )
    other = Progress(
        objects_total=1,
        records=6,
        latency_p99_ms=2.0,
        latency_counts=(4,),
        open_objects=(OpenObject(key="a"), OpenObject(key="b", bytes_in=2, bytes_total=4)),
    )
    assert add_progress([one, other]) == Progress(
        objects_total=3,
        records=11,
        latency_p99_ms=3.0,
        latency_counts=(5, 2),
        open_objects=(
            OpenObject(key="a"),
            OpenObject(key="b", bytes_in=3, bytes_total=8),
            OpenObject(key="c", records=1),
        ),
    )


def test_an_object_fails_once() -> None:
    """However many of its ranges do: the first in the object is told."""
    late = ObjectFailure(key="a", label="ClientError", message="late", record=1, offset=90, is_range=True)
    early = replace(late, message="early", offset=7)
    other = ObjectFailure(key="b", label="AlgorithmError", message="other")
    outcomes = [
        InstanceOutcome(progress=Progress(objects_total=2), failures=(late, other), failure_count=2),
        InstanceOutcome(progress=Progress(), failures=(early,), failure_count=1, effective=EffectiveSettings()),
    ]
    together = add_outcomes(outcomes, failures_kept=10)
    assert together.failures == (early, other)
    assert together.failure_count == 2
    assert together.effective == EffectiveSettings()
    assert transform_failure_reason([together]) == transform_failure_reason(outcomes)


def test_one_instance_tells_what_it_told() -> None:
    """Nothing is added to it."""
    outcome = InstanceOutcome(progress=Progress(records=3, latency_counts=(1,)))
    assert add_outcomes([outcome], failures_kept=1) is outcome
