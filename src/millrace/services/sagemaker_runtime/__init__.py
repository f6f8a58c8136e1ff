"""SageMaker's runtime: invocations of endpoints."""

from collections.abc import Mapping

from millrace.errors import ApiError, ValidationError
from millrace.ports.endpoints import (
    AnswerTooLarge,
    EndpointNotReady,
    EndpointRouter,
    Invocation,
    InvocationAnswer,
    NoSuchEndpoint,
    NoSuchVariant,
)
from millrace.protocol.message import Context, Handler, Params, Result

__all__ = ["handlers"]

DEFAULT_CONTENT_TYPE = "application/octet-stream"


class ModelError(ApiError):
    """The container answered something else than a success."""

    code = "ModelError"
    status = 424


class ServiceUnavailable(ApiError):
    """No instance can answer now; clients retry this."""

    code = "ServiceUnavailable"
    status = 503
    fault = "server"


def handlers(router: EndpointRouter) -> Mapping[str, Handler]:
    """Return the handlers of the runtime operations."""

    async def invoke_endpoint(context: Context, params: Params) -> Result:
        name: str = params["EndpointName"]
        answer = await _ask(router, context, _invocation(context, name, params))
        if answer.status >= 300:
            raise _model_error(context, name, answer)
        headers = dict(answer.headers)
        return {
            "Body": answer.body,
            "ContentType": headers.get("content-type", DEFAULT_CONTENT_TYPE),
            "InvokedProductionVariant": answer.variant,
            "CustomAttributes": headers.get("x-amzn-sagemaker-custom-attributes"),
        }

    return {"InvokeEndpoint": invoke_endpoint}


def _invocation(context: Context, name: str, params: Params) -> Invocation:
    passed_on = {
        "Content-Type": params.get("ContentType"),
        "Accept": params.get("Accept"),
        "X-Amzn-SageMaker-Custom-Attributes": params.get("CustomAttributes"),
        "X-Amzn-SageMaker-Inference-Id": params.get("InferenceId"),
        "X-Amzn-SageMaker-Target-Model": params.get("TargetModel"),
        "X-Amzn-SageMaker-Session-Id": params.get("SessionId"),
    }
    if params.get("TargetContainerHostname"):
        raise ValidationError(f"Endpoint {name} is not in direct mode: TargetContainerHostname must not be given.")
    return Invocation(
        region=context.region,
        endpoint=name,
        headers=[(header, value) for header, value in passed_on.items() if value],
        body=params.get("Body") or b"",
        variant=params.get("TargetVariant"),
    )


async def _ask(router: EndpointRouter, context: Context, invocation: Invocation) -> InvocationAnswer:
    name = invocation.endpoint
    try:
        return await router.invoke(invocation)
    except NoSuchEndpoint:
        raise ValidationError(f"Endpoint {name} of account {context.account} not found.") from None
    except NoSuchVariant as exc:
        known = ", ".join(exc.known)
        raise ValidationError(f"Variant {exc.name} not found for endpoint {name}; it has {known}.") from None
    except EndpointNotReady as exc:
        raise ServiceUnavailable(str(exc)) from exc
    except AnswerTooLarge as exc:
        raise ModelError(
            f"Received an answer from primary that is too large: {exc}.",
            members={"OriginalStatusCode": 500, "OriginalMessage": str(exc)},
        ) from exc
    except TimeoutError:
        seconds = invocation.timeout_seconds
        raise ModelError(
            f"Received server error (0) from primary and could not load the entire response body: the container did "
            f"not answer /invocations within {seconds:g} seconds.",
            members={"OriginalStatusCode": 504, "OriginalMessage": f"no answer within {seconds:g} seconds"},
        ) from None
    except ConnectionError as exc:
        raise ModelError(
            f"Received server error (500) from primary: the container dropped the connection ({exc}).",
            members={"OriginalStatusCode": 500, "OriginalMessage": str(exc)},
        ) from exc


def _model_error(context: Context, name: str, answer: InvocationAnswer) -> ModelError:
    """Word a container's failure as the service does.

    Source:
        api-surface.md 7, algorithms.md 2.4.
    """
    text = answer.body.decode("utf-8", "replace")
    side = "client" if 400 <= answer.status < 500 else "server"
    group = f"/aws/sagemaker/Endpoints/{name}"
    return ModelError(
        f'Received {side} error ({answer.status}) from primary with message "{text}". '
        f"See the log group {group} for more information.",
        members={
            "OriginalStatusCode": answer.status,
            "OriginalMessage": text,
            "LogStreamArn": f"arn:aws:logs:{context.region}:{context.account}:log-group:{group}",
        },
    )
