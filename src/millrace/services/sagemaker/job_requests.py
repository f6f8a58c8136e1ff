"""What Create, Stop and Delete do alike for all jobs that end."""

from collections.abc import Mapping
from typing import Any

from millrace.errors import DiskFull, ResourceInUse, StoreFull, ValidationError
from millrace.jobs.job import Job, JobKind, JobStatus, StopRequested
from millrace.ports.jobs import JobExists
from millrace.protocol.message import Context
from millrace.services.sagemaker.backends import Backends
from millrace.services.sagemaker.tags import delete_all_tags, set_tags

__all__ = ["add_job", "delete_job", "require_in_progress", "stop_job"]


async def add_job(
    backends: Backends, context: Context, kind: JobKind, job: Job, request: Mapping[str, Any], params: Mapping[str, Any]
) -> None:
    """Store a new job with the request that Describe echoes, and its tags.

    Raises:
        DiskFull: There is no room for it.
        ResourceInUse: The name is taken.
    """
    try:
        await backends.jobs.add(kind, job, {key: value for key, value in request.items() if key != "Tags"})
    except JobExists as exc:
        words = _words(kind)
        raise ResourceInUse(
            f"{words.capitalize()} names must be unique within an AWS account and region, and a {words} with this "
            f"name already exists ({exc.arn})"
        ) from None
    except StoreFull as exc:
        raise DiskFull from exc
    await set_tags(backends.documents, context.region, str(job.arn), params.get("Tags"))


def require_in_progress(kind: JobKind, job: Job) -> None:
    """Refuse what can be asked of a job at work only."""
    if job.status is not JobStatus.IN_PROGRESS:
        raise ValidationError(f"The request was rejected because the {_words(kind)} is in status {job.status.value}.")


async def stop_job(backends: Backends, kind: JobKind, job: Job) -> None:
    """Stop a job at work; a Describe that follows sees it."""
    require_in_progress(kind, job)
    await backends.jobs.post(job.id, StopRequested(at=backends.clock.now()))
    await backends.pump()


async def delete_job(backends: Backends, kind: JobKind, job: Job) -> None:
    """Forget a job that has ended, and its tags.

    Raises:
        ResourceInUse: It has not ended.
    """
    if not job.is_terminal:
        raise ResourceInUse(
            f"{_words(kind).capitalize()} {job.arn} is in status {job.status.value}; stop it before deleting it."
        )
    await backends.jobs.forget(job.id)
    await delete_all_tags(backends.documents, job.region, str(job.arn))


def _words(kind: JobKind) -> str:
    return kind.value.replace("-", " ")
