"""The configuration files and variables that a processing container finds. Pure.

Source: containers.md 4.2.
"""

import json
from collections.abc import Mapping
from typing import Any

from millrace.agents.job_config import platform_environment, resource_config
from millrace.jobs.job import ProcessingJob
from millrace.jobs.processing import ProcessingSpec
from millrace.names import Arn

__all__ = ["config_files", "processing_environment"]


def config_files(job: ProcessingJob, request: Mapping[str, Any], host: str) -> dict[str, str]:
    """Return the files of /opt/ml/config for one host, by name.

    Args:
        request: The request with what the service fills in.
    """
    files = {
        "processingjobconfig.json": _job_config(job, request),
        "resourceconfig.json": resource_config((job.spec.group,), host),
    }
    return {name: json.dumps(content, ensure_ascii=False) for name, content in files.items()}


def _job_config(job: ProcessingJob, request: Mapping[str, Any]) -> dict[str, object]:
    """Return the request as the container is told it: what may be left out is there, as null."""
    outputs = request.get("ProcessingOutputConfig") or {}
    resources = request["ProcessingResources"]
    return {
        "ProcessingJobArn": str(job.arn),
        "ProcessingJobName": job.name,
        "AppSpecification": {"ContainerEntrypoint": None, "ContainerArguments": None, **request["AppSpecification"]},
        "Environment": request.get("Environment") or {},
        "ProcessingInputs": [_input(it) for it in request.get("ProcessingInputs") or []],
        "ProcessingOutputConfig": {"Outputs": outputs.get("Outputs") or [], "KmsKeyId": outputs.get("KmsKeyId")},
        "ProcessingResources": {"ClusterConfig": {"VolumeKmsKeyId": None, **resources["ClusterConfig"]}},
        "RoleArn": request["RoleArn"],
        "StoppingCondition": request["StoppingCondition"],
        **{name: request[name] for name in ("NetworkConfig", "ExperimentConfig") if name in request},
    }


def _input(params: Mapping[str, Any]) -> dict[str, Any]:
    if "S3Input" not in params:
        return dict(params)
    return {**params, "S3Input": {**params["S3Input"], "S3DownloadMode": "StartOfJob"}}


def processing_environment(
    spec: ProcessingSpec, arn: Arn, host: str, *, endpoint_url: str | None, credentials: Mapping[str, str]
) -> dict[str, str]:
    """Return a processing container's variables; the user's own win, save over the job's name and ARN."""
    return {
        **platform_environment(arn.region, host, endpoint_url=endpoint_url, credentials=credentials),
        **spec.environment,
        "PROCESSING_JOB_NAME": arn.name,
        "PROCESSING_JOB_ARN": str(arn),
    }
