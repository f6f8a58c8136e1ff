"""Jobs, what can happen to them, and what is to be done about it: the vocabulary of the lifecycles."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from millrace.jobs.endpoint import EndpointSpec, ModelContainer
from millrace.jobs.processing import ProcessingOutcome, ProcessingSpec
from millrace.jobs.training import MetricValue, TrainingOutcome, TrainingSpec
from millrace.jobs.transform import InstanceOutcome, TransformSpec
from millrace.moments import to_micros
from millrace.names import Arn

__all__ = [
    "TERMINAL",
    "Command",
    "DeleteRequested",
    "EndpointJob",
    "Event",
    "ForgetJob",
    "IllegalTransition",
    "Instance",
    "InstanceFinished",
    "InstanceLost",
    "InstanceReady",
    "InstanceStarted",
    "InstanceState",
    "Job",
    "JobKind",
    "JobStatus",
    "ProcessingJob",
    "RemoveWork",
    "ResumedJob",
    "Scheduled",
    "SecondaryStatus",
    "StageEntered",
    "StartInstance",
    "StopInstance",
    "StopRequested",
    "TrainingJob",
    "TransformJob",
    "Transition",
    "UpdateRequested",
    "WeightsRequested",
    "work_name",
]


class JobKind(StrEnum):
    """The kinds of long-lived work; the values are the kinds in their ARNs."""

    TRANSFORM = "transform-job"
    TRAINING = "training-job"
    PROCESSING = "processing-job"
    ENDPOINT = "endpoint"


class JobStatus(StrEnum):
    """Primary statuses, jobs' and endpoints' alike; the values are the wire's."""

    IN_PROGRESS = "InProgress"
    COMPLETED = "Completed"
    FAILED = "Failed"
    STOPPING = "Stopping"
    STOPPED = "Stopped"
    CREATING = "Creating"
    UPDATING = "Updating"
    IN_SERVICE = "InService"
    DELETING = "Deleting"


TERMINAL = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.STOPPED})
"""No event leads out of these (an endpoint that Failed can still be deleted)."""


class SecondaryStatus(StrEnum):
    """Secondary statuses of training jobs."""

    STARTING = "Starting"
    DOWNLOADING = "Downloading"
    TRAINING = "Training"
    UPLOADING = "Uploading"
    STOPPING = "Stopping"
    COMPLETED = "Completed"
    FAILED = "Failed"
    STOPPED = "Stopped"
    MAX_RUNTIME_EXCEEDED = "MaxRuntimeExceeded"
    RESTARTING = "Restarting"


class InstanceState(StrEnum):
    """What is known of one instance of a job."""

    WAITING = "Waiting"
    STARTING = "Starting"
    RUNNING = "Running"
    READY = "Ready"
    STOPPING = "Stopping"
    DONE = "Done"


@dataclass(frozen=True, kw_only=True, slots=True)
class Instance:
    """One instance: an agent and its containers. `attempt` counts its starts from 1 and fences off older agents."""

    index: int
    state: InstanceState = InstanceState.WAITING
    attempt: int = 0
    variant: str = ""
    generation: int = 0
    containers: tuple[ModelContainer, ...] = ()
    """What an endpoint's instance runs."""
    startup_timeout_seconds: float = 480.0
    download_timeout_seconds: float = 3600.0
    failures: int = 0
    """How often an endpoint's instance ended since it was last ready."""
    address: str | None = None
    outcome: InstanceOutcome | None = None
    training: TrainingOutcome | None = None
    processing: ProcessingOutcome | None = None
    failure_reason: str | None = None

    @property
    def ending(self) -> TrainingOutcome | ProcessingOutcome | None:
        """How the containers of a training or processing job ended."""
        return self.training or self.processing


