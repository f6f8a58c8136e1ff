"""botocore's service models, loaded one by one on first use."""

from enum import StrEnum
from functools import cache
from typing import Any

__all__ = ["WireProtocol", "error_shapes", "service_model", "wire_protocol"]


class WireProtocol(StrEnum):
    """The wire formats that we speak; smithy-rpc-v2-cbor would be one more entry here and one more codec."""

    JSON = "json"
    QUERY = "query"
    REST_JSON = "rest-json"
    REST_XML = "rest-xml"


_SPOKEN = {protocol.value: protocol for protocol in WireProtocol}


@cache
def _loader() -> Any:
    # Imported here because botocore takes 0.12 s to import, a third of the server's start, and is first needed by a
    # request.
    from botocore.loaders import Loader

    return Loader()


@cache
def service_model(service: str) -> Any:
    """Return the model of a service by botocore's name for it.

    Loading takes up to 50 ms and 10 MB (measured for sagemaker), hence on first use.

    Raises:
        KeyError: botocore knows no such service.
    """
    from botocore.exceptions import UnknownServiceError
    from botocore.model import ServiceModel

    try:
        description = _loader().load_service_model(service, "service-2")
    except UnknownServiceError:
        raise KeyError(service) from None
    return ServiceModel(description, service)


def wire_protocol(model: Any) -> WireProtocol:
    """Return the first protocol of the model that we speak.

    Raises:
        KeyError: There is none.
    """
    for name in [*model.metadata.get("protocols", ()), model.metadata.get("protocol")]:
        if name in _SPOKEN:
            return _SPOKEN[name]
    raise KeyError(f"{model.service_name} speaks none of {[str(p) for p in WireProtocol]}")


@cache
def error_shapes(service: str) -> dict[str, Any]:
    """Return the modelled errors of a service by code, and by shape name where that differs."""
    shapes: dict[str, Any] = {}
    for shape in service_model(service).error_shapes:
        shapes.setdefault(shape.name, shape)
        shapes.setdefault(shape.error_code, shape)
    return shapes
