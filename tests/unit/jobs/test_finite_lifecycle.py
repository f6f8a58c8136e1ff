"""The lifecycle of transform, training and processing jobs, as a play of events and commands."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.jobs.endpoint import ModelContainer
from millrace.jobs.finite_lifecycle import enter
from millrace.jobs.hosts import InstanceGroup
from millrace.jobs.job import (
    Command,
    Event,
    IllegalTransition,
    Instance,
    InstanceFinished,
    InstanceLost,
    InstanceStarted,
    Job,
    JobStatus,
    ProcessingJob,
    RemoveWork,
    Scheduled,
    SecondaryStatus,
    StageEntered,
    StartInstance,
    StopInstance,
    StopRequested,
    TrainingJob,
    TransformJob,
)
from millrace.jobs.lifecycle import advance
from millrace.jobs.processing import ProcessingOutcome, ProcessingSpec
from millrace.jobs.training import MetricValue, TrainingOutcome, TrainingSpec
from millrace.jobs.transform import InstanceOutcome, ObjectFailure, Progress, TransformSpec
from millrace.names import ObjectPrefix, sagemaker_arn

START = datetime(2026, 1, 1, tzinfo=UTC)
MAX_ATTEMPTS = 3


def at(seconds: int) -> datetime:
    return START + timedelta(seconds=seconds)


def transform_job(instances: int = 1) -> TransformJob:
    spec = TransformSpec(
        model="m", source=ObjectPrefix("b", "in/"), output=ObjectPrefix("b", "out"), instance_count=instances
    )
    return TransformJob(
        name="t",
        arn=sagemaker_arn("transform-job", "t", region="us-east-1"),
        status=JobStatus.IN_PROGRESS,
        created_at=START,
        modified_at=START,
        spec=spec,
        containers=(ModelContainer(image="knn:1"),),
        instances=tuple(Instance(index=index) for index in range(instances)),
    )


def training_job() -> TrainingJob:
    spec = TrainingSpec(
        image="knn:1",
        output=ObjectPrefix("b", "out"),
        groups=(InstanceGroup(name="g", instance_type="ml.m5.large", count=1),),
    )
    job = TrainingJob(
        name="t",
        arn=sagemaker_arn("training-job", "t", region="us-east-1"),
        status=JobStatus.IN_PROGRESS,
        created_at=START,
        modified_at=START,
        spec=spec,
        instances=(Instance(index=0),),
    )
    return enter(job, SecondaryStatus.STARTING, START)


def play(job: Job, *events: Event) -> tuple[Job, list[Command]]:
    """Apply events in order; return the job and the commands of the last one."""
    commands: Sequence[Command] = ()
    for event in events:
        job, commands = advance(job, event, max_attempts=MAX_ATTEMPTS)
    return job, list(commands)


def started(index: int = 0, attempt: int = 1, seconds: int = 2) -> InstanceStarted:
    return InstanceStarted(at=at(seconds), index=index, attempt=attempt)


def finished(index: int = 0, attempt: int = 1, *, stopped: bool = False, failures: int = 0) -> InstanceFinished:
    failed = tuple(ObjectFailure(key=f"in/{n}.csv", label="ClientError", message="400") for n in range(failures))
    progress = Progress(objects_total=4, objects_failed=failures)
    outcome = InstanceOutcome(progress=progress, failures=failed, failure_count=failures, stopped=stopped)
    return InstanceFinished(at=at(9), index=index, attempt=attempt, outcome=outcome)


SCHEDULED = Scheduled(at=at(1))


def test_scheduling_starts_every_instance() -> None:
    """A job that is scheduled starts an agent for each of its instances."""
    job, commands = play(transform_job(2), SCHEDULED)
    assert commands == [StartInstance(index=0, attempt=1), StartInstance(index=1, attempt=1)]
    assert job.status is JobStatus.IN_PROGRESS
    assert job.started_at is None


def test_the_first_agent_at_work_starts_the_clock() -> None:
    """TransformStartTime is when the first instance is at work."""
    job, _ = play(transform_job(2), SCHEDULED, started(0, seconds=2), started(1, seconds=5))
    assert job.started_at == at(2)


def test_a_job_completes_when_all_instances_have() -> None:
    """One instance's end does not end the job, the last one's does."""
    job, commands = play(transform_job(2), SCHEDULED, started(0), started(1), finished(0))
    assert job.status is JobStatus.IN_PROGRESS
    job, commands = play(job, finished(1))
    assert job.status is JobStatus.COMPLETED
    assert job.ended_at == at(9)
    assert commands == [RemoveWork()]


def test_failed_objects_fail_the_job_after_all_instances_are_through() -> None:
    """A failing object does not stop other instances; the reason counts over all of them."""
    job, commands = play(transform_job(2), SCHEDULED, started(0), started(1), finished(0, failures=1))
    assert job.status is JobStatus.IN_PROGRESS
    assert commands == []
    job, _ = play(job, finished(1))
    assert job.status is JobStatus.FAILED
    assert job.failure_reason == (
        "ClientError: See job logs for more information. 1 of 8 objects failed; first: in/0.csv: 400"
    )


def test_an_instance_that_fails_stops_the_others() -> None:
    """A failure of a whole instance, such as a container that never is healthy, ends the job."""
    failure = InstanceFinished(at=at(9), index=0, attempt=1, failure_reason="AlgorithmError: ping")
    job, commands = play(transform_job(2), SCHEDULED, started(0), started(1), failure)
    assert commands == [StopInstance(index=1)]
    job, _ = play(job, finished(1, stopped=True))
    assert (job.status, job.failure_reason) == (JobStatus.FAILED, "AlgorithmError: ping")


def test_a_lost_instance_is_started_again_under_the_next_attempt() -> None:
    """A killed agent costs an attempt, not the job."""
    lost = InstanceLost(at=at(5), index=0, attempt=1)
    job, commands = play(transform_job(), SCHEDULED, started(), lost)
    assert commands == [StartInstance(index=0, attempt=2)]
    job, _ = play(job, started(attempt=2), finished(attempt=2))
    assert job.status is JobStatus.COMPLETED


def test_an_instance_lost_too_often_fails_the_job() -> None:
    """When the attempts are used up the job fails, and says how often it was tried."""
    job, _ = play(transform_job(), SCHEDULED)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        job, _ = play(job, InstanceLost(at=at(attempt), index=0, attempt=attempt, detail="killed"))
    assert job.status is JobStatus.FAILED
    assert (job.failure_reason or "").startswith("InternalServerError: ")
    assert "lost 3 times" in (job.failure_reason or "")


def test_word_of_an_earlier_attempt_changes_nothing() -> None:
    """An agent that was given up and comes back late can't move the job."""
    job, _ = play(transform_job(), SCHEDULED, started(), InstanceLost(at=at(5), index=0, attempt=1))
    moved, commands = play(job, finished(attempt=1))
    assert moved == job
    assert commands == []


