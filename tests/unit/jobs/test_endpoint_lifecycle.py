"""The lifecycle of endpoints, as a play of events and commands."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType

import pytest

from millrace.jobs.endpoint import EndpointSpec, ModelContainer, Variant
from millrace.jobs.endpoint_lifecycle import serving_instances
from millrace.jobs.job import (
    Command,
    DeleteRequested,
    EndpointJob,
    Event,
    ForgetJob,
    IllegalTransition,
    InstanceFinished,
    InstanceLost,
    InstanceReady,
    JobStatus,
    RemoveWork,
    Scheduled,
    StartInstance,
    StopInstance,
    UpdateRequested,
    WeightsRequested,
)
from millrace.jobs.lifecycle import advance
from millrace.names import sagemaker_arn

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def spec(config: str = "c1", counts: Mapping[str, int] = MappingProxyType({"blue": 1})) -> EndpointSpec:
    container = ModelContainer(image="knn:1")
    return EndpointSpec(
        config=config,
        variants=tuple(
            Variant(name=name, model="m", containers=(container,), instance_count=count)
            for name, count in counts.items()
        ),
    )


def endpoint(**counts: int) -> EndpointJob:
    return EndpointJob(
        name="e",
        arn=sagemaker_arn("endpoint", "e", region="us-east-1"),
        status=JobStatus.CREATING,
        created_at=NOW,
        modified_at=NOW,
        spec=spec(counts=counts or {"blue": 1}),
    )


def play(job: EndpointJob, *events: Event) -> tuple[EndpointJob, list[Command]]:
    commands: Sequence[Command] = ()
    for event in events:
        moved, commands = advance(job, event, max_attempts=1)
        assert isinstance(moved, EndpointJob)
        job = moved
    return job, list(commands)


def ready(index: int, attempt: int = 1) -> InstanceReady:
    return InstanceReady(at=NOW, index=index, attempt=attempt, address=f"127.0.0.1:{9000 + index}")


def gone(index: int, attempt: int = 1, reason: str | None = None) -> InstanceFinished:
    return InstanceFinished(at=NOW, index=index, attempt=attempt, failure_reason=reason)


SCHEDULED = Scheduled(at=NOW)


def test_an_endpoint_is_in_service_once_all_instances_are_ready() -> None:
    """The last instance that is ready brings the endpoint into service."""
    job, commands = play(endpoint(blue=1, green=1), SCHEDULED)
    assert commands == [StartInstance(index=0, attempt=1), StartInstance(index=1, attempt=1)]
    job, _ = play(job, ready(0))
    assert job.status is JobStatus.CREATING
    job, _ = play(job, ready(1))
    assert job.status is JobStatus.IN_SERVICE
    assert {it.variant for it in serving_instances(job)} == {"blue", "green"}


def test_a_container_that_dies_before_it_is_ready_fails_the_endpoint() -> None:
    """The reason is told and the others are stopped."""
    job, commands = play(endpoint(blue=2), SCHEDULED, gone(0, reason="ping health check"))
    assert (job.status, job.failure_reason) == (JobStatus.FAILED, "ping health check")
    assert StopInstance(index=1) in commands


def test_an_agent_killed_while_creating_is_started_again() -> None:
    """Only the container's own end is a verdict on the model."""
    job, commands = play(endpoint(), SCHEDULED, InstanceLost(at=NOW, index=0, attempt=1))
    assert commands == [StartInstance(index=0, attempt=2)]
    job, _ = play(job, ready(0, attempt=2))
    assert job.status is JobStatus.IN_SERVICE


def test_an_instance_that_ends_in_service_is_started_again() -> None:
    """The endpoint stays in service; traffic avoids the instance until it is ready."""
    job, commands = play(endpoint(blue=2), SCHEDULED, ready(0), ready(1), gone(0, reason="exit 1"))
    assert (job.status, commands) == (JobStatus.IN_SERVICE, [StartInstance(index=0, attempt=2)])
    assert [it.index for it in serving_instances(job)] == [1]


def test_an_update_swaps_the_spec_when_the_new_instances_are_ready() -> None:
    """Until then the old ones serve; after it they are stopped."""
    job, commands = play(endpoint(), SCHEDULED, ready(0), UpdateRequested(at=NOW, spec=spec("c2", {"green": 1})))
    assert (job.status, commands) == (JobStatus.UPDATING, [StartInstance(index=1, attempt=1)])
    assert [it.variant for it in serving_instances(job)] == ["blue"]
    job, commands = play(job, ready(1))
    assert (job.status, job.spec.config, commands) == (JobStatus.IN_SERVICE, "c2", [StopInstance(index=0)])
    assert [it.variant for it in serving_instances(job)] == ["green"]
    job, commands = play(job, gone(0))
    assert [it.index for it in job.instances] == [1]
    assert commands == [RemoveWork(index=0)]


