"""Endpoint configurations: which variants an endpoint is to have."""

from collections.abc import Mapping
from typing import Any

from millrace.errors import ImageUnavailable, ValidationError
from millrace.jobs.endpoint import EndpointSpec, Variant
from millrace.ports.documents import Document
from millrace.protocol.message import Context, Handler, Params, Result
from millrace.services.sagemaker.arguments import refuse_members
from millrace.services.sagemaker.backends import Backends
from millrace.services.sagemaker.document_resources import DocumentResource, create, find, standard_handlers
from millrace.services.sagemaker.models import find_model, model_containers

__all__ = ["handlers", "resolve_endpoint_config"]

DEFAULT_STARTUP_TIMEOUT_SECONDS = 480.0

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
    return EndpointSpec(config=name, variants=tuple(variants))


async def _check(backends: Backends, context: Context, content: Mapping[str, Any]) -> None:
    refuse_members(content, _UNSUPPORTED)
    if (content.get("DataCaptureConfig") or {}).get("EnableCapture"):
        raise ValidationError("DataCaptureConfig.EnableCapture is not supported by Millrace yet: nothing is captured")
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


async def _variant(backends: Backends, context: Context, entry: Mapping[str, Any]) -> Variant:
    model = await find_model(backends, context, entry["ModelName"])
    containers = model_containers(model.content)
    if len(containers) > 1:
        raise ValidationError(f"Model {model.name} has {len(containers)} containers; an endpoint takes one as yet.")
    try:
        backends.images.resolve(containers[0].image)
    except ImageUnavailable as exc:
        raise ValidationError(str(exc)) from exc
    return Variant(
        name=entry["VariantName"],
        model=model.name,
        containers=containers,
        instance_count=entry.get("InitialInstanceCount") or 1,
        weight=float(entry.get("InitialVariantWeight", 1.0)),
        instance_type=entry.get("InstanceType"),
        startup_timeout_seconds=float(
            entry.get("ContainerStartupHealthCheckTimeoutInSeconds", DEFAULT_STARTUP_TIMEOUT_SECONDS)
        ),
        serverless=entry.get("ServerlessConfig"),
    )
