"""Invocations in the service's words: what containers see, what callers are told."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer

from millrace.errors import ApiError
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
from millrace.protocol.bodies import MemoryBody
from millrace.protocol.message import Context, Request
from millrace.protocol.operations import service
from millrace.services.sagemaker_runtime import handlers

HEADERS = (
    ("content-type", "text/csv"),
    ("x-amzn-sagemaker-custom-attributes", "answered"),
    ("server", "gunicorn"),
)


class Stream:
    """An answer in pieces; an exception among them is raised in its place."""

    def __init__(self, pieces: Sequence[bytes | Exception], status: int = 200) -> None:
        self.status = status
        self.headers: Sequence[tuple[str, str]] = HEADERS
        self.variant = "blue"
        self.closed = 0
        self._pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    def close(self) -> None:
        self.closed += 1


class Router:
    """Answers as it is told to, and keeps what was asked."""

    def __init__(self, outcome: Any) -> None:
        self._outcome = outcome
        self.asked: list[Invocation] = []

    async def invoke(self, invocation: Invocation) -> InvocationAnswer:
        self.asked.append(invocation)
        if isinstance(self._outcome, Exception):
            raise self._outcome
        answer: InvocationAnswer = self._outcome
        return answer

    async def stream(self, invocation: Invocation) -> Stream:
        self.asked.append(invocation)
        if isinstance(self._outcome, Exception):
            raise self._outcome
        stream: Stream = self._outcome
        return stream


def context(operation: str = "InvokeEndpoint") -> Context:
    return Context(
        request_id="r-1",
        service="sagemaker-runtime",
        operation=operation,
        region="us-east-1",
        account="000000000000",
        principal=None,
        base_url="http://localhost",
        request=Request(method="POST", path=b"/", query=b"", headers=(), body=MemoryBody()),
    )


def answer(status: int = 200, body: bytes = b"0.5", headers: Sequence[tuple[str, str]] = HEADERS) -> InvocationAnswer:
    return InvocationAnswer(status=status, headers=headers, body=body, variant="blue")


async def invoke(router: Router, **params: Any) -> Mapping[str, Any]:
    result = await handlers(router)["InvokeEndpoint"](context(), {"EndpointName": "e", "Body": b"1,2", **params})
    assert isinstance(result, Mapping)
    return result


async def events(router: Router) -> list[tuple[dict[str, Any], bytes]]:
    """Return the events of a streamed answer as botocore decodes them."""
    operation = "InvokeEndpointWithResponseStream"
    result = await handlers(router)[operation](context(operation), {"EndpointName": "e", "Body": b"1,2"})
    response = service("sagemaker-runtime").operation(operation).serialize(result, "r-1")  # type: ignore[arg-type]
    assert dict(response.headers) == {
        "X-Amzn-SageMaker-Content-Type": "text/csv",
        "x-Amzn-Invoked-Production-Variant": "blue",
        "X-Amzn-SageMaker-Custom-Attributes": "answered",
        "content-type": "application/vnd.amazon.eventstream",
    }
    buffer = EventStreamBuffer()
    async for message in response.body:  # type: ignore[union-attr]
        buffer.add_data(message)
    await response.body.aclose()  # type: ignore[union-attr]
    return [(event.headers, event.payload) for event in buffer]


@pytest.mark.spec("containers C-49")
async def test_a_container_sees_these_headers_and_no_others() -> None:
    """What a caller did not say is not invented."""
    router = Router(answer())
    await invoke(
        router,
        ContentType="text/csv",
        Accept="application/json",
        CustomAttributes="trace-1",
        InferenceId="i-1",
        SessionId="NEW_SESSION",
        TargetVariant="blue",
    )
    await invoke(router)
    asked, bare = router.asked
    assert dict(asked.headers) == {
        "Content-Type": "text/csv",
        "Accept": "application/json",
        "X-Amzn-SageMaker-Custom-Attributes": "trace-1",
        "X-Amzn-SageMaker-Inference-Id": "i-1",
        "X-Amzn-SageMaker-Session-Id": "NEW_SESSION",
    }
    assert (asked.variant, asked.session, asked.inference_id) == ("blue", "NEW_SESSION", "i-1")
    assert (asked.content_type, asked.custom_attributes) == ("text/csv", "trace-1")
    assert bare.headers == []


async def test_the_caller_is_told_type_variant_attributes_and_session() -> None:
    """Nothing else of the container's headers; bytes without a type are just that."""
    headers = (*HEADERS, ("x-amzn-sagemaker-new-session-id", "s; Expires=2030"))
    assert await invoke(Router(answer(headers=headers))) == {
        "Body": b"0.5",
        "ContentType": "text/csv",
        "InvokedProductionVariant": "blue",
        "CustomAttributes": "answered",
        "NewSessionId": "s; Expires=2030",
    }
    assert (await invoke(Router(answer(headers=()))))["ContentType"] == "application/octet-stream"


