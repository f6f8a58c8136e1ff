"""The configuration files and variables that a training container finds. Pure.

Source: containers.md 2.3, 2.4.
"""

import json
from collections.abc import Mapping, Sequence

from millrace.jobs.training import TrainingSpec
from millrace.names import Arn

__all__ = ["config_files", "container_command", "platform_environment"]


def config_files(spec: TrainingSpec, host: str) -> dict[str, str]:
    """Return the files of /opt/ml/input/config for one host, by name."""
    files = {
        "hyperparameters.json": dict(spec.hyperparameters),
        "inputdataconfig.json": _input_data_config(spec),
        "resourceconfig.json": _resource_config(spec, host),
    }
    if spec.checkpoints is not None:
        files["checkpointconfig.json"] = {"LocalPath": spec.checkpoints.local_path}
    return {name: json.dumps(content, ensure_ascii=False) for name, content in files.items()}


def _input_data_config(spec: TrainingSpec) -> dict[str, object]:
    config: dict[str, object] = {}
    for channel in spec.channels:
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


def _resource_config(spec: TrainingSpec, host: str) -> dict[str, object]:
    names = iter(spec.hosts)
    groups = [
        {
            "instance_group_name": group.name,
            "instance_type": group.instance_type,
            "hosts": sorted(next(names) for _ in range(group.count)),
        }
        for group in spec.groups
    ]
    mine = next(group for group in groups if host in group["hosts"])
    return {
        "current_host": host,
        "current_instance_type": mine["instance_type"],
        "current_group_name": mine["instance_group_name"],
        "hosts": sorted(spec.hosts),
        "instance_groups": groups,
        "network_interface_name": "eth0",
    }


def platform_environment(
    spec: TrainingSpec, arn: Arn, host: str, *, endpoint_url: str | None, credentials: Mapping[str, str]
) -> dict[str, str]:
    """Return a training container's variables; the user's own win, save over the job's name and ARN."""
    environment = {
        "AWS_REGION": arn.region,
        "AWS_DEFAULT_REGION": arn.region,
        "CURRENT_HOST": host,
        "SAGEMAKER_METRICS_DIRECTORY": "/opt/ml/output/metrics/sagemaker",
        **({"AWS_ENDPOINT_URL": endpoint_url, "S3_ENDPOINT_URL": endpoint_url} if endpoint_url else {}),
        **credentials,
    }
    return {**environment, **spec.environment, "TRAINING_JOB_NAME": arn.name, "TRAINING_JOB_ARN": str(arn)}


def container_command(spec: TrainingSpec, image_command: Sequence[str]) -> tuple[str, ...]:
    """Return what is run, by Docker's override rules (containers.md 2.1)."""
    if spec.entrypoint:
        return (*spec.entrypoint, *spec.arguments)
    return (*image_command, *(spec.arguments or ("train",)))
