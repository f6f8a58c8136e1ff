"""The lifecycle of jobs that end: transform, training and processing.

          create
            |
        IN_PROGRESS ---- every instance finished well -------------> COMPLETED
            |   |  \\---- one failed, or objects failed -------------> FAILED
            |   |         (the other instances are stopped first)
            |   StopRequested
            |   v
            | STOPPING ---- every instance finished -----------------> STOPPED
            |   \\---------- all had finished well before they knew --> COMPLETED
            |
       Scheduled: instances WAITING -> STARTING; InstanceStarted: RUNNING; InstanceFinished: DONE.
       InstanceLost: STARTING again under the next attempt, until the attempts are used up; then FAILED.

Everything that moves a transform, training or processing job is in this module.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from millrace.errors import FAILURE_REASON_LIMIT
from millrace.jobs.job import (
    Command,
    Event,
    IllegalTransition,
    Instance,
    InstanceFinished,
    InstanceLost,
    InstanceStarted,
    InstanceState,
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
    Transition,
)
from millrace.jobs.transform import transform_failure_reason
from millrace.jobs.transform_options import job_options

__all__ = ["MESSAGES", "advance", "enter"]

Moved = tuple[Job, Sequence[Command]]

MESSAGES = {
    SecondaryStatus.STARTING: "Preparing the instances for training",
    SecondaryStatus.DOWNLOADING: "Downloading input data",
    SecondaryStatus.TRAINING: "Training image download completed. Training in progress.",
    SecondaryStatus.UPLOADING: "Uploading generated training model",
    SecondaryStatus.STOPPING: "Stopping the training job",
    SecondaryStatus.COMPLETED: "Training job completed",
    SecondaryStatus.STOPPED: "Training job stopped",
    SecondaryStatus.MAX_RUNTIME_EXCEEDED: "Training job runtime exceeded MaxRuntimeInSeconds provided",
    SecondaryStatus.RESTARTING: "Restarting the training job: its agent was lost",
}
"""What the SDK prints at each stage. Source: containers.md 2.9."""

_INTERNAL = "InternalServerError: We encountered an internal error.  Please try again."


def advance(job: Job, event: Event, *, max_attempts: int) -> Moved:
    """Return the job after an event, and what is to be done."""
    try:
        move = _MOVES[job.status, type(event)]
    except KeyError:
        raise IllegalTransition(job, event) from None
    return move(job, event, max_attempts)


def enter(job: TrainingJob, status: SecondaryStatus, at: datetime, message: str | None = None) -> TrainingJob:
    """Return the job with one more secondary status; the one before ends where this one starts."""
    if job.transitions and job.transitions[-1].status is status:
        return job
    at = max([at, *(entry.started_at for entry in job.transitions[-1:])])
    closed = tuple(entry if entry.ended_at else replace(entry, ended_at=at) for entry in job.transitions)
    opened = Transition(status=status, started_at=at, message=message if message is not None else MESSAGES[status])
    return replace(job, secondary=status, transitions=(*closed, opened), modified_at=at)


def _schedule(job: Job, event: Scheduled, max_attempts: int) -> Moved:
    if any(instance.state is not InstanceState.WAITING for instance in job.instances):
        return job, ()
    instances = tuple(replace(entry, state=InstanceState.STARTING, attempt=1) for entry in job.instances)
    starts = [StartInstance(index=entry.index, attempt=1) for entry in instances]
    return replace(job, instances=instances, modified_at=event.at), starts


def _instance_started(job: Job, event: InstanceStarted, max_attempts: int) -> Moved:
    instance = _current(job, event)
    if instance is None or instance.state is not InstanceState.STARTING:
        return job, ()
    moved = _with_instance(job, replace(instance, state=InstanceState.RUNNING))
    return replace(moved, started_at=job.started_at or event.at, modified_at=event.at), ()


def _stage_entered(job: Job, event: StageEntered, max_attempts: int) -> Moved:
    if _current(job, event) is None or not isinstance(job, TrainingJob):
        return job, ()
    return enter(job, event.stage, event.at), ()


def _instance_finished(job: Job, event: InstanceFinished, max_attempts: int) -> Moved:
    instance = _current(job, event)
    if instance is None or instance.state is InstanceState.DONE:
        return job, ()
    done = replace(
        instance,
        state=InstanceState.DONE,
        outcome=event.outcome,
        training=event.training,
        processing=event.processing,
    )
    reason = event.failure_reason
    if reason is None and done.ending is not None:
        reason = done.ending.failure_reason
    done = replace(done, failure_reason=reason)
    return _settle(_with_instance(job, done), event.at)


def _instance_lost(job: Job, event: InstanceLost, max_attempts: int) -> Moved:
    instance = _current(job, event)
    if instance is None or instance.state is InstanceState.DONE:
        return job, ()
    if job.status is JobStatus.STOPPING or instance.state is InstanceState.STOPPING:
        return _settle(_with_instance(job, replace(instance, state=InstanceState.DONE)), event.at)
    if event.final or instance.attempt >= max_attempts:
        reason = f"{_INTERNAL} The agent was lost {instance.attempt} times. {event.detail}".strip()
        done = replace(instance, state=InstanceState.DONE, failure_reason=reason[:FAILURE_REASON_LIMIT])
        return _settle(_with_instance(job, done), event.at)
    again = replace(instance, state=InstanceState.STARTING, attempt=instance.attempt + 1)
    moved = _with_instance(job, again)
    if isinstance(moved, TrainingJob):
        moved = enter(moved, SecondaryStatus.RESTARTING, event.at)
    return moved, [StartInstance(index=again.index, attempt=again.attempt)]


def _stop(job: Job, event: StopRequested, max_attempts: int) -> Moved:
    moved = replace(job, status=JobStatus.STOPPING, modified_at=event.at)
    if isinstance(moved, TrainingJob):
        moved = enter(moved, SecondaryStatus.STOPPING, event.at)
    waiting, busy = [], []
    for instance in job.instances:
        if instance.state is InstanceState.WAITING:
            waiting.append(replace(instance, state=InstanceState.DONE))
        elif instance.state is not InstanceState.DONE:
            busy.append(instance)
    for instance in waiting:
        moved = _with_instance(moved, instance)
    if not busy:
        return _settle(moved, event.at)
    return moved, [StopInstance(index=instance.index) for instance in busy]


def _settle(job: Job, at: datetime) -> Moved:
    """End the job if all of its instances have; else stop the others of a failed one."""
    busy = [instance for instance in job.instances if instance.state is not InstanceState.DONE]
    failed = next((instance for instance in job.instances if instance.failure_reason is not None), None)
    if busy:
        if failed is None:
            return replace(job, modified_at=at), ()
        moved: Job = job
        for instance in busy:
            moved = _with_instance(moved, replace(instance, state=InstanceState.STOPPING))
        return replace(moved, modified_at=at), [StopInstance(index=instance.index) for instance in busy]
    status, reason = _verdict(job, failed)
    ended = replace(job, status=status, failure_reason=reason, ended_at=at, modified_at=at)
    if isinstance(ended, TrainingJob):
        ended = _end_training(ended, at)
    if isinstance(ended, ProcessingJob):
        ended = _end_processing(ended)
    return ended, [RemoveWork()]


def _verdict(job: Job, failed: Instance | None) -> tuple[JobStatus, str | None]:
    if failed is not None:
        if job.status is JobStatus.STOPPING and failed.ending is not None:
            # A container that ends with an error because it was told to stop does not make the stop a failure.
            return JobStatus.STOPPED, None
        return JobStatus.FAILED, failed.failure_reason
    if job.status is JobStatus.STOPPING and not all(_went_through(instance) for instance in job.instances):
        return JobStatus.STOPPED, None
    if any(instance.ending is not None and instance.ending.stopped for instance in job.instances):
        return JobStatus.STOPPED, None
    allowed = job_options(job.spec.environment).failures_allowed if isinstance(job, TransformJob) else None
    reason = transform_failure_reason([it.outcome for it in job.instances if it.outcome is not None], allowed)
    if reason is not None:
        return JobStatus.FAILED, reason
    return JobStatus.COMPLETED, None


def _went_through(instance: Instance) -> bool:
    """Whether an instance did all of its work, stop or no stop."""
    if instance.outcome is not None:
        return not instance.outcome.stopped
    return instance.ending is not None and not instance.ending.stopped


def _end_training(job: TrainingJob, at: datetime) -> TrainingJob:
    outcome = next((entry.training for entry in job.instances if entry.training is not None), None)
    moved = replace(job, model=outcome.model, metrics=outcome.metrics) if outcome is not None else job
    if moved.status is JobStatus.FAILED:
        return enter(moved, SecondaryStatus.FAILED, at, moved.failure_reason)
    if moved.status is JobStatus.STOPPED:
        limit = outcome is not None and outcome.time_limit_reached
        return enter(moved, SecondaryStatus.MAX_RUNTIME_EXCEEDED if limit else SecondaryStatus.STOPPED, at)
    return enter(moved, SecondaryStatus.COMPLETED, at)


def _end_processing(job: ProcessingJob) -> ProcessingJob:
    outcome = next((entry.processing for entry in job.instances if entry.processing is not None), None)
    return job if outcome is None else replace(job, exit_message=outcome.exit_message)


def _current(job: Job, event: InstanceStarted | StageEntered | InstanceFinished | InstanceLost) -> Instance | None:
    """Return the event's instance, or None if the event is of an earlier attempt."""
    instance = job.instance(event.index)
    return instance if instance is not None and instance.attempt == event.attempt else None


