"""Write the report of a transform job that asks for one, when the job comes to its end."""

import asyncio
import logging

from millrace.dataplane.report import job_report, write_report
from millrace.jobs.job import Job, TransformJob
from millrace.jobs.transform_options import job_options
from millrace.ports.objects import ObjectStore

__all__ = ["JobReports"]

log = logging.getLogger(__name__)

WRITE_SECONDS = 10.0
"""How long a job's end may wait for its report: no other job moves meanwhile."""


class JobReports:
    """Writes reports below the output paths of their jobs.

    A report is written before the end of its job is saved: who sees the end finds the report, and a server that is
    killed between the two leaves a job that has not ended, whose end writes the same report again.
    """

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    async def before_end(self, job: Job) -> None:
        """Write the report of a job that is about to be saved as ended, if it asks for one; trouble is logged only."""
        if not isinstance(job, TransformJob) or not job.is_terminal or not job_options(job.spec.environment).report:
            return
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await write_report(self._objects, job.spec.output, job_report(job))
        except Exception:  # whatever it is, the job has ended
            log.exception("report can't be written", extra={"job": str(job.arn)})
