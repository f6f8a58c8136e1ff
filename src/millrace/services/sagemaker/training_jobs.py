"""Training jobs: create, describe, update, stop, delete, list."""

from collections.abc import Mapping
from typing import Any

from millrace.errors import ImageUnavailable, ValidationError
from millrace.jobs.finite_lifecycle import enter
from millrace.jobs.job import Instance, JobKind, JobStatus, SecondaryStatus, TrainingJob
from millrace.jobs.training import TrainingSpec
from millrace.names import sagemaker_arn
from millrace.ports.jobs import JobSummary, NoSuchJob
from millrace.protocol.message import Context, Handler, Params, Result
from millrace.protocol.timestamps import told_micros
from millrace.services.sagemaker.arguments import require_bucket, require_objects
from millrace.services.sagemaker.backends import Backends
from millrace.services.sagemaker.held_describe import find_patiently
from millrace.services.sagemaker.job_listing import list_handler
from millrace.services.sagemaker.job_requests import add_job, delete_job, require_in_progress, stop_job
from millrace.services.sagemaker.training_spec import training_spec

__all__ = ["handlers"]


def handlers(backends: Backends) -> Mapping[str, Handler]:
    """Return the handlers of the training job operations."""
    jobs = backends.jobs

    async def create_training_job(context: Context, params: Params) -> Result:
        name: str = params["TrainingJobName"]
        arn = sagemaker_arn(JobKind.TRAINING, name, region=context.region, account=context.account)
        spec = _resolved_spec(backends, params)
        await require_bucket(backends.objects, spec.output, "outputDataConfig.s3OutputPath")
        for channel in spec.channels:
            await require_objects(backends.objects, channel, region=context.region, role=spec.role)
        now = backends.clock.now()
        job = TrainingJob(
            name=name,
            arn=arn,
            status=JobStatus.IN_PROGRESS,
            created_at=now,
            modified_at=now,
            spec=spec,
            instances=(Instance(index=0),),
        )
        await add_job(
            backends,
            context,
            JobKind.TRAINING,
            enter(job, SecondaryStatus.STARTING, now, "Starting the training job"),
            params,
            params,
        )
        return {"TrainingJobArn": str(arn)}

    async def describe_training_job(context: Context, params: Params) -> Result:
        return _description(*await find_patiently(_find, backends, context, params["TrainingJobName"]))

    async def stop_training_job(context: Context, params: Params) -> None:
        job, _ = await _find(backends, context, params["TrainingJobName"])
        await stop_job(backends, JobKind.TRAINING, job)

    async def update_training_job(context: Context, params: Params) -> Result:
        job, request = await _find(backends, context, params["TrainingJobName"])
        require_in_progress(JobKind.TRAINING, job)
        members = {key: value for key, value in params.items() if key != "TrainingJobName"}
        resources = {**(request.get("ResourceConfig") or {}), **members.pop("ResourceConfig", {})}
        await jobs.update_request(job.id, {**members, "ResourceConfig": resources})
        return {"TrainingJobArn": str(job.arn)}

    async def delete_training_job(context: Context, params: Params) -> None:
        job, _ = await _find(backends, context, params["TrainingJobName"])
        await delete_job(backends, JobKind.TRAINING, job)

    return {
        "CreateTrainingJob": create_training_job,
        "UpdateTrainingJob": update_training_job,
        "DeleteTrainingJob": delete_training_job,
        "DescribeTrainingJob": describe_training_job,
        "StopTrainingJob": stop_training_job,
        "ListTrainingJobs": list_handler(jobs, JobKind.TRAINING, "TrainingJobSummaries", _summary),
    }


def _resolved_spec(backends: Backends, params: Params) -> TrainingSpec:
    """Build the spec; an image that can't run here is refused now, not later."""
    uri = (params.get("AlgorithmSpecification") or {}).get("TrainingImage", "")
    if not uri:
        return training_spec(params, ())  # raises: it is required
    try:
        image = backends.images.resolve(uri)
    except ImageUnavailable as exc:
        raise ValidationError(str(exc)) from exc
    metrics = backends.built_in_metrics(image.built_in) if image.built_in is not None else ()
    return training_spec(params, metrics)


async def _find(backends: Backends, context: Context, name: str) -> tuple[TrainingJob, Mapping[str, Any]]:
    try:
        job, request = await backends.jobs.get_with_request(JobKind.TRAINING, context.region, name)
    except NoSuchJob:
        raise ValidationError("Requested resource not found.") from None
    assert isinstance(job, TrainingJob)
    return job, request


def _description(job: TrainingJob, request: Mapping[str, Any]) -> Result:
    """Return what Describe tells; the SDK indexes several members without looking whether they are there.

    Source:
        api-surface.md 6.1.
    """
    seconds = next((it.training.training_seconds for it in job.instances if it.training is not None), None)
    return {
        "EnableNetworkIsolation": False,
        "EnableInterContainerTrafficEncryption": False,
        "EnableManagedSpotTraining": False,
        **request,
        "TrainingJobArn": str(job.arn),
        "TrainingJobStatus": job.status.value,
        "SecondaryStatus": job.secondary.value,
        "SecondaryStatusTransitions": [
            {
                "Status": it.status.value,
                "StartTime": it.started_at,
                "EndTime": it.ended_at or (job.ended_at if job.is_terminal else None),
                "StatusMessage": it.message,
            }
            for it in job.transitions
        ],
        "FailureReason": job.failure_reason,
        "ModelArtifacts": {"S3ModelArtifacts": job.model} if job.model else None,
        "AlgorithmSpecification": {
            **request["AlgorithmSpecification"],
            "MetricDefinitions": [{"Name": it.name, "Regex": it.regex} for it in job.spec.metrics] or None,
        },
        "OutputDataConfig": {"KmsKeyId": "", "CompressionType": "GZIP", **request["OutputDataConfig"]},
        "StoppingCondition": {
            "MaxRuntimeInSeconds": job.spec.max_runtime_seconds,
            **(request.get("StoppingCondition") or {}),
        },
        "CreationTime": job.created_at,
        "TrainingStartTime": job.started_at,
        "TrainingEndTime": job.ended_at,
        "LastModifiedTime": job.modified_at,
        "FinalMetricDataList": [{"MetricName": it.name, "Value": it.value, "Timestamp": it.at} for it in job.metrics]
        or None,
        "TrainingTimeInSeconds": seconds,
        "BillableTimeInSeconds": seconds,
        "ProfilingStatus": "Disabled",
    }


def _summary(summary: JobSummary) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "TrainingJobName": summary.name,
        "TrainingJobArn": summary.arn,
        "CreationTime": told_micros(summary.created_micros),
        "LastModifiedTime": told_micros(summary.modified_micros),
        "TrainingJobStatus": summary.stored_status,
    }
    if summary.ended_micros is not None:
        entry["TrainingEndTime"] = told_micros(summary.ended_micros)
    return entry
