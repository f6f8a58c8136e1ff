"""Endpoint configurations: which variants an endpoint is to have."""

from collections.abc import Mapping
from typing import Any

from millrace.errors import ImageUnavailable, ValidationError
from millrace.jobs.captured_calls import MAX_CAPTURE_KEY_BYTES
from millrace.jobs.endpoint import (
    CaptureMode,
    DataCapture,
    EndpointSpec,
    RoutingStrategy,
    Variant,
)
from millrace.names import ObjectPrefix
from millrace.ports.documents import Document
from millrace.protocol.message import Context, Handler, Params, Result
from millrace.services.sagemaker.arguments import object_prefix, refuse_members
from millrace.services.sagemaker.backends import Backends
from millrace.services.sagemaker.document_resources import DocumentResource, create, find, standard_handlers
from millrace.services.sagemaker.models import execution_mode, find_model, model_containers
from millrace.services.sagemaker.pinned_images import pinned

__all__ = ["handlers", "resolve_endpoint_config"]

DEFAULT_STARTUP_TIMEOUT_SECONDS = 480.0
DEFAULT_DOWNLOAD_TIMEOUT_SECONDS = 3600.0

_MAX_KEY_BYTES = 1024
"""S3's own limit of keys."""

_MAX_DESTINATION_BYTES = _MAX_KEY_BYTES - MAX_CAPTURE_KEY_BYTES - len("/")

_UNSUPPORTED = {
    "AsyncInferenceConfig": "asynchronous endpoints come later",
    "ShadowProductionVariants": "shadow variants come later",
    "ExplainerConfig": "explanations are not served",
}


def handlers(backends: Backends) -> Mapping[str, Handler]:
    """Return the handlers of the endpoint configuration operations."""

    async def create_endpoint_config(context: Context, params: Params) -> Result:
        await _check(backends, context, params)
        return await create(ENDPOINT_CONFIGS, backends, context, params)

    return {"CreateEndpointConfig": create_endpoint_config, **standard_handlers(ENDPOINT_CONFIGS, backends)}


def _describe(document: Document) -> Result:
    variants = [{"InitialVariantWeight": 1.0, **it} for it in document.content["ProductionVariants"]]
    return {"EnableNetworkIsolation": False, **document.content, "ProductionVariants": variants}


ENDPOINT_CONFIGS = DocumentResource(
    kind="endpoint-config", operation="EndpointConfig", words="endpoint configuration", describe=_describe
)


async def resolve_endpoint_config(backends: Backends, context: Context, name: str) -> EndpointSpec:
    """Return what a configuration serves, its models looked up now."""
    document = await find(ENDPOINT_CONFIGS, backends, context, name)
    variants = [await _variant(backends, context, entry) for entry in document.content["ProductionVariants"]]
    capture = _data_capture(document.content.get("DataCaptureConfig"))
    return EndpointSpec(config=name, variants=tuple(variants), capture=capture)


async def _check(backends: Backends, context: Context, content: Mapping[str, Any]) -> None:
    refuse_members(content, _UNSUPPORTED)
    _data_capture(content.get("DataCaptureConfig"))
    names = [variant["VariantName"] for variant in content["ProductionVariants"]]
    for name in names:
        if names.count(name) > 1:
            raise ValidationError(f"ProductionVariants: variant names must be unique, got {name!r} twice")
    for variant in content["ProductionVariants"]:
        if not variant.get("ModelName"):
            raise ValidationError(
                f"Variant {variant['VariantName']} has no ModelName; inference components are not supported by Millrace"
            )
        await find_model(backends, context, variant["ModelName"])
        if not variant.get("ServerlessConfig") and not variant.get("InitialInstanceCount"):
            raise ValidationError(
                f"Variant {variant['VariantName']} needs InitialInstanceCount and InstanceType, or ServerlessConfig."
            )


def _data_capture(config: Mapping[str, Any] | None) -> DataCapture | None:
    """Return what a configuration says about data capture, None if nothing; raises ValidationError."""
    if config is None:
        return None
    uri: str = config["DestinationS3Uri"]
    _check_destination(object_prefix(uri, "dataCaptureConfig.destinationS3Uri"))
    modes: set[CaptureMode] = set()
    for option in config["CaptureOptions"]:
        modes.update(_CAPTURE_MODES[option["CaptureMode"]])
    header = config.get("CaptureContentTypeHeader") or {}
    return DataCapture(
        enabled=config.get("EnableCapture", True),
        sampling_percentage=config["InitialSamplingPercentage"],
        destination=uri,
        modes=tuple(sorted(modes)),
        csv_types=tuple(header.get("CsvContentTypes") or ()),
        json_types=tuple(header.get("JsonContentTypes") or ()),
        kms_key=config.get("KmsKeyId") or None,
    )


def _check_destination(destination: ObjectPrefix) -> None:
    """Refuse a prefix below which a captured call's key would be longer than keys may be."""
    size = len(destination.prefix.encode("utf-8", "replace"))
    if size > _MAX_DESTINATION_BYTES:
        raise ValidationError(
            f"dataCaptureConfig.destinationS3Uri: the prefix must have at most {_MAX_DESTINATION_BYTES} bytes in "
            f"UTF-8, so that the keys of captured calls have at most {_MAX_KEY_BYTES}; got {size} bytes: {destination}"
        )


_CAPTURE_MODES = {
    "Input": (CaptureMode.INPUT,),
    "Output": (CaptureMode.OUTPUT,),
    "InputAndOutput": (CaptureMode.INPUT, CaptureMode.OUTPUT),
}

_ROUTING = {"RANDOM": RoutingStrategy.RANDOM}
"""All other strategies are served as the one that asks the instance with the fewest requests under way."""


async def _variant(backends: Backends, context: Context, entry: Mapping[str, Any]) -> Variant:
    model = await find_model(backends, context, entry["ModelName"])
    try:
        containers = tuple(
            pinned(container, backends.images.resolve(container.image)) for container in model_containers(model.content)
        )
    except ImageUnavailable as exc:
        raise ValidationError(str(exc)) from exc
    return Variant(
        name=entry["VariantName"],
        model=model.name,
        containers=containers,
        execution=execution_mode(model.content),
        instance_count=entry.get("InitialInstanceCount") or 1,
        weight=float(entry.get("InitialVariantWeight", 1.0)),
        instance_type=entry.get("InstanceType"),
        startup_timeout_seconds=float(
            entry.get("ContainerStartupHealthCheckTimeoutInSeconds", DEFAULT_STARTUP_TIMEOUT_SECONDS)
        ),
        download_timeout_seconds=float(
            entry.get("ModelDataDownloadTimeoutInSeconds", DEFAULT_DOWNLOAD_TIMEOUT_SECONDS)
        ),
        routing=_ROUTING.get(
            (entry.get("RoutingConfig") or {}).get("RoutingStrategy", ""), RoutingStrategy.LEAST_OUTSTANDING_REQUESTS
        ),
        serverless=entry.get("ServerlessConfig"),
    )