@pytest.mark.parametrize("member", ["TargetModel", "InferenceComponentName", "EnableExplanations"])
async def test_targets_that_an_endpoint_of_one_model_has_not_are_refused(member: str) -> None:
    """The error names the member and its value; nobody is asked."""
    router = Router(answer())
    with pytest.raises(ApiError, match=rf"{member} must not be given, got 'x'"):
        await invoke(router, **{member: "x"})
    assert router.asked == []


async def test_a_container_that_is_named_goes_with_the_invocation_and_its_headers() -> None:
    """The router looks whether there is such a container, the chain before the containers reads the header."""
    router = Router(answer())
    await invoke(router, TargetContainerHostname="second")
    [asked] = router.asked
    assert asked.container == "second"
    assert dict(asked.headers) == {"X-Amzn-SageMaker-Target-Container-Hostname": "second"}


@pytest.mark.spec("endpoints E-32")
async def test_a_container_that_can_not_be_asked_is_a_validation_error() -> None:
    """In the router's words."""
    with pytest.raises(ApiError, match="e is in direct mode") as raised:
        await invoke(Router(NoSuchContainer("Endpoint e is in direct mode: ...")))
    assert raised.value.wire_code == "ValidationException"


@pytest.mark.spec("C §12 C-52")
async def test_the_container_of_several_that_failed_is_named_in_place_of_primary() -> None:
    """Status and body are its own."""
    headers = (*HEADERS, ("x-millrace-container", "container-2"))
    with pytest.raises(ApiError) as raised:
        await invoke(Router(answer(400, b"no such column", headers)))
    assert raised.value.message.startswith(
        'Received client error (400) from container-2 with message "no such column". See '
    )
    assert raised.value.members["OriginalStatusCode"] == 400


@pytest.mark.parametrize(
    ("failure", "original", "text"),
    [
        ("timeout", 0, "Your invocation timed out while waiting for a response from container container-2."),
        ("no-answer", 500, "the words of the chain"),
    ],
)
async def test_the_container_of_several_that_gave_no_answer_is_named(failure: str, original: int, text: str) -> None:
    """As the only one of a model is that gives none."""
    headers = (("x-millrace-container", "container-2"), ("x-millrace-failure", failure))
    with pytest.raises(ApiError) as raised:
        await invoke(Router(answer(502, b"the words of the chain", headers)))
    assert raised.value.message.startswith(f'Received server error ({original}) from container-2 with message "{text}')


@pytest.mark.parametrize("status", [300, 404, 418, 500, 503])
@pytest.mark.spec("endpoints E-27")
async def test_a_status_of_300_and_more_is_a_model_error(status: int) -> None:
    """Its message has the frame that programs match; status, body and log group are members."""
    with pytest.raises(ApiError) as raised:
        await invoke(Router(answer(status, b"the model says no")))
    error = raised.value
    side = "client" if status in (404, 418) else "server"
    assert (error.wire_code, error.wire_status) == ("ModelError", 424)
    assert error.message.startswith(
        f'Received {side} error ({status}) from primary with message "the model says no". See '
    )
    assert error.members["OriginalStatusCode"] == status
    assert error.members["OriginalMessage"] == "the model says no"
    assert error.members["LogStreamArn"] == ("arn:aws:logs:us-east-1:000000000000:log-group:/aws/sagemaker/Endpoints/e")


