"""What callers are told when an endpoint can't be asked, or its container gave no good answer.

Source:
    endpoints-triggers.md 7.3: programs match the frames of these messages.
"""

from millrace.errors import ApiError, ValidationError
from millrace.ports.endpoints import (
    AnswerTooLarge,
    EndpointNotReady,
    Invocation,
    InvocationAnswer,
    NoSuchContainer,
    NoSuchEndpoint,
    NoSuchVariant,
    NoWeights,
)
from millrace.protocol.message import Context

__all__ = ["MAX_ORIGINAL_MESSAGE_BYTES", "InternalStreamFailure", "ModelStreamError", "answer_error", "refusals"]

MAX_ORIGINAL_MESSAGE_BYTES = 8 * 1024
"""Bytes of a container's error page that are told to the caller; the container's log has the rest."""

ONLY_CONTAINER = "primary"
"""What a model's only container is called."""

CONTAINER_HEADER, FAILURE_HEADER = "x-millrace-container", "x-millrace-failure"
"""In the answer of a model of several containers: which of them failed, and why, if it gave no answer."""

TIMED_OUT = "timeout"

refusals = (
    NoSuchEndpoint,
    NoSuchVariant,
    NoSuchContainer,
    NoWeights,
    EndpointNotReady,
    AnswerTooLarge,
    TimeoutError,
    ConnectionError,
)
"""What a router raises, and `answer_error` words."""


class ModelError(ApiError):
    """The container answered something else than a success."""

    code = "ModelError"
    status = 424


class ServiceUnavailable(ApiError):
    """No instance can answer now; clients retry this."""

    code = "ServiceUnavailable"
    status = 503
    fault = "server"


class ModelStreamError(ApiError):
    """The container's answer broke off; told as the last event of a stream."""

    code = "ModelStreamError"

    def __init__(self, message: str, *, error_code: str) -> None:
        super().__init__(message, members={"ErrorCode": error_code})


class InternalStreamFailure(ApiError):
    """Something of ours broke a stream off; told as its last event."""

    code = "InternalStreamFailure"
    status = 500
    fault = "server"


def answer_error(cause: Exception | InvocationAnswer, context: Context, invocation: Invocation) -> ApiError:
    """Return the error for what a router raised, or for an answer with a status of 300 and more."""
    name = invocation.endpoint
    match cause:
        case InvocationAnswer():
            return _answered_error(cause, context, name)
        case NoSuchEndpoint():
            return ValidationError(f"Endpoint {name} of account {context.account} not found.")
        case NoSuchVariant():
            known = ", ".join(cause.known)
            return ValidationError(f"Variant {cause.name} not found for endpoint {name}; it has {known}.")
        case NoSuchContainer() | NoWeights():
            return ValidationError(str(cause))
        case EndpointNotReady():
            return ServiceUnavailable(str(cause))
        case TimeoutError():
            return _model_error(context, name, 0, _timed_out(ONLY_CONTAINER))
        case AnswerTooLarge():
            return _model_error(context, name, 500, str(cause))
        case _:
            return _model_error(context, name, 500, f"The container dropped the connection: {cause}")


def _answered_error(answer: InvocationAnswer, context: Context, name: str) -> ModelError:
    """Return the error for an answer that is no success, of the one container or of one of several."""
    text = answer.body[:MAX_ORIGINAL_MESSAGE_BYTES].decode("utf-8", "replace")
    container, failure = ONLY_CONTAINER, None
    for header, value in answer.headers:
        if header == CONTAINER_HEADER:
            container = value
        elif header == FAILURE_HEADER:
            failure = value
    if failure == TIMED_OUT:
        return _model_error(context, name, 0, _timed_out(container), container)
    return _model_error(context, name, answer.status if failure is None else 500, text, container)


def _timed_out(container: str) -> str:
    return (
        f"Your invocation timed out while waiting for a response from container {container}. Review the latency "
        "metrics for each container, resolve the issue, and try again."
    )


def _model_error(context: Context, name: str, status: int, text: str, container: str = ONLY_CONTAINER) -> ModelError:
    side = "client" if 400 <= status < 500 else "server"
    group = f"/aws/sagemaker/Endpoints/{name}"
    return ModelError(
        f'Received {side} error ({status}) from {container} with message "{text}". '
        f"See the log group {group} in account {context.account} for more information.",
        members={
            "OriginalStatusCode": status,
            "OriginalMessage": text,
            "LogStreamArn": f"arn:aws:logs:{context.region}:{context.account}:log-group:{group}",
        },
    )