@dataclass(frozen=True, kw_only=True, slots=True)
class Transition:
    """One entry of SecondaryStatusTransitions."""

    status: SecondaryStatus
    started_at: datetime
    ended_at: datetime | None = None
    message: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What all kinds have in common. `version` counts the saved moves and guards against lost updates."""

    name: str
    arn: Arn
    status: JobStatus
    created_at: datetime
    modified_at: datetime
    id: int = 0
    version: int = 0
    started_at: datetime | None = None
    ended_at: datetime | None = None
    failure_reason: str | None = None
    instances: tuple[Instance, ...] = ()

    @property
    def region(self) -> str:
        return self.arn.region

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL

    def instance(self, index: int) -> Instance | None:
        """Return the instance of that index, or None if there is none (any more)."""
        return next((instance for instance in self.instances if instance.index == index), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class ResumedJob:
    """A job whose outputs and journal another one goes on with; it may be deleted meanwhile."""

    id: int
    work: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformJob(Job):
    """A batch transform job; its containers are resolved from the model when it is created."""

    spec: TransformSpec
    containers: tuple[ModelContainer, ...]
    resumes: tuple[ResumedJob, ...] = ()
    """The job that this one goes on with, and behind it those that that one went on with."""

    @property
    def work(self) -> str:
        return work_name(self.arn, self.created_at)


def work_name(arn: Arn, created_at: datetime) -> str:
    """Return what outputs and drafts call a job: no other, not even a later one of its name, is called so."""
    return f"{arn} {to_micros(created_at)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingJob(Job):
    """A training job."""

    spec: TrainingSpec
    secondary: SecondaryStatus = SecondaryStatus.STARTING
    transitions: tuple[Transition, ...] = ()
    model: str | None = None
    metrics: tuple[MetricValue, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessingJob(Job):
    """A processing job."""

    spec: ProcessingSpec
    exit_message: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class EndpointJob(Job):
    """An endpoint: `spec` is what it serves, `target` what an update is bringing up.

    Instances carry the generation of the spec they serve; `generation` is the one in service.
    """

    spec: EndpointSpec
    target: EndpointSpec | None = None
    generation: int = 1
    next_index: int = 0
    scaled_from: EndpointSpec | None = None
    """What was served before a change of instance counts that is under way."""
    added: tuple[int, ...] = ()
    """The instances that this change adds."""


# What can happen. Events come from clients, from agents (through the store) and from the scheduler's own watch.


@dataclass(frozen=True, kw_only=True, slots=True)
class Scheduled:
    """There is room to run the job now."""

    at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceStarted:
    """An instance's agent is at work."""

    at: datetime
    index: int
    attempt: int


@dataclass(frozen=True, kw_only=True, slots=True)
class StageEntered:
    """A training job's agent entered a stage."""

    at: datetime
    index: int
    attempt: int
    stage: SecondaryStatus


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceReady:
    """An endpoint's instance answers at an address."""

    at: datetime
    index: int
    attempt: int
    address: str


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceFinished:
    """An instance's agent has ended its work and said how. `failure_reason` is a failure of the instance as a whole."""

    at: datetime
    index: int
    attempt: int
    outcome: InstanceOutcome | None = None
    training: TrainingOutcome | None = None
    processing: ProcessingOutcome | None = None
    failure_reason: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceLost:
    """An instance's agent ended, or fell silent, without saying how. `final` forbids another attempt."""

    at: datetime
    index: int
    attempt: int
    final: bool = False
    detail: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class StopRequested:
    """A client wants the job stopped."""

    at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class DeleteRequested:
    """A client wants the endpoint gone."""

    at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class UpdateRequested:
    """A client wants the endpoint to serve something else."""

    at: datetime
    spec: EndpointSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightsRequested:
    """A client wants other weights or instance counts, by variant."""

    at: datetime
    weights: dict[str, float]
    counts: dict[str, int]


Event = (
    Scheduled
    | InstanceStarted
    | StageEntered
    | InstanceReady
    | InstanceFinished
    | InstanceLost
    | StopRequested
    | DeleteRequested
    | UpdateRequested
    | WeightsRequested
)


# What is to be done. Every command follows from the saved job and may be performed again.


@dataclass(frozen=True, kw_only=True, slots=True)
class StartInstance:
    """Start an agent for this attempt of an instance, unless one is at work on it."""

    index: int
    attempt: int


@dataclass(frozen=True, kw_only=True, slots=True)
class StopInstance:
    """Tell an instance's agent to stop its containers and finish."""

    index: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RemoveWork:
    """Remove the working files of an instance, or of the whole job (index None)."""

    index: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ForgetJob:
    """Delete the job's record."""


Command = StartInstance | StopInstance | RemoveWork | ForgetJob


class IllegalTransition(Exception):
    """The event cannot happen to a job in this status."""

    def __init__(self, job: Job, event: Event) -> None:
        super().__init__(f"{type(event).__name__} cannot happen to {job.arn} in status {job.status}")
        self.job = job
        self.event = event
