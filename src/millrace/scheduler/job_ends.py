"""Let callers wait for the end of a job, whichever server moves it.

An endpoint that is deleted has come to its end when its record is gone. Between its last move and that its files are
removed, which may take a while: whoever is let go then is told that it is Deleting, and asks again half a minute later.
"""

import asyncio

from millrace.jobs.job import Job, JobStatus
from millrace.ports.jobs import JobStore, NoSuchJob, UnreadableJob

__all__ = ["JobEnds"]


class JobEnds:
    """Those who wait, by job."""

    def __init__(self, jobs: JobStore) -> None:
        self._jobs = jobs
        self._waiting: dict[int, set[asyncio.Event]] = {}

    def note(self, job: Job) -> None:
        """Wake those who wait for a job, if it has come to its end."""
        if job.id in self._waiting and _is_settled(job):
            self._wake(job.id)

    def note_forgotten(self, job_id: int) -> None:
        """Wake those who wait for a job whose record is gone."""
        self._wake(job_id)

    async def look(self) -> None:
        """Read the jobs that are waited for: other servers may have moved them."""
        for job_id in list(self._waiting):
            await self._look_at(job_id)

    async def wait(self, job_id: int, seconds: float) -> None:
        """Return once the job has come to its end, or after a time."""
        end = asyncio.Event()
        waiting = self._waiting.setdefault(job_id, set())
        waiting.add(end)
        try:
            async with asyncio.timeout(seconds):
                await self._look_at(job_id)  # it may have ended since the caller read it
                await end.wait()
        except TimeoutError:
            pass
        finally:
            waiting.discard(end)
            if not waiting:
                self._waiting.pop(job_id, None)

    def release(self) -> None:
        """Let all go: the server is about to end."""
        for job_id in list(self._waiting):
            self._wake(job_id)

    async def _look_at(self, job_id: int) -> None:
        try:
            self.note(await self._jobs.get_by_id(job_id))
        except (NoSuchJob, UnreadableJob):
            self._wake(job_id)

    def _wake(self, job_id: int) -> None:
        for end in self._waiting.get(job_id, ()):
            end.set()


def _is_settled(job: Job) -> bool:
    """Whether what a client may wait for has come: a job's end, an endpoint in service or failed."""
    return job.is_terminal or job.status is JobStatus.IN_SERVICE
