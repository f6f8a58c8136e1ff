"""Models: images, model data and environment under a name."""

from collections.abc import Mapping, Sequence
from typing import Any

from millrace.errors import ValidationError
from millrace.jobs.endpoint import ExecutionMode, ModelContainer, ModelData
from millrace.ports.documents import Document
from millrace.protocol.message import Context, Handler, Params, Result
from millrace.services.sagemaker.arguments import environment, object_prefix
from millrace.services.sagemaker.backends import Backends
from millrace.services.sagemaker.document_resources import DocumentResource, create, find, standard_handlers

__all__ = ["KIND", "execution_mode", "find_model", "handlers", "model_containers", "names_data_source"]

KIND = "model"


def _describe(document: Document) -> Result:
    return {"EnableNetworkIsolation": False, **document.content}


MODELS = DocumentResource(kind=KIND, operation="Model", words="model", describe=_describe)


def handlers(backends: Backends) -> Mapping[str, Handler]:
    """Return the handlers of the model operations."""

    async def create_model(context: Context, params: Params) -> Result:
        _check_execution(params, model_containers(params))
        return await create(MODELS, backends, context, params)

    return {"CreateModel": create_model, **standard_handlers(MODELS, backends)}


async def find_model(backends: Backends, context: Context, name: str) -> Document:
    """Return a model's document; raises the service's own error if there is none."""
    return await find(MODELS, backends, context, name)


def model_containers(body: Mapping[str, Any]) -> tuple[ModelContainer, ...]:
    """Return the containers of a model's request, in order; several are each called something.

    Raises:
        ValidationError: There is none, both forms are given, one is not complete, or two have one name.
    """
    primary = body.get("PrimaryContainer")
    if primary and body.get("Containers"):
        raise ValidationError("You must provide either PrimaryContainer or Containers, not both.")
    definitions = _definitions(body)
    if not definitions:
        raise ValidationError("A model needs PrimaryContainer or Containers.")
    member = "primaryContainer" if primary else "containers.{}.member"
    isolated = bool(body.get("EnableNetworkIsolation"))
    hostnames = _hostnames(definitions)
    return tuple(
        _container(it, member.format(number), hostname, isolated)
        for number, (it, hostname) in enumerate(zip(definitions, hostnames, strict=True), start=1)
    )


def names_data_source(body: Mapping[str, Any]) -> bool:
    """Return whether a container of a model's request has its data by ModelDataSource."""
    return any(definition.get("ModelDataSource") for definition in _definitions(body))


def _definitions(body: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    primary = body.get("PrimaryContainer")
    return [primary] if primary else body.get("Containers") or []


def execution_mode(body: Mapping[str, Any]) -> ExecutionMode:
    """Return how the containers of a model's request are asked."""
    return ExecutionMode((body.get("InferenceExecutionConfig") or {}).get("Mode", ExecutionMode.SERIAL))


def _check_execution(body: Mapping[str, Any], containers: Sequence[ModelContainer]) -> None:
    if execution_mode(body) is ExecutionMode.DIRECT and len(containers) < 2:
        raise ValidationError(
            "InferenceExecutionConfig.Mode 'Direct' needs at least 2 definitions in Containers, got "
            f"{len(containers)}: there must be something to choose from"
        )


def _hostnames(definitions: Sequence[Mapping[str, Any]]) -> list[str | None]:
    """Return what containers are called.

    Source:
        ContainerDefinition in the API reference: ContainerHostname is given for all containers of a pipeline or for
        none; without it the name comes from the position. It means nothing for a container that is the only one.
    """
    given = [definition.get("ContainerHostname") or None for definition in definitions]
    if len(definitions) < 2:
        return given
    if not any(given):
        return [f"container-{number}" for number in range(1, len(definitions) + 1)]
    for number, hostname in enumerate(given, start=1):
        if hostname is None:
            raise ValidationError(
                "If ContainerHostname is given for one container of a model, it must be given for all: "
                f"containers.{number}.member has none"
            )
        if hostname in given[: number - 1]:
            first = given.index(hostname) + 1
            raise ValidationError(
                f"ContainerHostname must be unique in a model, got {hostname!r} for both containers.{first}.member and "
                f"containers.{number}.member"
            )
    return given


def _container(definition: Mapping[str, Any], member: str, hostname: str | None, isolated: bool) -> ModelContainer:
    if definition.get("ModelPackageName"):
        raise ValidationError(f"{member}.modelPackageName is not supported by Millrace yet: name an Image")
    if definition.get("Mode") == "MultiModel":
        raise ValidationError(f"{member}.mode 'MultiModel' is not supported by Millrace yet")
    image = definition.get("Image")
    if not image:
        raise ValidationError(f"{member}: a container definition needs Image")
    return ModelContainer(
        image=image,
        data=_model_data(definition, member),
        environment=environment(definition, f"{member}.environment"),
        hostname=hostname,
        network_isolation=isolated,
    )


def _model_data(definition: Mapping[str, Any], member: str) -> ModelData | None:
    url, source = definition.get("ModelDataUrl"), definition.get("ModelDataSource")
    if url and source:
        raise ValidationError(f"{member}: ModelDataUrl and ModelDataSource exclude each other")
    if url:
        object_prefix(url, f"{member}.modelDataUrl")
        return ModelData(uri=url)
    if not source:
        return None
    s3 = source.get("S3DataSource") or {}
    kind, compression = s3.get("S3DataType"), s3.get("CompressionType")
    object_prefix(s3.get("S3Uri", ""), f"{member}.modelDataSource.s3DataSource.s3Uri")
    if (kind, compression) == ("S3Prefix", "Gzip"):
        raise ValidationError(f"{member}.modelDataSource: S3DataType S3Prefix goes with CompressionType None only")
    if kind == "S3Prefix" and not s3["S3Uri"].endswith("/"):
        path = f"{member}.modelDataSource.s3DataSource.s3Uri"
        raise ValidationError(f"{path}: a prefix must end in '/', got {s3['S3Uri']}")
    return ModelData(uri=s3["S3Uri"], is_prefix=kind == "S3Prefix", is_gzip=compression == "Gzip")