def test_a_stop_goes_through_stopping_to_stopped() -> None:
    """Stopping waits for the instances to end."""
    job, commands = play(transform_job(), SCHEDULED, started(), StopRequested(at=at(4)))
    assert (job.status, commands) == (JobStatus.STOPPING, [StopInstance(index=0)])
    job, _ = play(job, finished(stopped=True))
    assert job.status is JobStatus.STOPPED
    assert job.failure_reason is None
    assert job.ended_at == at(9)


def test_a_stop_of_a_waiting_job_is_immediate() -> None:
    """A job that never began needs nobody to stop."""
    job, commands = play(transform_job(2), StopRequested(at=at(4)))
    assert (job.status, commands) == (JobStatus.STOPPED, [RemoveWork()])


def test_a_stop_that_comes_too_late_leaves_the_job_completed() -> None:
    """If all instances had finished their work before they knew, nothing was stopped."""
    job, _ = play(transform_job(), SCHEDULED, started(), StopRequested(at=at(4)), finished())
    assert job.status is JobStatus.COMPLETED


def test_an_agent_lost_while_stopping_counts_as_stopped() -> None:
    """Nobody is started again only to be stopped."""
    job, commands = play(
        transform_job(), SCHEDULED, started(), StopRequested(at=at(4)), InstanceLost(at=at(5), index=0, attempt=1)
    )
    assert (job.status, commands) == (JobStatus.STOPPED, [RemoveWork()])


def test_a_second_stop_is_illegal() -> None:
    """A job that is stopping can't be asked to stop."""
    with pytest.raises(IllegalTransition, match="Stopping"):
        play(transform_job(), SCHEDULED, StopRequested(at=at(4)), StopRequested(at=at(5)))


def test_training_tells_its_stages() -> None:
    """Secondary statuses follow each other without gaps, and end with the primary one."""
    stages = (SecondaryStatus.DOWNLOADING, SecondaryStatus.TRAINING, SecondaryStatus.UPLOADING)
    entered = [StageEntered(at=at(3 + n), index=0, attempt=1, stage=stage) for n, stage in enumerate(stages)]
    metrics = (MetricValue(name="test:accuracy", value=0.9, at=START),)
    outcome = TrainingOutcome(model="s3://b/out/t/output/model.tar.gz", metrics=metrics)
    done = InstanceFinished(at=at(9), index=0, attempt=1, training=outcome)
    job, _ = play(training_job(), SCHEDULED, started(), *entered, done)
    assert isinstance(job, TrainingJob)
    assert [it.status for it in job.transitions] == [SecondaryStatus.STARTING, *stages, SecondaryStatus.COMPLETED]
    for entry, following in zip(job.transitions, job.transitions[1:], strict=False):
        assert entry.ended_at == following.started_at
    assert job.secondary is SecondaryStatus.COMPLETED
    assert (job.model, job.metrics) == (outcome.model, metrics)