def _with_instance(job: Job, instance: Instance) -> Job:
    return replace(job, instances=tuple(instance if it.index == instance.index else it for it in job.instances))


def _ignore(job: Job, event: Event, max_attempts: int) -> Moved:
    return job, ()


_MOVES: dict[tuple[JobStatus, type], Callable[..., Moved]] = {
    (JobStatus.IN_PROGRESS, Scheduled): _schedule,
    (JobStatus.IN_PROGRESS, InstanceStarted): _instance_started,
    (JobStatus.IN_PROGRESS, StageEntered): _stage_entered,
    (JobStatus.IN_PROGRESS, InstanceFinished): _instance_finished,
    (JobStatus.IN_PROGRESS, InstanceLost): _instance_lost,
    (JobStatus.IN_PROGRESS, StopRequested): _stop,
    (JobStatus.STOPPING, InstanceStarted): _instance_started,
    (JobStatus.STOPPING, StageEntered): _ignore,
    (JobStatus.STOPPING, InstanceFinished): _instance_finished,
    (JobStatus.STOPPING, InstanceLost): _instance_lost,
    (JobStatus.STOPPING, Scheduled): _ignore,
    # What an agent still reports after the end changes nothing.
    **{
        (status, event): _ignore
        for status in (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.STOPPED)
        for event in (InstanceStarted, StageEntered, InstanceFinished, InstanceLost, Scheduled)
    },
}
