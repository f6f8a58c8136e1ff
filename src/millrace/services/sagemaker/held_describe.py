"""Hold a Describe answer for a moment while a job is about to end.

The SDK's log loop describes every 30 seconds, the waiters of boto3 and the AWS CLI every 60 or 120: a job of six
seconds would cost them a minute or two. So an answer to such a client waits for the end of the job.

Source:
    containers.md 2.9, "held describe".
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, TypeVar

from millrace.jobs.job import Job
from millrace.protocol.message import Context
from millrace.services.sagemaker.backends import Backends

__all__ = ["find_patiently", "hold_for_patient_clients"]

J = TypeVar("J", bound=Job)
Find = Callable[[Backends, Context, str], Awaitable[tuple[J, Mapping[str, Any]]]]

SDK_YOUNG = timedelta(seconds=60)
SDK_HOLD_SECONDS = 10.0
"""The SDK shows no log lines while it waits for an answer: only young jobs are held for it, and not for long."""

WAITER_HOLD_SECONDS = 45.0
"""A waiter has nothing else to do; botocore gives an answer 60 seconds."""

_SDK = "AWS-SageMaker-Python-SDK"
_WAITER = re.compile(r"\bm/(?:[^ ]*,)?B(?:,|\s|$)")
"""botocore marks calls of its waiters with the feature B in its user agent's list `m/...`."""


async def find_patiently(find: Find[J], backends: Backends, context: Context, name: str) -> tuple[J, Mapping[str, Any]]:
    """Return a job and its request: as they are now or, for a client that waits for the job's end, after the hold."""
    found = await find(backends, context, name)
    job, _ = found
    if job.is_terminal:
        return found
    await hold_for_patient_clients(backends, context, job)
    return await find(backends, context, job.name)


async def hold_for_patient_clients(backends: Backends, context: Context, job: Job) -> None:
    """Return once the job is terminal, or at once for callers that will soon ask again, or after the hold."""
    if job.is_terminal:
        return
    agent = context.request.header("user-agent") or ""
    if _WAITER.search(agent):
        await backends.wait_for_end(job.id, WAITER_HOLD_SECONDS)
    elif _SDK in agent and backends.clock.now() - job.created_at < SDK_YOUNG:
        await backends.wait_for_end(job.id, SDK_HOLD_SECONDS)
