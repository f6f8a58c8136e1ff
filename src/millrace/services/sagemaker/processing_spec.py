"""From a CreateProcessingJob request to a ProcessingSpec."""

from collections.abc import Mapping, Sequence
from typing import Any

from millrace.errors import ValidationError
from millrace.jobs.channel import Channel, ChannelSource, Distribution, InputMode
from millrace.jobs.hosts import HOMOGENEOUS, InstanceGroup
from millrace.jobs.processing import PROCESSING_ROOT, ProcessingInput, ProcessingOutput, ProcessingSpec, UploadMode
from millrace.services.sagemaker.arguments import environment, object_prefix

__all__ = ["complete_request", "processing_spec"]

DEFAULT_MAX_RUNTIME_SECONDS = 86_400
MAX_NAME_BYTES = 255
"""What a file system takes for one component of a path."""

_INPUT_DEFAULTS = {
    "S3InputMode": "File",
    "S3DataDistributionType": "FullyReplicated",
    "S3CompressionType": "None",
}


def complete_request(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request with what the service fills in; Describe and the container are told this.

    Source:
        containers.md 4.2.
    """
    request = {
        "StoppingCondition": {"MaxRuntimeInSeconds": DEFAULT_MAX_RUNTIME_SECONDS},
        **{name: value for name, value in params.items() if name != "Tags"},
    }
    if "ProcessingInputs" in request:
        request["ProcessingInputs"] = [_complete_input(it) for it in request["ProcessingInputs"]]
    outputs = request.get("ProcessingOutputConfig")
    if outputs:
        completed = [{"AppManaged": False, **it} for it in outputs["Outputs"]]
        request["ProcessingOutputConfig"] = {**outputs, "Outputs": completed}
    return request


def _complete_input(params: Mapping[str, Any]) -> dict[str, Any]:
    completed = {"AppManaged": False, **params}
    if params.get("S3Input"):
        completed["S3Input"] = {**_INPUT_DEFAULTS, **params["S3Input"]}
    return completed


def processing_spec(request: Mapping[str, Any]) -> ProcessingSpec:
    """Return what a completed request asks for."""
    application = request["AppSpecification"]
    inputs = request.get("ProcessingInputs") or []
    outputs = (request.get("ProcessingOutputConfig") or {}).get("Outputs") or []
    _require_unique("processingInputs", "InputName", inputs)
    _require_unique("processingOutputConfig.outputs", "OutputName", outputs)
    brought = [_input(it, f"processingInputs.{number}.member") for number, it in enumerate(inputs, start=1)]
    stored = [_output(it, f"processingOutputConfig.outputs.{number}.member") for number, it in enumerate(outputs, 1)]
    return ProcessingSpec(
        image=application["ImageUri"],
        group=_group(request["ProcessingResources"]["ClusterConfig"]),
        role=request["RoleArn"],
        entrypoint=tuple(application.get("ContainerEntrypoint") or ()),
        arguments=tuple(application.get("ContainerArguments") or ()),
        inputs=tuple(it for it in brought if it is not None),
        outputs=tuple(it for it in stored if it is not None),
        environment=environment(request),
        network_isolation=bool((request.get("NetworkConfig") or {}).get("EnableNetworkIsolation")),
        max_runtime_seconds=request["StoppingCondition"]["MaxRuntimeInSeconds"],
    )


def _require_unique(member: str, name: str, entries: Sequence[Mapping[str, Any]]) -> None:
    names = [it[name] for it in entries]
    for value in names:
        if names.count(value) > 1:
            raise ValidationError(f"{member}: each {name} must be unique, got {value!r} {names.count(value)} times")


def _group(cluster: Mapping[str, Any]) -> InstanceGroup:
    """Return the hosts: those named, or the first of the preferences, for here all types are to be had."""
    chosen = {**next(iter(cluster.get("InstancePreferences") or []), {}), **cluster}
    if not chosen.get("InstanceType") or not chosen.get("InstanceCount"):
        raise ValidationError("ProcessingResources.ClusterConfig needs InstanceType and InstanceCount.")
    return InstanceGroup(name=HOMOGENEOUS, instance_type=chosen["InstanceType"], count=chosen["InstanceCount"])


def _input(params: Mapping[str, Any], member: str) -> ProcessingInput | None:
    """Return an input that the platform is to bring, or None for one that the application manages."""
    if params.get("DatasetDefinition"):
        raise ValidationError(
            f"{member}.datasetDefinition is not supported by Millrace: there is no Athena and no Redshift to ask; "
            "name the data as S3Input"
        )
    if params["AppManaged"]:
        return None
    s3 = params.get("S3Input")
    if not s3:
        raise ValidationError(f"{member} needs S3Input, unless it is AppManaged; got neither")
    folder = _folder(s3.get("LocalPath"), f"{member}.s3Input.localPath")
    mode = InputMode(s3["S3InputMode"])
    gzip = s3["S3CompressionType"] == "Gzip"
    if gzip and mode is not InputMode.PIPE:
        raise ValidationError(
            f"{member}.s3Input: S3CompressionType Gzip goes with S3InputMode Pipe only, got {mode.value}"
        )
    channel = Channel(
        name=params["InputName"] if mode is not InputMode.PIPE else folder.rpartition("/")[2],
        source=object_prefix(s3["S3Uri"], f"{member}.s3Input.s3Uri"),
        source_type=ChannelSource(s3["S3DataType"]),
        mode=mode,
        distribution=Distribution(s3["S3DataDistributionType"]),
        gzip=gzip,
    )
    return ProcessingInput(channel=channel, folder=folder)


def _output(params: Mapping[str, Any], member: str) -> ProcessingOutput | None:
    """Return an output that the platform is to store, or None for one that the application manages."""
    if params.get("FeatureStoreOutput"):
        raise ValidationError(f"{member}.featureStoreOutput is not supported by Millrace: there is no feature store")
    if params["AppManaged"]:
        return None
    s3 = params.get("S3Output")
    if not s3:
        raise ValidationError(f"{member} needs S3Output, unless it is AppManaged; got neither")
    return ProcessingOutput(
        name=params["OutputName"],
        folder=_folder(s3.get("LocalPath"), f"{member}.s3Output.localPath"),
        target=object_prefix(s3["S3Uri"], f"{member}.s3Output.s3Uri"),
        mode=UploadMode(s3["S3UploadMode"]),
    )


def _folder(path: str | None, member: str) -> str:
    """Return a LocalPath relative to the folder below which all have to lie."""
    if not path:
        raise ValidationError(f"{member} is required, unless the application manages the data (AppManaged)")
    parts = [part for part in path.removeprefix(PROCESSING_ROOT).split("/") if part not in ("", ".")]
    if not path.startswith(PROCESSING_ROOT) or not parts or ".." in parts:
        raise ValidationError(f"{member} must be a folder below {PROCESSING_ROOT}, got {path!r}")
    if "\0" in path or any(len(part.encode()) > MAX_NAME_BYTES for part in parts):
        raise ValidationError(f"{member}: no part of it may be over {MAX_NAME_BYTES} bytes or hold NUL, got {path!r}")
    return "/".join(parts)
