"""Endpoints: create, describe, update, delete, list."""

from collections.abc import Mapping, Sequence
from typing import Any

from millrace.errors import ValidationError
from millrace.jobs.endpoint import DataCapture, EndpointSpec, Variant
from millrace.jobs.job import (
    DeleteRequested,
    EndpointJob,
    InstanceState,
    JobKind,
    JobStatus,
    UpdateRequested,
    WeightsRequested,
)
from millrace.names import sagemaker_arn
from millrace.ports.jobs import JobExists, JobSummary, NoSuchJob
from millrace.protocol.message import Context, Handler, Params, Result
from millrace.protocol.timestamps import told_micros
from millrace.services.sagemaker.backends import Backends
from millrace.services.sagemaker.endpoint_configs import resolve_endpoint_config
from millrace.services.sagemaker.endpoint_updates import check_deployment, retained
from millrace.services.sagemaker.held_describe import hold_for_patient_clients
from millrace.services.sagemaker.job_listing import list_handler
from millrace.services.sagemaker.tags import delete_all_tags, set_tags

__all__ = ["handlers"]


def handlers(backends: Backends) -> Mapping[str, Handler]:
    """Return the handlers of the endpoint operations."""
    jobs = backends.jobs

    async def create_endpoint(context: Context, params: Params) -> Result:
        name: str = params["EndpointName"]
        arn = sagemaker_arn(JobKind.ENDPOINT, name, region=context.region, account=context.account)
        spec = await resolve_endpoint_config(backends, context, params["EndpointConfigName"])
        now = backends.clock.now()
        job = EndpointJob(name=name, arn=arn, status=JobStatus.CREATING, created_at=now, modified_at=now, spec=spec)
        try:
            await jobs.add(JobKind.ENDPOINT, job, {})
        except JobExists as exc:
            raise ValidationError(f'Cannot create already existing endpoint "{exc.arn}".') from None
        await set_tags(backends.documents, context.region, str(arn), params.get("Tags"))
        return {"EndpointArn": str(arn)}

    async def describe_endpoint(context: Context, params: Params) -> Result:
        job = await _find(backends, context, params["EndpointName"])
        if job.status is not JobStatus.IN_SERVICE:
            await hold_for_patient_clients(backends, context, job)
            job = await _find(backends, context, job.name)
        return _description(job)

    async def delete_endpoint(context: Context, params: Params) -> None:
        job = await _find(backends, context, params["EndpointName"])
        if job.status is not JobStatus.DELETING:
            await jobs.post(job.id, DeleteRequested(at=backends.clock.now()))
            await delete_all_tags(backends.documents, context.region, str(job.arn))
            await backends.pump()

    async def update_endpoint(context: Context, params: Params) -> Result:
        job = await _find(backends, context, params["EndpointName"])
        check_deployment(params.get("DeploymentConfig"))
        spec = await resolve_endpoint_config(backends, context, params["EndpointConfigName"])
        _require_status(job, JobStatus.IN_SERVICE, JobStatus.FAILED)
        if params.get("RetainAllVariantProperties"):
            spec = retained(spec, job.spec, params.get("ExcludeRetainedVariantProperties") or ())
        await jobs.post(job.id, UpdateRequested(at=backends.clock.now(), spec=spec))
        await backends.pump()
        return {"EndpointArn": str(job.arn)}

    async def update_weights(context: Context, params: Params) -> Result:
        job = await _find(backends, context, params["EndpointName"])
        _require_status(job, JobStatus.IN_SERVICE)
        wanted: Sequence[Mapping[str, Any]] = params["DesiredWeightsAndCapacities"]
        for entry in wanted:
            if job.spec.variant(entry["VariantName"]) is None:
                known = ", ".join(variant.name for variant in job.spec.variants)
                raise ValidationError(
                    f"Endpoint {job.name} has no production variant {entry['VariantName']!r}; it has {known}"
                )
        event = WeightsRequested(
            at=backends.clock.now(),
            weights={it["VariantName"]: float(it["DesiredWeight"]) for it in wanted if "DesiredWeight" in it},
            counts={it["VariantName"]: it["DesiredInstanceCount"] for it in wanted if "DesiredInstanceCount" in it},
        )
        await jobs.post(job.id, event)
        await backends.pump()
        return {"EndpointArn": str(job.arn)}

    return {
        "CreateEndpoint": create_endpoint,
        "DescribeEndpoint": describe_endpoint,
        "DeleteEndpoint": delete_endpoint,
        "UpdateEndpoint": update_endpoint,
        "UpdateEndpointWeightsAndCapacities": update_weights,
        "ListEndpoints": list_handler(jobs, JobKind.ENDPOINT, "Endpoints", _summary),
    }