def test_an_update_that_fails_leaves_the_old_spec_in_service() -> None:
    """The new instances are stopped, the reason is told, nobody's request was lost."""
    job, _ = play(endpoint(), SCHEDULED, ready(0), UpdateRequested(at=NOW, spec=spec("c2", {"green": 2})))
    job, commands = play(job, gone(1, reason="no licence"))
    assert (job.status, job.spec.config, job.failure_reason) == (JobStatus.IN_SERVICE, "c1", "no licence")
    assert StopInstance(index=2) in commands
    assert [it.variant for it in serving_instances(job)] == ["blue"]


def test_weights_change_without_new_instances() -> None:
    """A change of weights alone is done at once."""
    job, commands = play(
        endpoint(blue=1, green=1),
        SCHEDULED,
        ready(0),
        ready(1),
        WeightsRequested(at=NOW, weights={"blue": 0.0}, counts={}),
    )
    assert (job.status, commands) == (JobStatus.IN_SERVICE, [])
    assert {it.name: it.weight for it in job.spec.variants} == {"blue": 0.0, "green": 1.0}


def test_capacity_grows_and_shrinks() -> None:
    """More instances are started, surplus ones stopped."""
    job, commands = play(endpoint(), SCHEDULED, ready(0), WeightsRequested(at=NOW, weights={}, counts={"blue": 3}))
    assert commands == [StartInstance(index=1, attempt=1), StartInstance(index=2, attempt=1)]
    job, _ = play(job, ready(1), ready(2))
    assert job.status is JobStatus.IN_SERVICE
    job, commands = play(job, WeightsRequested(at=NOW, weights={}, counts={"blue": 1}))
    assert commands == [StopInstance(index=1), StopInstance(index=2)]
    assert job.status is JobStatus.IN_SERVICE


def test_a_deleted_endpoint_is_forgotten_when_all_instances_are_gone() -> None:
    """The record goes last."""
    job, commands = play(endpoint(blue=2), SCHEDULED, ready(0), ready(1), DeleteRequested(at=NOW))
    assert (job.status, commands) == (JobStatus.DELETING, [StopInstance(index=0), StopInstance(index=1)])
    job, _ = play(job, gone(0))
    _, commands = play(job, InstanceLost(at=NOW, index=1, attempt=1))
    assert commands == [RemoveWork(), ForgetJob()]


def test_an_update_of_a_creating_endpoint_is_illegal() -> None:
    """There is nothing in service to replace."""
    with pytest.raises(IllegalTransition):
        play(endpoint(), SCHEDULED, UpdateRequested(at=NOW, spec=spec("c2")))


def test_an_update_of_a_failed_endpoint_that_fails_again_leaves_it_failed() -> None:
    """An endpoint without one instance is not in service."""
    job, _ = play(endpoint(), SCHEDULED, gone(0, reason="no licence"))
    assert job.status is JobStatus.FAILED
    job, _ = play(job, UpdateRequested(at=NOW, spec=spec("c2", {"green": 1})))
    assert job.status is JobStatus.UPDATING
    job, _ = play(job, gone(1, reason="still no licence"))
    assert (job.status, job.failure_reason) == (JobStatus.FAILED, "still no licence")


def test_growth_that_fails_is_rolled_back() -> None:
    """The instances in service stay, the counts are the old ones, and another change is possible."""
    grow = WeightsRequested(at=NOW, weights={}, counts={"blue": 3})
    job, _ = play(endpoint(), SCHEDULED, ready(0), grow, ready(1))
    job, commands = play(job, gone(2, reason="out of memory"))
    assert (job.status, job.failure_reason) == (JobStatus.IN_SERVICE, "out of memory")
    assert [variant.instance_count for variant in job.spec.variants] == [1]
    assert StopInstance(index=1) in commands
    assert [it.index for it in serving_instances(job)] == [0]
    job, _ = play(job, grow)
    assert job.status is JobStatus.UPDATING


def test_a_change_that_fails_takes_no_instance_away() -> None:
    """What another variant gives up goes only when the whole change is done."""
    job, _ = play(endpoint(blue=2, green=1), SCHEDULED, ready(0), ready(1), ready(2))
    shift = WeightsRequested(at=NOW, weights={}, counts={"blue": 1, "green": 2})
    job, commands = play(job, shift)
    assert commands == [StartInstance(index=3, attempt=1)]
    failed, _ = play(job, gone(3, reason="no room"))
    assert [it.index for it in serving_instances(failed)] == [0, 1, 2]
    done, commands = play(job, ready(3))
    assert commands == [StopInstance(index=1)]
    assert [it.index for it in serving_instances(done)] == [0, 2, 3]


def test_failures_are_counted_since_the_instance_was_last_ready() -> None:
    """An instance that was started anew by many restarts of the server is not one that keeps failing."""
    job, _ = play(endpoint(), SCHEDULED, ready(0))
    for attempt in range(1, 5):
        job, _ = play(job, InstanceLost(at=NOW, index=0, attempt=attempt))
        assert job.instances[0].failures == 1
        job, _ = play(job, ready(0, attempt=attempt + 1))
        assert job.instances[0].failures == 0
