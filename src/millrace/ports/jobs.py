"""JobStore: jobs, their instances and what happened to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from millrace.jobs.job import Event, Job, JobKind, JobStatus
from millrace.moments import from_micros

__all__ = [
    "AgentRecord",
    "InstanceRef",
    "JobExists",
    "JobPage",
    "JobQuery",
    "JobStore",
    "JobSummary",
    "NoSuchJob",
    "OpenJob",
    "Posted",
    "SortBy",
    "StaleJob",
    "UnreadableJob",
]

SortBy = str
"""One of "name", "created_at", "status"."""


class NoSuchJob(Exception):
    """There is no such job."""


class JobExists(Exception):
    """The kind has a job of that name in the region; `arn` is its ARN."""

    def __init__(self, arn: str) -> None:
        super().__init__(arn)
        self.arn = arn


class StaleJob(Exception):
    """The job was moved by somebody else since it was read; nothing was saved."""


class UnreadableJob(Exception):
    """The job's record is of another release, or damaged; the text says which and why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceRef:
    """One attempt of one instance: the fencing token of its agent."""

    job_id: int
    index: int
    attempt: int


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentRecord:
    """What an agent keeps telling about itself."""

    ref: InstanceRef
    agent_id: str
    process_id: int
    process_start: int
    """When the process started, as its machine counts; tells it from a later one with the same number."""
    host: str
    registered_at: datetime
    heartbeat_at: datetime
    stop_wanted: bool
    progress: Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Posted:
    """An event that an agent or a handler posted, not yet applied; `event` is None for one that can't be read."""

    id: int
    job_id: int
    event: Event | None


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenJob:
    """A job that is not over: which version it has, and which server starts and watches its agents (None: none yet)."""

    id: int
    kind: JobKind
    version: int
    owner: str | None


class JobSummary(NamedTuple):  # a page has a hundred: a frozen dataclass takes five times as long to make
    """One entry of a listing, as it is stored: times in microseconds since the epoch, the status by its value."""

    name: str
    arn: str
    stored_status: str
    created_micros: int
    modified_micros: int
    ended_micros: int | None
    failure_reason: str | None
    id: int

    @property
    def status(self) -> JobStatus:
        return JobStatus(self.stored_status)

    @property
    def created_at(self) -> datetime:
        return from_micros(self.created_micros)

    @property
    def modified_at(self) -> datetime:
        return from_micros(self.modified_micros)

    @property
    def ended_at(self) -> datetime | None:
        return None if self.ended_micros is None else from_micros(self.ended_micros)


@dataclass(frozen=True, kw_only=True, slots=True)
class JobQuery:
    """Which jobs to list; all conditions must hold, time bounds are exclusive."""

    kind: JobKind
    region: str
    name_contains: str | None = None
    status: JobStatus | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    modified_after: datetime | None = None
    modified_before: datetime | None = None
    sort_by: SortBy = "created_at"
    descending: bool = True
    limit: int = 10
    after: tuple[Any, int] | None = None
    """Sort value and id of the last entry of the page before."""


@dataclass(frozen=True, kw_only=True, slots=True, weakref_slot=True, eq=False)
class JobPage:
    """One page of a listing; `after` continues it if there is more.

    It is never changed: who is given the very same page again may use again what was made of it, and may keep that for
    as long as the page is alive.
    """

    summaries: Sequence[JobSummary]
    after: tuple[Any, int] | None = None


class JobStore(Protocol):
    """Jobs by kind, region and name. Safe for many processes at a time; every method is one transaction.

    Only schedulers save jobs; handlers and agents post events. Of several schedulers any may apply an event, but agents
    are started and watched by the one whose server owns the job.
    """

    async def add(self, kind: JobKind, job: Job, request: Mapping[str, Any]) -> Job:
        """Insert a new job and return it with its id. `request` is echoed by Describe. Raises JobExists."""
        ...

    async def get(self, kind: JobKind, region: str, name: str) -> Job:
        """Return a job; raises NoSuchJob."""
        ...

    async def get_with_request(self, kind: JobKind, region: str, name: str) -> tuple[Job, Mapping[str, Any]]:
        """Return a job and the request that made it, which nobody changes; raises NoSuchJob."""
        ...

    async def get_by_id(self, job_id: int) -> Job:
        """Return a job; raises NoSuchJob or UnreadableJob."""
        ...

    async def list_jobs(self, query: JobQuery) -> JobPage: ...

    async def list_unfinished(self) -> list[int]:
        """Return the ids of all jobs that are not terminal, oldest first (endpoints included)."""
        ...

    async def list_open(self) -> list[OpenJob]:
        """Return the same jobs with what a scheduler has to know of each before it reads it."""
        ...

    async def save(self, job: Job, applied: Sequence[int] = (), *, owner: str | None = None) -> Job:
        """Save a job that moved, and mark the posted events that moved it; return it with its new version.

        Args:
            job: As it is now; its version is the one that it had when it was read.
            applied: The events that moved it.
            owner: The server that claims it with this move.

        Raises:
            StaleJob: Another move was first, or another server's claim, or an event was applied already.
        """
        ...

    async def forget(self, job_id: int) -> None:
        """Delete a job's record and all about it."""
        ...

    async def update_request(self, job_id: int, members: Mapping[str, Any]) -> None:
        """Replace members of the request that Describe echoes."""
        ...

    async def post(self, job_id: int, event: Event, *, by: InstanceRef | None = None) -> None:
        """Add an event to be applied in order; `by` refuses it (LeaseLost) unless that attempt is still the latest."""
        ...

    async def list_posted(self) -> list[Posted]:
        """Return the events that wait to be applied, oldest first."""
        ...

    async def history(self, job_id: int) -> list[tuple[datetime, str, Mapping[str, Any]]]:
        """Return the applied events of a job: time, type, document."""
        ...

    async def open_instance(self, ref: InstanceRef) -> None:
        """Make room for an agent to register; closes all earlier attempts. Harmless when repeated."""
        ...

    async def register_agent(
        self, ref: InstanceRef, *, agent_id: str, process_id: int, process_start: int, host: str
    ) -> bool:
        """Take an opened attempt for an agent; False if another agent has it or it is closed."""
        ...

    async def heartbeat(self, ref: InstanceRef, agent_id: str, progress: Mapping[str, Any] | None) -> bool:
        """Renew an agent's lease and report progress; return whether it is wanted to stop.

        Raises LeaseLost if the attempt is closed or another agent has it.
        """
        ...

    async def is_stop_wanted(self, ref: InstanceRef) -> bool:
        """Return whether the instance is to stop; cheap enough to ask often."""
        ...

    async def want_stop(self, job_id: int, index: int) -> None:
        """Tell an instance's agent, present or to come, to stop."""
        ...

    async def get_agent(self, ref: InstanceRef) -> AgentRecord | None:
        """Return the agent at work on an attempt, or None."""
        ...

    async def list_agents(self, job_id: int) -> list[AgentRecord]:
        """Return the newest agent record of each instance of a job, by index, also after its end."""
        ...

    async def list_agents_of_server(self, owner: str) -> list[AgentRecord]:
        """Return the agents at work on the jobs of a server, in any order."""
        ...

    async def wait_for_change(self, timeout_seconds: float) -> bool:
        """Return True as soon as somebody (in any process) has changed the store, False after the timeout."""
        ...
