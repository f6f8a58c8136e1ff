"""From a CreateTrainingJob request to a TrainingSpec."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from millrace.errors import ValidationError
from millrace.jobs.channel import Channel, ChannelSource, Distribution, InputMode, RecordWrapper
from millrace.jobs.hosts import HOMOGENEOUS, InstanceGroup
from millrace.jobs.training import CheckpointConfig, MetricDefinition, TrainingSpec
from millrace.services.sagemaker.arguments import environment, object_prefix, refuse_members

__all__ = ["training_spec"]

_UNSUPPORTED = {
    "ServerlessJobConfig": "name ResourceConfig and AlgorithmSpecification",
    "MlflowConfig": "no MLflow app is served",
    "ModelPackageConfig": "register the model after the job",
}

DEFAULT_MAX_RUNTIME_SECONDS = 86_400
LONGEST_RUNTIME_SECONDS = 28 * 86_400


def training_spec(params: Mapping[str, Any], built_in_metrics: Sequence[MetricDefinition]) -> TrainingSpec:
    """Return what the request asks for, with every default filled in.

    Args:
        built_in_metrics: What the image's built-in algorithm prints; users can't define metrics for those.
    """
    refuse_members(params, _UNSUPPORTED)
    algorithm = params.get("AlgorithmSpecification") or {}
    if not algorithm.get("TrainingImage"):
        raise ValidationError("AlgorithmSpecification needs TrainingImage; AlgorithmName is not supported by Millrace.")
    output = params.get("OutputDataConfig") or {}
    stopping = params.get("StoppingCondition") or {}
    checkpoints = params.get("CheckpointConfig")
    channels = params.get("InputDataConfig") or []
    default_mode = InputMode(algorithm.get("TrainingInputMode", "File"))
    spec = TrainingSpec(
        image=algorithm["TrainingImage"],
        output=object_prefix(output.get("S3OutputPath", ""), "outputDataConfig.s3OutputPath"),
        groups=_groups(params.get("ResourceConfig") or {}),
        role=params.get("RoleArn", ""),
        entrypoint=tuple(algorithm.get("ContainerEntrypoint") or ()),
        arguments=tuple(algorithm.get("ContainerArguments") or ()),
        hyperparameters=dict(params.get("HyperParameters") or {}),
        channels=tuple(_channel(it, number, default_mode) for number, it in enumerate(channels, start=1)),
        environment=environment(params),
        metrics=(*built_in_metrics, *_metrics(algorithm.get("MetricDefinitions") or [])),
        debug_hook=params.get("DebugHookConfig"),
        checkpoints=None if not checkpoints else _checkpoints(checkpoints),
        compress_output=output.get("CompressionType", "GZIP") != "NONE",
        network_isolation=bool(params.get("EnableNetworkIsolation")),
        max_runtime_seconds=stopping.get("MaxRuntimeInSeconds", DEFAULT_MAX_RUNTIME_SECONDS),
    )
    if not 1 <= spec.max_runtime_seconds <= LONGEST_RUNTIME_SECONDS:
        raise ValidationError(
            f"StoppingCondition.MaxRuntimeInSeconds must be between 1 and {LONGEST_RUNTIME_SECONDS}, "
            f"got {spec.max_runtime_seconds}"
        )
    _require_groups(spec)
    names = [channel.name for channel in spec.channels]
    for name in names:
        if names.count(name) > 1:
            raise ValidationError(f"InputDataConfig: channel names must be unique, got {name!r} twice")
    return spec


def _groups(resources: Mapping[str, Any]) -> tuple[InstanceGroup, ...]:
    groups = resources.get("InstanceGroups")
    if groups:
        return tuple(
            InstanceGroup(name=it["InstanceGroupName"], instance_type=it["InstanceType"], count=it["InstanceCount"])
            for it in groups
        )
    if not resources.get("InstanceType") or not resources.get("InstanceCount"):
        raise ValidationError("ResourceConfig needs InstanceType and InstanceCount, or InstanceGroups.")
    return (InstanceGroup(name=HOMOGENEOUS, instance_type=resources["InstanceType"], count=resources["InstanceCount"]),)


def _require_groups(spec: TrainingSpec) -> None:
    known = [group.name for group in spec.groups]
    for channel in spec.channels:
        for name in channel.groups:
            if name not in known:
                raise ValidationError(
                    f"channel {channel.name!r}: InstanceGroupNames must be of ResourceConfig.InstanceGroups "
                    f"({', '.join(known)}), got {name!r}"
                )


def _channel(params: Mapping[str, Any], number: int, default_mode: InputMode) -> Channel:
    member = f"inputDataConfig.{number}.member"
    name = params["ChannelName"]
    if name in (".", ".."):  # the model's pattern lets them through; a channel is a folder of this name
        raise ValidationError(f"{member}.channelName: must be the name of a folder, got {name!r}")
    s3 = (params.get("DataSource") or {}).get("S3DataSource")
    if not s3:
        raise ValidationError(f"{member}.dataSource: only S3DataSource is supported by Millrace as yet")
    kind = s3.get("S3DataType", "S3Prefix")
    if kind not in (ChannelSource.PREFIX, ChannelSource.MANIFEST):
        raise ValidationError(f"{member}.dataSource.s3DataSource.s3DataType: {kind} is not supported by Millrace yet")
    mode = InputMode(params.get("InputMode") or default_mode)
    gzip = params.get("CompressionType", "None") == "Gzip"
    wrapper = RecordWrapper(params.get("RecordWrapperType", "None"))
    if gzip and mode is not InputMode.PIPE:
        raise ValidationError(f"{member}: CompressionType Gzip goes with input mode Pipe only, got {mode.value}")
    if gzip and wrapper is RecordWrapper.RECORDIO:
        raise ValidationError(f"{member}: CompressionType Gzip and RecordWrapperType RecordIO exclude each other here")
    shuffle = params.get("ShuffleConfig")
    return Channel(
        name=name,
        source=object_prefix(s3["S3Uri"], f"{member}.dataSource.s3DataSource.s3Uri"),
        source_type=ChannelSource(kind),
        mode=mode,
        distribution=Distribution(s3.get("S3DataDistributionType", "FullyReplicated")),
        content_type=params.get("ContentType"),
        gzip=gzip,
        record_wrapper=wrapper,
        shuffle_seed=None if not shuffle else shuffle.get("Seed", 0),
        groups=tuple(s3.get("InstanceGroupNames") or ()),
    )


def _metrics(definitions: Sequence[Mapping[str, Any]]) -> list[MetricDefinition]:
    metrics = []
    for number, definition in enumerate(definitions, start=1):
        try:
            re.compile(definition["Regex"])
        except re.error as exc:
            raise ValidationError(
                f"algorithmSpecification.metricDefinitions.{number}.member.regex: not a regular expression: {exc}, "
                f"got {definition['Regex']!r}"
            ) from None
        metrics.append(MetricDefinition(name=definition["Name"], regex=definition["Regex"]))
    return metrics


def _checkpoints(params: Mapping[str, Any]) -> CheckpointConfig:
    path = params.get("LocalPath", "/opt/ml/checkpoints")
    if not path.startswith("/opt/ml/") or ".." in path.split("/"):
        raise ValidationError(f"checkpointConfig.localPath must lie below /opt/ml/, got {path!r}")
    return CheckpointConfig(target=object_prefix(params["S3Uri"], "checkpointConfig.s3Uri"), local_path=path)