def _require_status(job: EndpointJob, *statuses: JobStatus) -> None:
    if job.status in (JobStatus.CREATING, JobStatus.UPDATING):
        raise ValidationError(f'Cannot update in-progress endpoint "{job.arn}": it is {job.status.value}.')
    if job.status not in statuses:
        raise ValidationError(f'Cannot update endpoint "{job.arn}" in status {job.status.value}.')


async def _find(backends: Backends, context: Context, name: str) -> EndpointJob:
    try:
        job = await backends.jobs.get(JobKind.ENDPOINT, context.region, name)
    except NoSuchJob:
        arn = sagemaker_arn(JobKind.ENDPOINT, name, region=context.region, account=context.account)
        raise ValidationError(f'Could not find endpoint "{arn}".') from None
    assert isinstance(job, EndpointJob)
    return job


def _description(job: EndpointJob) -> Result:
    return {
        "EndpointName": job.name,
        "EndpointArn": str(job.arn),
        "EndpointConfigName": job.spec.config,
        "EndpointStatus": job.status.value,
        "FailureReason": job.failure_reason,
        "ProductionVariants": [_variant(job, variant) for variant in job.spec.variants],
        "DataCaptureConfig": None if job.spec.capture is None else _capture(job.spec.capture),
        "PendingDeploymentSummary": None if job.target is None else _pending(job.target),
        "CreationTime": job.created_at,
        "LastModifiedTime": job.modified_at,
    }


def _pending(target: EndpointSpec) -> Result:
    variants = [
        {
            "VariantName": variant.name,
            "DesiredWeight": variant.weight,
            "CurrentWeight": 0.0,
            "DesiredInstanceCount": variant.instance_count,
            "CurrentInstanceCount": 0,
        }
        for variant in target.variants
    ]
    return {"EndpointConfigName": target.config, "ProductionVariants": variants}


def _capture(capture: DataCapture) -> Result:
    return {
        "EnableCapture": capture.enabled,
        "CaptureStatus": "Started" if capture.enabled else "Stopped",
        "CurrentSamplingPercentage": capture.sampling_percentage,
        "DestinationS3Uri": capture.destination,
        "KmsKeyId": capture.kms_key or "",
    }


def _variant(job: EndpointJob, variant: Variant) -> Result:
    ready = sum(
        it.variant == variant.name and it.generation == job.generation and it.state is InstanceState.READY
        for it in job.instances
    )
    description: dict[str, Any] = {
        "VariantName": variant.name,
        "DeployedImages": [
            {
                "SpecifiedImage": it.image,
                "ResolvedImage": it.resolved_image or it.image,
                "ResolutionTime": job.created_at,
            }
            for it in variant.containers
        ],
        "CurrentWeight": variant.weight,
        "DesiredWeight": variant.weight,
    }
    if variant.serverless is not None:
        description |= {"CurrentServerlessConfig": variant.serverless, "DesiredServerlessConfig": variant.serverless}
        return description
    return description | {"CurrentInstanceCount": ready, "DesiredInstanceCount": variant.instance_count}


def _summary(summary: JobSummary) -> dict[str, Any]:
    return {
        "EndpointName": summary.name,
        "EndpointArn": summary.arn,
        "CreationTime": told_micros(summary.created_micros),
        "LastModifiedTime": told_micros(summary.modified_micros),
        "EndpointStatus": summary.stored_status,
    }
