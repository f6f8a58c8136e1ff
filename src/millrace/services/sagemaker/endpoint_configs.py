"""Endpoint configurations: which variants an endpoint is to have."""

from collections.abc import Mapping
from typing import Any

from millrace.errors import ImageUnavailable, ValidationError
from millrace.jobs.endpoint import EndpointSpec, Variant
from millrace.names import sagemaker_arn
from millrace.ports.documents import Document, DocumentExists
from millrace.protocol.message import Context, Handler, Params, Result
from millrace.services.sagemaker.arguments import refuse_members
from millrace.services.sagemaker.backends import Backends
from millrace.services.sagemaker.document_listing import list_documents
from millrace.services.sagemaker.models import find_model, model_containers
from millrace.services.sagemaker.tags import delete_all_tags, set_tags

__all__ = ["find_endpoint_config", "handlers", "resolve_endpoint_config"]

KIND = "endpoint-config"
DEFAULT_STARTUP_TIMEOUT_SECONDS = 480.0

_UNSUPPORTED = {
    "AsyncInferenceConfig": "asynchronous endpoints come later",
    "ShadowProductionVariants": "shadow variants come later",
    "ExplainerConfig": "explanations are not served",
}


def handlers(backends: Backends) -> Mapping[str, Handler]:
    """Return the handlers of the endpoint configuration operations."""
    documents = backends.documents

    async def create_endpoint_config(context: Context, params: Params) -> Result:
        name: str = params["EndpointConfigName"]
        arn = _arn(context, name)
        content = {key: value for key, value in params.items() if key != "Tags"}
        await _check(backends, context, content)
        try:
            await documents.put(KIND, context.region, name, content, create=True)
        except DocumentExists:
            raise ValidationError(f'Cannot create already existing endpoint configuration "{arn}".') from None
        await set_tags(documents, context.region, arn, params.get("Tags"))
        return {"EndpointConfigArn": arn}

    async def describe_endpoint_config(context: Context, params: Params) -> Result:
        document = await find_endpoint_config(backends, context, params["EndpointConfigName"])
        variants = [{"InitialVariantWeight": 1.0, **it} for it in document.content["ProductionVariants"]]
        return {
            "EnableNetworkIsolation": False,
            **document.content,
            "ProductionVariants": variants,
            "EndpointConfigArn": _arn(context, document.name),
            "CreationTime": document.created_at,
        }

    async def delete_endpoint_config(context: Context, params: Params) -> None:
        document = await find_endpoint_config(backends, context, params["EndpointConfigName"])
        await documents.delete(KIND, context.region, document.name)
        await delete_all_tags(documents, context.region, _arn(context, document.name))

    async def list_endpoint_configs(context: Context, params: Params) -> Result:
        page, token = list_documents(await documents.list(KIND, context.region), params)
        entries = [
            {
                "EndpointConfigName": it.name,
                "EndpointConfigArn": _arn(context, it.name),
                "CreationTime": it.created_at,
            }
            for it in page
        ]
        return {"EndpointConfigs": entries, "NextToken": token}

    return {
        "CreateEndpointConfig": create_endpoint_config,
        "DescribeEndpointConfig": describe_endpoint_config,
        "DeleteEndpointConfig": delete_endpoint_config,
        "ListEndpointConfigs": list_endpoint_configs,
    }


async def find_endpoint_config(backends: Backends, context: Context, name: str) -> Document:
    """Return a configuration's document; raises the service's own error if there is none."""
    document = await backends.documents.find(KIND, context.region, name)
    if document is None:
        raise ValidationError(f'Could not find endpoint configuration "{_arn(context, name)}".')
    return document


async def resolve_endpoint_config(backends: Backends, context: Context, name: str) -> EndpointSpec:
    """Return what a configuration serves, its models looked up now."""
    document = await find_endpoint_config(backends, context, name)
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


def _arn(context: Context, name: str) -> str:
    return str(sagemaker_arn(KIND, name, region=context.region, account=context.account))
