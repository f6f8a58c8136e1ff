"""Transform jobs: from the request to a TransformSpec, and from the job to what Describe tells."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from millrace.dataplane.listing import check_manifest, has_input
from millrace.dataplane.validate import validate_spec
from millrace.errors import ClientFailure, ImageUnavailable, ValidationError
from millrace.jobs.endpoint import ExecutionMode, ModelContainer
from millrace.jobs.job import Instance, Job, JobKind, JobStatus, TransformJob
from millrace.jobs.transform import (
    AssembleWith,
    BatchStrategy,
    Compression,
    DataCapture,
    DataProcessing,
    JoinSource,
    SourceType,
    SplitType,
    TransformSpec,
)
from millrace.names import Arn, sagemaker_arn
from millrace.ports.jobs import JobSummary, NoSuchJob
from millrace.ports.objects import ObjectStoreError
from millrace.protocol.message import Context, Handler, Params, Result
from millrace.protocol.timestamps import told_micros
from millrace.services.sagemaker.arguments import (
    environment,
    no_objects_error,
    object_prefix,
    require_bucket,
)
from millrace.services.sagemaker.backends import Backends
from millrace.services.sagemaker.held_describe import find_patiently
from millrace.services.sagemaker.job_listing import list_handler
from millrace.services.sagemaker.job_requests import add_job, stop_job
from millrace.services.sagemaker.models import execution_mode, find_model, model_containers, names_data_source
from millrace.services.sagemaker.pinned_images import pinned
from millrace.services.sagemaker.resumption import find_resumed

__all__ = ["handlers", "transform_spec"]

MIB = 1024 * 1024

_ECHOED = (
    "TransformJobName",
    "ModelName",
    "MaxConcurrentTransforms",
    "ModelClientConfig",
    "MaxPayloadInMB",
    "BatchStrategy",
    "Environment",
    "TransformResources",
    "DataCaptureConfig",
    "ExperimentConfig",
)
_NO_DATA_SOURCE = (  # SageMaker's words: batch-transform.md 1.3
    "SageMaker Batch currently doesn't support Model entity with container definitions which use ModelDataSource "
    "attribute. It is refused since MILLRACE_STRICT is on."
)
_CAPTURE_URI = "dataCaptureConfig.destinationS3Uri"


def handlers(backends: Backends) -> Mapping[str, Handler]:
    """Return the handlers of the transform job operations."""
    jobs = backends.jobs

    async def create_transform_job(context: Context, params: Params) -> Result:
        name: str = params["TransformJobName"]
        arn = sagemaker_arn(JobKind.TRANSFORM, name, region=context.region, account=context.account)
        spec = transform_spec(params)
        validate_spec(spec)
        containers = await _resolve_model(backends, context, spec.model)
        await _require_input(backends, context, params, spec)
        await require_bucket(backends.objects, spec.output, "transformOutput.s3OutputPath")
        if spec.capture is not None:
            await require_bucket(backends.objects, spec.capture.destination, _CAPTURE_URI)
        job = _new_job(backends, arn, spec, containers)
        job = replace(job, resumes=await find_resumed(backends, job))
        await add_job(backends, context, JobKind.TRANSFORM, job, params, params)
        return {"TransformJobArn": str(arn)}

    async def describe_transform_job(context: Context, params: Params) -> Result:
        return _description(*await find_patiently(_find, backends, context, params["TransformJobName"]))

    async def stop_transform_job(context: Context, params: Params) -> None:
        job, _ = await _find(backends, context, params["TransformJobName"])
        await stop_job(backends, JobKind.TRANSFORM, job)

    return {
        "CreateTransformJob": create_transform_job,
        "DescribeTransformJob": describe_transform_job,
        "StopTransformJob": stop_transform_job,
        "ListTransformJobs": list_handler(jobs, JobKind.TRANSFORM, "TransformJobSummaries", _summary),
    }


def transform_spec(params: Mapping[str, Any]) -> TransformSpec:
    """Return what a CreateTransformJob request asks for, with every default filled in."""
    source_params = params["TransformInput"]
    s3 = source_params["DataSource"].get("S3DataSource")
    if not s3:
        raise ValidationError("TransformInput.DataSource needs S3DataSource.")
    if s3["S3DataType"] not in (SourceType.PREFIX, SourceType.MANIFEST):
        raise ValidationError(
            f'S3DataType "{s3["S3DataType"]}" is not supported for transform jobs. Supported: [ManifestFile, S3Prefix].'
        )
    output = params["TransformOutput"]
    client = params.get("ModelClientConfig") or {}
    processing = params.get("DataProcessing") or {}
    payload = params.get("MaxPayloadInMB")
    strategy = params.get("BatchStrategy")
    return TransformSpec(
        model=params["ModelName"],
        source=object_prefix(s3["S3Uri"], "transformInput.dataSource.s3DataSource.s3Uri"),
        source_type=SourceType(s3["S3DataType"]),
        output=object_prefix(output["S3OutputPath"], "transformOutput.s3OutputPath"),
        split=SplitType(source_params.get("SplitType", "None")),
        compression=Compression(source_params.get("CompressionType", "None")),
        assemble_with=AssembleWith(output.get("AssembleWith", "None")),
        content_type=source_params.get("ContentType"),
        accept=output.get("Accept"),
        # 0 counts as unset: batch-transform.md 1.1
        max_concurrent_transforms=params.get("MaxConcurrentTransforms") or None,
        max_payload_bytes=None if payload is None else payload * MIB,
        strategy=None if strategy is None else BatchStrategy(strategy),
        invocation_timeout_seconds=float(client.get("InvocationsTimeoutInSeconds", 600)),
        invocation_max_retries=client.get("InvocationsMaxRetries", 3),
        processing=DataProcessing(
            input_filter=processing.get("InputFilter", "$"),
            output_filter=processing.get("OutputFilter", "$"),
            join_source=JoinSource(processing.get("JoinSource", "None")),
        ),
        instance_type=params["TransformResources"]["InstanceType"],
        instance_count=params["TransformResources"]["InstanceCount"],
        environment=environment(params),
        output_kms_key=output.get("KmsKeyId", ""),
        capture=_capture(params.get("DataCaptureConfig")),
    )


def _capture(config: Mapping[str, Any] | None) -> DataCapture | None:
    if not config:
        return None
    return DataCapture(
        destination=object_prefix(config["DestinationS3Uri"], _CAPTURE_URI),
        kms_key=config.get("KmsKeyId", ""),
        generate_inference_id=config.get("GenerateInferenceId", False),
    )


async def _resolve_model(backends: Backends, context: Context, name: str) -> tuple[ModelContainer, ...]:
    document = await find_model(backends, context, name)
    containers = model_containers(document.content)
    if backends.is_strict and names_data_source(document.content):
        raise ValidationError(_NO_DATA_SOURCE)
    if execution_mode(document.content) is ExecutionMode.DIRECT:
        raise ValidationError(
            f"Model {name} must have InferenceExecutionConfig.Mode 'Serial' for a transform job, got 'Direct': nothing "
            "in a transform job says which container a record is for."
        )
    try:
        return tuple(pinned(container, backends.images.resolve(container.image)) for container in containers)
    except ImageUnavailable as exc:
        raise ValidationError(str(exc)) from exc


async def _require_input(backends: Backends, context: Context, params: Params, spec: TransformSpec) -> None:
    try:
        found = await has_input(backends.objects, spec)
    except (ObjectStoreError, ClientFailure):
        found = False
    if not found:
        role = (await find_model(backends, context, spec.model)).content.get("ExecutionRoleArn", "")
        uri = params["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"]
        raise no_objects_error(uri, context.region, role, spec.source.bucket)
    try:
        await check_manifest(backends.objects, spec)
    except ClientFailure as exc:
        raise ValidationError(str(exc)) from exc


def _new_job(backends: Backends, arn: Arn, spec: TransformSpec, containers: tuple[ModelContainer, ...]) -> TransformJob:
    now = backends.clock.now()
    return TransformJob(
        name=arn.name,
        arn=arn,
        status=JobStatus.IN_PROGRESS,
        created_at=now,
        modified_at=now,
        spec=spec,
        containers=containers,
        instances=tuple(Instance(index=index) for index in range(spec.instance_count)),
    )


async def _find(backends: Backends, context: Context, name: str) -> tuple[Job, Mapping[str, Any]]:
    try:
        return await backends.jobs.get_with_request(JobKind.TRANSFORM, context.region, name)
    except NoSuchJob:
        arn = sagemaker_arn(JobKind.TRANSFORM, name, region=context.region, account=context.account)
        raise ValidationError(f"Could not find transform job '{arn}'.") from None


def _description(job: Job, request: Mapping[str, Any]) -> Result:
    """Return what Describe tells.

    Source:
        batch-transform.md 1.4: what was not said is told only where the service fills it in.
    """
    source, output = request["TransformInput"], request["TransformOutput"]
    return {
        **{member: request[member] for member in _ECHOED if member in request},
        "TransformJobArn": str(job.arn),
        "TransformJobStatus": job.status.value,
        "FailureReason": job.failure_reason,
        "TransformInput": {"CompressionType": "None", "SplitType": "None", **source},
        "TransformOutput": {"AssembleWith": "None", "KmsKeyId": "", **output},
        "DataProcessing": {
            "InputFilter": "$",
            "OutputFilter": "$",
            "JoinSource": "None",
            **(request.get("DataProcessing") or {}),
        },
        "CreationTime": job.created_at,
        "TransformStartTime": job.started_at,
        "TransformEndTime": job.ended_at,
    }


def _summary(summary: JobSummary) -> dict[str, Any]:
    name, arn, status, created, modified, ended, reason, _ = summary
    entry: dict[str, Any] = {
        "TransformJobName": name,
        "TransformJobArn": arn,
        "CreationTime": told_micros(created),
        "LastModifiedTime": told_micros(modified),
        "TransformJobStatus": status,
    }
    if ended is not None:
        entry["TransformEndTime"] = told_micros(ended)
    if reason is not None:
        entry["FailureReason"] = reason
    return entry
