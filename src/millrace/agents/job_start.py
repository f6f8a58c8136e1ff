"""Tell when a job started, as Describe will tell it, before anybody has noted it in the job."""

from datetime import datetime

from millrace.jobs.job import InstanceStarted
from millrace.ports.jobs import JobStore

__all__ = ["find_job_start"]


async def find_job_start(jobs: JobStore, job_id: int) -> datetime | None:
    """Return the start of a job, or None if none of its instances has reported.

    It is what the first report says; events are applied in the order in which they were posted. Reports that wait are
    looked at before the job: one that is applied in between is then found there.
    """
    waiting = [
        posted.event.at
        for posted in await jobs.list_posted()
        if posted.job_id == job_id and isinstance(posted.event, InstanceStarted)
    ]
    started_at = (await jobs.get_by_id(job_id)).started_at
    return started_at or next(iter(waiting), None)