@pytest.mark.parametrize(
    ("outcome", "status", "secondary"),
    [
        (TrainingOutcome(failure_reason="AlgorithmError: x, exit code: 1"), JobStatus.FAILED, SecondaryStatus.FAILED),
        (TrainingOutcome(stopped=True, model="s3://b/m"), JobStatus.STOPPED, SecondaryStatus.STOPPED),
        (
            TrainingOutcome(stopped=True, time_limit_reached=True),
            JobStatus.STOPPED,
            SecondaryStatus.MAX_RUNTIME_EXCEEDED,
        ),
    ],
)
def test_training_ends_as_its_containers_did(
    outcome: TrainingOutcome, status: JobStatus, secondary: SecondaryStatus
) -> None:
    """Failure, stop and time limit each have their own end."""
    job, _ = play(
        training_job(), SCHEDULED, started(), InstanceFinished(at=at(9), index=0, attempt=1, training=outcome)
    )
    assert isinstance(job, TrainingJob)
    assert (job.status, job.secondary, job.failure_reason) == (status, secondary, outcome.failure_reason)


def test_times_never_go_backwards() -> None:
    """A stage reported by a clock that is behind starts no earlier than the one before it."""
    late = StageEntered(at=START - timedelta(hours=1), index=0, attempt=1, stage=SecondaryStatus.DOWNLOADING)
    job, _ = play(training_job(), SCHEDULED, started(), late)
    assert isinstance(job, TrainingJob)
    assert [it.started_at for it in job.transitions] == [START, START]


EVENTS = st.one_of(
    st.just(SCHEDULED),
    st.just(StopRequested(at=at(4))),
    st.builds(started, st.integers(0, 2), st.integers(1, 4)),
    st.builds(
        finished,
        st.integers(0, 2),
        st.integers(1, 4),
        stopped=st.booleans(),
        failures=st.integers(min_value=0, max_value=2),
    ),
    st.builds(
        lambda index, attempt: InstanceLost(at=at(7), index=index, attempt=attempt),
        st.integers(0, 2),
        st.integers(1, 4),
    ),
)


@given(st.lists(EVENTS, max_size=30))
def test_no_event_leads_out_of_a_terminal_status(events: list[Event]) -> None:
    """Whatever happens in whatever order, an ended job stays as it ended."""
    job: Job = transform_job(2)
    for event in events:
        before = job
        try:
            job, _ = advance(job, event, max_attempts=MAX_ATTEMPTS)
        except IllegalTransition:
            continue
        if before.is_terminal:
            assert job == before
        if job.is_terminal:
            assert job.ended_at is not None
            assert (job.failure_reason is not None) == (job.status is JobStatus.FAILED)


def test_attempts_of_instances_are_counted_apart() -> None:
    """Losing one instance does not touch the other."""
    job, _ = play(transform_job(2), SCHEDULED, started(0), started(1), InstanceLost(at=at(5), index=1, attempt=1))
    assert [(it.index, it.attempt) for it in job.instances] == [(0, 1), (1, 2)]
    assert replace(job, instances=()).status is JobStatus.IN_PROGRESS


def processing_job() -> ProcessingJob:
    return ProcessingJob(
        name="p",
        arn=sagemaker_arn("processing-job", "p", region="us-east-1"),
        status=JobStatus.IN_PROGRESS,
        created_at=START,
        modified_at=START,
        spec=ProcessingSpec(image="i:1", group=InstanceGroup(name="g", instance_type="ml.m5.large", count=2)),
        instances=(Instance(index=0),),
    )


def processed(**members: str | bool) -> InstanceFinished:
    outcome = ProcessingOutcome(**members)  # type: ignore[arg-type]
    return InstanceFinished(at=at(9), index=0, attempt=1, processing=outcome)


@pytest.mark.parametrize(
    ("stop", "members", "status", "reason"),
    [
        (False, {}, JobStatus.COMPLETED, None),
        (False, {"failure_reason": "AlgorithmError: x"}, JobStatus.FAILED, "AlgorithmError: x"),
        (False, {"stopped": True}, JobStatus.STOPPED, None),
        (True, {"stopped": True}, JobStatus.STOPPED, None),
        (True, {"failure_reason": "AlgorithmError: x"}, JobStatus.STOPPED, None),
        (True, {}, JobStatus.COMPLETED, None),
    ],
)
def test_a_processing_job_ends_as_its_containers_do(
    stop: bool, members: dict[str, str | bool], status: JobStatus, reason: str | None
) -> None:
    """The exit message is told for every end; a container that a stop makes fail does not fail the job."""
    events: list[Event] = [SCHEDULED, started()]
    if stop:
        events.append(StopRequested(at=at(5)))
    job, commands = play(processing_job(), *events, processed(exit_message="bye", **members))
    assert isinstance(job, ProcessingJob)
    assert (job.status, job.failure_reason, job.exit_message) == (status, reason, "bye")
    assert (job.started_at, job.ended_at) == (at(2), at(9))
    assert commands == [RemoveWork()]


def test_a_lost_processing_job_starts_again() -> None:
    """Until the attempts are used up."""
    job, commands = play(processing_job(), SCHEDULED, InstanceLost(at=at(3), index=0, attempt=1))
    assert commands == [StartInstance(index=0, attempt=2)]
    job, _ = play(job, *(InstanceLost(at=at(4), index=0, attempt=number) for number in (2, 3)))
    assert job.status is JobStatus.FAILED
    assert (job.failure_reason or "").startswith("InternalServerError")
