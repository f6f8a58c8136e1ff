"""Hold a Describe answer for a moment while a young job is about to end.

The SDK's log loop describes every 30 seconds: a job of six seconds would cost it most of a
minute. Within the first minute of a job an answer to such a client waits for the end, at most ten seconds.

Source:
    containers.md 2.9, "held describe".
"""

from datetime import timedelta

from millrace.jobs.job import Job
from millrace.protocol.message import Context
from millrace.services.sagemaker.backends import Backends

__all__ = ["hold_for_sdk"]

YOUNG = timedelta(seconds=60)
HOLD_SECONDS = 10.0
_PATIENT_CLIENTS = ("AWS-SageMaker-Python-SDK",)


async def hold_for_sdk(backends: Backends, context: Context, job: Job) -> None:
    """Return once a young job is terminal, if the caller is a client that would look again only much later."""
    if job.is_terminal or backends.clock.now() - job.created_at > YOUNG:
        return
    agent = context.request.header("user-agent") or ""
    if any(mark in agent for mark in _PATIENT_CLIENTS):
        await backends.wait_for_end(job.id, HOLD_SECONDS)
