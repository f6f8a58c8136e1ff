"""OperationStore: what running the server takes beside moving jobs: figures over all jobs, and old records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from millrace.jobs.job import JobKind, JobStatus

__all__ = ["EndedJob", "InstanceProgress", "OperationStore", "UnfinishedJob"]


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceProgress:
    """The latest counters of one attempt of a transform job's instance."""

    job_id: int
    index: int
    attempt: int
    counters: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class EndedJob:
    """A record that nothing will change any more."""

    id: int
    kind: JobKind
    region: str
    name: str
    ended_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class UnfinishedJob:
    """A job or endpoint whose folders and logs are in use."""

    id: int
    kind: JobKind
    name: str
    status: JobStatus
    registered: int
    """Instances that have had an agent; 0 for a job that still waits."""
    working: int
    """Instances that have one."""


class OperationStore(Protocol):
    """Safe for many processes at a time; every method is one transaction."""

    async def count_jobs(self) -> Mapping[tuple[str, str], int]:
        """Count all jobs and endpoints by kind and status; takes the longer the more there are."""
        ...

    async def count_ended_jobs(self, ended_after: datetime) -> Mapping[tuple[str, str], int]:
        """Count the jobs that ended after a moment by kind and status; quick if that is not long ago."""
        ...

    async def list_transform_progress(self, ended_after: datetime) -> Sequence[InstanceProgress]:
        """Return the counters of transform instances at work, and of those whose job ended after a moment."""
        ...

    async def list_ended_jobs(
        self, before: datetime, *, after: EndedJob | None = None, limit: int = 500
    ) -> Sequence[EndedJob]:
        """Return jobs (not endpoints) that ended before a moment, by their end, after one of them."""
        ...

    async def forget_ended_job(self, job_id: int, before: datetime) -> bool:
        """Delete the record of a job that ended before a moment, its tags and all about it; False if it is none."""
        ...

    async def list_unfinished(self) -> Sequence[UnfinishedJob]:
        """Return all jobs and endpoints that the scheduler still has to do with."""
        ...

    async def count_expired_keys(self, now: datetime) -> int:
        """Return how many temporary keys have had their time."""
        ...

    async def delete_expired_keys(self, now: datetime) -> int:
        """Delete them and return how many they were."""
        ...

    async def claim_turn(self, task: str, *, now: datetime, every_seconds: float) -> bool:
        """Take a task's turn if the last one is at least so long ago: of all servers, one gets it."""
        ...
