"""SageMaker's runtime: invocations of endpoints."""

from collections.abc import Mapping

from millrace.ports.endpoints import EndpointRouter
from millrace.protocol.message import Context, Handler, Params, Result
from millrace.services.sagemaker_runtime.faults import answer_error, refusals
from millrace.services.sagemaker_runtime.invocations import answer_members, read_invocation
from millrace.services.sagemaker_runtime.streaming import open_stream

__all__ = ["handlers"]


def handlers(router: EndpointRouter) -> Mapping[str, Handler]:
    """Return the handlers of the runtime operations."""

    async def invoke_endpoint(context: Context, params: Params) -> Result:
        invocation = read_invocation(context.region, params)
        try:
            answer = await router.invoke(invocation)
        except refusals as exc:
            raise answer_error(exc, context, invocation) from exc
        if answer.status >= 300:
            raise answer_error(answer, context, invocation)
        return {"Body": answer.body, **answer_members(answer.headers, answer.variant)}

    async def invoke_endpoint_with_response_stream(context: Context, params: Params) -> Result:
        return await open_stream(router, context, read_invocation(context.region, params))

    return {
        "InvokeEndpoint": invoke_endpoint,
        "InvokeEndpointWithResponseStream": invoke_endpoint_with_response_stream,
    }
