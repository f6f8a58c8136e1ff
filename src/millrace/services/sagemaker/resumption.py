"""Find the transform job that a new one asks to go on with, and refuse it if it can't."""

from collections.abc import AsyncIterator
from datetime import datetime

from millrace.errors import ValidationError
from millrace.jobs.endpoint import ModelContainer
from millrace.jobs.job import JobKind, ResumedJob, TransformJob
from millrace.jobs.resumption import MEMBER, check_resumption, resumed_jobs
from millrace.jobs.transform_options import job_options
from millrace.names import ObjectPrefix, ObjectRef
from millrace.ports.jobs import NoSuchJob
from millrace.ports.objects import ObjectInfo, ObjectStore, ObjectStoreError
from millrace.services.sagemaker.backends import Backends

__all__ = ["find_resumed"]


async def find_resumed(backends: Backends, job: TransformJob) -> tuple[ResumedJob, ...]:
    """Return what a job goes on with, the latest first; nothing if it does not ask for it.

    Raises:
        ValidationError: There is no such job, or it would not make the same outputs.
    """
    name = job_options(job.spec.environment).resume_from
    if name is None:
        return ()
    try:
        earlier = await backends.jobs.get(JobKind.TRANSFORM, job.region, name)
    except NoSuchJob:
        raise ValidationError(f'{MEMBER}: there is no transform job "{name}" in {job.region}.') from None
    assert isinstance(earlier, TransformJob), "of that kind"
    check_resumption(job, earlier)
    for container in job.containers:
        await _check_model_data(backends.objects, container, earlier)
    return resumed_jobs(earlier)


async def _check_model_data(objects: ObjectStore, container: ModelContainer, earlier: TransformJob) -> None:
    """Refuse model data that was written after the earlier job was made: its model was perhaps another one."""
    if container.data is None:
        return
    found = [info async for info in _objects(objects, container)]
    latest: datetime | None = max((info.modified_at for info in found), default=None)
    if latest is not None and latest > earlier.created_at:
        raise ValidationError(
            f"{MEMBER}: the model data {container.data.uri} must be as they were when the job that is resumed was "
            f'made. They were written at {latest.isoformat()}, and "{earlier.name}" was made at '
            f"{earlier.created_at.isoformat()}."
        )


async def _objects(objects: ObjectStore, container: ModelContainer) -> AsyncIterator[ObjectInfo]:
    """Yield what a model's data consist of; what is missing is told when the container starts."""
    data = container.data
    assert data is not None, "asked only of containers with model data"
    try:
        if not data.is_prefix:
            yield await objects.get(ObjectRef.parse(data.uri))
            return
        prefix, after = ObjectPrefix.parse(data.uri), ""
        while True:
            page = await objects.list_objects(prefix.bucket, prefix=prefix.prefix, after=after, limit=1000)
            for info in page.objects:
                yield info
            if page.next_after is None:
                return
            after = page.next_after
    except (ObjectStoreError, ValueError):
        return
