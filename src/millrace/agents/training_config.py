"""The configuration files and variables that a training container finds. Pure.

Source: containers.md 2.3, 2.4.
"""

import json
from collections.abc import Mapping

from millrace.agents.job_config import platform_environment, resource_config
from millrace.jobs.hosts import hosts_of_groups
from millrace.jobs.training import TrainingSpec
from millrace.names import Arn

__all__ = ["config_files", "training_environment"]


def config_files(spec: TrainingSpec, host: str) -> dict[str, str]:
    """Return the files of /opt/ml/input/config for one host, by name."""
    files = {
        "hyperparameters.json": dict(spec.hyperparameters),
        "inputdataconfig.json": _input_data_config(spec, host),
        "resourceconfig.json": resource_config(spec.groups, host),
    }
    if spec.checkpoints is not None:
        files["checkpointconfig.json"] = {"LocalPath": spec.checkpoints.local_path}
    if spec.debug_hook is not None:
        files["debughookconfig.json"] = dict(spec.debug_hook)
    return {name: json.dumps(content, ensure_ascii=False) for name, content in files.items()}


def _input_data_config(spec: TrainingSpec, host: str) -> dict[str, object]:
    config: dict[str, object] = {}
    for channel in spec.channels:
        if host not in hosts_of_groups(spec.groups, channel.groups):
            continue
        entry = {
            "TrainingInputMode": channel.mode.value,
            "S3DistributionType": channel.distribution.value,
            "RecordWrapperType": channel.record_wrapper.value,
        }
        if channel.content_type is not None:
            entry["ContentType"] = channel.content_type
        if channel.gzip:
            entry["CompressionType"] = "Gzip"
        config[channel.name] = entry
    return config


def training_environment(
    spec: TrainingSpec, arn: Arn, host: str, *, endpoint_url: str | None, credentials: Mapping[str, str]
) -> dict[str, str]:
    """Return a training container's variables; the user's own win, save over the job's name and ARN."""
    return {
        **platform_environment(arn.region, host, endpoint_url=endpoint_url, credentials=credentials),
        "SAGEMAKER_METRICS_DIRECTORY": "/opt/ml/output/metrics/sagemaker",
        **spec.environment,
        "TRAINING_JOB_NAME": arn.name,
        "TRAINING_JOB_ARN": str(arn),
    }
