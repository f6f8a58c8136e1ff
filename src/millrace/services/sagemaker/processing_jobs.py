"""Processing jobs: create, describe, stop, delete, list."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from millrace.errors import ImageUnavailable, ResourceNotFound, ValidationError
from millrace.jobs.job import Instance, JobKind, JobStatus, ProcessingJob
from millrace.names import sagemaker_arn
from millrace.ports.jobs import JobSummary, NoSuchJob
from millrace.protocol.message import Context, Handler, Params, Result
from millrace.services.sagemaker.arguments import require_bucket, require_objects
from millrace.services.sagemaker.backends import Backends
from millrace.services.sagemaker.held_describe import find_patiently
from millrace.services.sagemaker.job_listing import job_query
from millrace.services.sagemaker.job_requests import add_job, delete_job, stop_job
from millrace.services.sagemaker.paging import print_token
from millrace.services.sagemaker.processing_spec import complete_request, processing_spec

__all__ = ["handlers"]


def handlers(backends: Backends) -> Mapping[str, Handler]:
    """Return the handlers of the processing job operations."""
    jobs = backends.jobs

    async def create_processing_job(context: Context, params: Params) -> Result:
        name: str = params["ProcessingJobName"]
        request = complete_request(params)
        spec = processing_spec(request)
        try:
            backends.images.resolve(spec.image)
        except ImageUnavailable as exc:
            raise ValidationError(str(exc)) from exc
        for output in spec.outputs:
            await require_bucket(backends.objects, output.target, f"output {output.name!r}: s3Output.s3Uri")
        for entry in spec.inputs:
            await require_objects(backends.objects, entry.channel, region=context.region, role=spec.role)
        now = backends.clock.now()
        job = ProcessingJob(
            name=name,
            arn=sagemaker_arn(JobKind.PROCESSING, name, region=context.region, account=context.account),
            status=JobStatus.IN_PROGRESS,
            created_at=now,
            modified_at=now,
            spec=spec,
            instances=(Instance(index=0),),
        )
        await add_job(backends, context, JobKind.PROCESSING, job, request, params)
        return {"ProcessingJobArn": str(job.arn)}

    async def describe_processing_job(context: Context, params: Params) -> Result:
        return _description(*await find_patiently(_find, backends, context, params["ProcessingJobName"]))

    async def stop_processing_job(context: Context, params: Params) -> None:
        job, _ = await _find(backends, context, params["ProcessingJobName"])
        await stop_job(backends, JobKind.PROCESSING, job)

    async def delete_processing_job(context: Context, params: Params) -> None:
        job, _ = await _find(backends, context, params["ProcessingJobName"])
        await delete_job(backends, JobKind.PROCESSING, job)

    async def list_processing_jobs(context: Context, params: Params) -> Result:
        page = await jobs.list_jobs(job_query(JobKind.PROCESSING, context, params))
        return {
            "ProcessingJobSummaries": [await _summary(backends, context, it) for it in page.summaries],
            "NextToken": print_token(page.after, params),
        }

    return {
        "CreateProcessingJob": create_processing_job,
        "DeleteProcessingJob": delete_processing_job,
        "DescribeProcessingJob": describe_processing_job,
        "StopProcessingJob": stop_processing_job,
        "ListProcessingJobs": list_processing_jobs,
    }


async def _find(backends: Backends, context: Context, name: str) -> tuple[ProcessingJob, Mapping[str, Any]]:
    try:
        job, request = await backends.jobs.get_with_request(JobKind.PROCESSING, context.region, name)
    except NoSuchJob:
        raise ResourceNotFound(f"Could not find requested job with name: {name}") from None
    assert isinstance(job, ProcessingJob)
    return job, request


def _description(job: ProcessingJob, request: Mapping[str, Any]) -> Result:
    return {
        **request,
        "ProcessingJobArn": str(job.arn),
        "ProcessingJobStatus": job.status.value,
        "ExitMessage": job.exit_message,
        "FailureReason": job.failure_reason,
        "CreationTime": job.created_at,
        "ProcessingStartTime": job.started_at,
        "ProcessingEndTime": job.ended_at,
        "LastModifiedTime": job.modified_at,
    }


async def _summary(backends: Backends, context: Context, summary: JobSummary) -> Mapping[str, Any]:
    """Return an entry of a listing; the exit message, which other kinds have not, is looked up in the job."""
    message = None
    if summary.ended_at is not None:
        with suppress(NoSuchJob):  # deleted meanwhile
            job = await backends.jobs.get(JobKind.PROCESSING, context.region, summary.name)
            message = job.exit_message if isinstance(job, ProcessingJob) else None
    return {
        "ProcessingJobName": summary.name,
        "ProcessingJobArn": summary.arn,
        "CreationTime": summary.created_at,
        "ProcessingEndTime": summary.ended_at,
        "LastModifiedTime": summary.modified_at,
        "ProcessingJobStatus": summary.status.value,
        "FailureReason": summary.failure_reason,
        "ExitMessage": message,
    }