async def test_a_long_error_page_is_cut() -> None:
    """8 KB of it are told; bytes that are no UTF-8 do no harm."""
    with pytest.raises(ApiError) as raised:
        await invoke(Router(answer(500, b"\xff" + b"x" * 100_000)))
    assert raised.value.members["OriginalMessage"] == "\ufffd" + "x" * 8191


@pytest.mark.parametrize(
    ("cause", "code", "text", "original"),
    [
        (NoSuchEndpoint("e"), "ValidationException", "Endpoint e of account 000000000000 not found.", None),
        (NoSuchVariant("pink", ["red", "blue"]), "ValidationException", "Variant pink not found", None),
        (NoWeights("all have weight 0"), "ValidationException", "weight 0", None),
        (EndpointNotReady("none is up"), "ServiceUnavailable", "none is up", None),
        (TimeoutError("60"), "ModelError", 'Received server error (0) from primary with message "Your invocation', 0),
        (ConnectionError("reset"), "ModelError", "dropped the connection: reset", 500),
        (AnswerTooLarge("64 MiB"), "ModelError", "64 MiB", 500),
    ],
)
@pytest.mark.spec("endpoints E-28")
async def test_what_keeps_an_answer_away_is_told(cause: Exception, code: str, text: str, original: int | None) -> None:
    """A slow container is a ModelError, which clients do not send again; nobody ready is, and they do."""
    for outcome in (invoke(Router(cause)), events(Router(cause))):
        with pytest.raises(ApiError) as raised:
            await outcome
        assert raised.value.wire_code == code
        assert text in raised.value.message
        assert raised.value.members.get("OriginalStatusCode") == original


async def test_each_chunk_is_an_event() -> None:
    """In order, unchanged, and the request is closed at the end."""
    stream = Stream([b'{"token": 1}\n', b"", b'{"token": 2}\n'])
    told = await events(Router(stream))
    assert [payload for _, payload in told] == [b'{"token": 1}\n', b"", b'{"token": 2}\n']
    assert {headers[":event-type"] for headers, _ in told} == {"PayloadPart"}
    assert stream.closed


@pytest.mark.parametrize(
    ("cause", "kind", "code"),
    [
        (ConnectionError("reset"), "ModelStreamError", b'"ErrorCode":"StreamBroken"'),
        (TimeoutError("480 seconds"), "ModelStreamError", b'"ErrorCode":"ModelInvocationTimeExceeded"'),
        (RuntimeError("a bug of ours"), "InternalStreamFailure", b"r-1"),
    ],
)
@pytest.mark.spec("endpoints E-31")
async def test_an_answer_that_breaks_off_ends_with_an_exception_event(cause: Exception, kind: str, code: bytes) -> None:
    """What came before it is not lost."""
    stream = Stream([b"begun", cause])
    [(_, begun), (headers, payload)] = await events(Router(stream))
    assert begun == b"begun"
    assert (headers[":message-type"], headers[":exception-type"]) == ("exception", kind)
    assert code in payload
    assert stream.closed


async def test_a_stream_with_a_bad_status_is_a_model_error() -> None:
    """The error page is told, and the request is closed."""
    stream = Stream([b"not ", b"today"], status=503)
    with pytest.raises(ApiError, match=r'server error \(503\) from primary with message "not today"'):
        await events(Router(stream))
    assert stream.closed


async def test_closing_an_answer_that_nobody_read_ends_the_request() -> None:
    """As when the client is gone before the first event."""
    stream = Stream([b"never"])
    operation = "InvokeEndpointWithResponseStream"
    result = await handlers(Router(stream))[operation](context(operation), {"EndpointName": "e"})
    response = service("sagemaker-runtime").operation(operation).serialize(result, "r")  # type: ignore[arg-type]
    await response.body.aclose()  # type: ignore[union-attr]
    assert stream.closed == 1
