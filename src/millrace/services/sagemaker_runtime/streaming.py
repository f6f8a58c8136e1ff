"""Response streaming: a container's answer as events, each chunk as it comes.

An answer that begins badly is an error like any other; one that breaks off later is told by the stream's last event,
for status and headers have been sent by then.
"""

import logging
from collections.abc import Mapping
from typing import Any

from millrace.ports.endpoints import EndpointRouter, Invocation, InvocationAnswer, InvocationStream
from millrace.protocol.message import Context, Result
from millrace.services.sagemaker_runtime.faults import (
    MAX_ORIGINAL_MESSAGE_BYTES,
    InternalStreamFailure,
    ModelStreamError,
    answer_error,
    refusals,
)
from millrace.services.sagemaker_runtime.invocations import answer_members

__all__ = ["open_stream"]

log = logging.getLogger(__name__)


async def open_stream(router: EndpointRouter, context: Context, invocation: Invocation) -> Result:
    """Ask an endpoint and return the operation's answer, whose body is still to come."""
    try:
        stream = await router.stream(invocation)
        if stream.status >= 300:
            raise answer_error(await _whole(stream), context, invocation)
    except refusals as exc:
        raise answer_error(exc, context, invocation) from exc
    return {"Body": _PayloadParts(stream, context), **answer_members(stream.headers, stream.variant)}


async def _whole(stream: InvocationStream) -> InvocationAnswer:
    """Return an answer with as much of its body as an error message tells."""
    body = b""
    try:
        async for piece in stream:
            body += piece
            if len(body) >= MAX_ORIGINAL_MESSAGE_BYTES:
                break
    finally:
        stream.close()
    return InvocationAnswer(status=stream.status, headers=stream.headers, body=body, variant=stream.variant)


class _PayloadParts:
    """The events of an answer. Closing it ends the request to the container, also if nothing was read of it yet."""

    def __init__(self, stream: InvocationStream, context: Context) -> None:
        self._stream = stream
        self._pieces = aiter(stream)
        self._context = context

    def __aiter__(self) -> "_PayloadParts":
        return self

    async def __anext__(self) -> Mapping[str, Any]:
        try:
            return {"PayloadPart": {"Bytes": await anext(self._pieces)}}
        except StopAsyncIteration:
            self._stream.close()
            raise
        except TimeoutError as exc:
            raise ModelStreamError(
                f"The model took too long to answer: {exc}", error_code="ModelInvocationTimeExceeded"
            ) from exc
        except ConnectionError as exc:
            raise ModelStreamError(
                f"The container ended its answer before it was complete: {exc}", error_code="StreamBroken"
            ) from exc
        except Exception as exc:
            log.exception("stream failed", extra={"request_id": self._context.request_id})
            raise InternalStreamFailure(
                f"An internal error ended the stream. The server's log has it under {self._context.request_id}."
            ) from exc

    async def aclose(self) -> None:
        self._stream.close()
