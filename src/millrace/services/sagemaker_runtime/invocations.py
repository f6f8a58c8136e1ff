"""Invocations out of requests, and the members of an answer out of a container's headers."""

from collections.abc import Mapping, Sequence
from typing import Any

from millrace.errors import ValidationError
from millrace.ports.endpoints import Invocation
from millrace.protocol.message import Params

__all__ = ["answer_members", "read_invocation"]

DEFAULT_CONTENT_TYPE = "application/octet-stream"

_PASSED_ON = {
    "ContentType": "Content-Type",
    "Accept": "Accept",
    "CustomAttributes": "X-Amzn-SageMaker-Custom-Attributes",
    "InferenceId": "X-Amzn-SageMaker-Inference-Id",
    "SessionId": "X-Amzn-SageMaker-Session-Id",
    "TargetContainerHostname": "X-Amzn-SageMaker-Target-Container-Hostname",
}
"""All that a container sees of a request's headers (containers.md 5.3); the last one is for the chain before it."""

_REFUSED: Mapping[str, str] = {
    "TargetModel": "is not a multi-model endpoint",
    "InferenceComponentName": "has no inference components",
    "EnableExplanations": "has no explainer",
}

_TOLD = {
    "content-type": "ContentType",
    "x-amzn-sagemaker-custom-attributes": "CustomAttributes",
    "x-amzn-sagemaker-new-session-id": "NewSessionId",
    "x-amzn-sagemaker-closed-session-id": "ClosedSessionId",
}


def read_invocation(region: str, params: Params) -> Invocation:
    """Return what is to be asked of the endpoint.

    Raises:
        ValidationError: A member is given that makes no sense for the endpoints we have.
    """
    if not _REFUSED.keys().isdisjoint(params):
        member = next(member for member in params if member in _REFUSED)
        raise ValidationError(
            f"Endpoint {params['EndpointName']} {_REFUSED[member]}: {member} must not be given, got {params[member]!r}."
        )
    return Invocation(
        region=region,
        endpoint=params["EndpointName"],
        headers=[(_PASSED_ON[member], value) for member, value in params.items() if member in _PASSED_ON and value],
        body=params.get("Body") or b"",
        variant=params.get("TargetVariant"),
        container=params.get("TargetContainerHostname"),
        session=params.get("SessionId"),
        content_type=params.get("ContentType"),
        inference_id=params.get("InferenceId"),
        custom_attributes=params.get("CustomAttributes"),
    )


def answer_members(headers: Sequence[tuple[str, str]], variant: str) -> dict[str, Any]:
    """Return the members of the operation's answer, without its body; header names are lower-case."""
    members: dict[str, Any] = {"ContentType": DEFAULT_CONTENT_TYPE, "InvokedProductionVariant": variant}
    for name, value in headers:
        if name in _TOLD:
            members[_TOLD[name]] = value
    return members
