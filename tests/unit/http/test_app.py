"""The application as boto3 and raw sockets see it."""

import asyncio
import io
import json
import os
import socket
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError, EventStreamError
from tests.unit.http.live import ACCESS_KEY, Live, client, running

from millrace.errors import AccessDenied, ApiError, ResourceNotFound, S3Error, StoreUnavailable, ValidationError
from millrace.http.stages import Handlers
from millrace.protocol.message import Context, FileRegion, Params, Reply, Request, Response, Result
from millrace.settings import Settings

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)


class ModelError(ApiError):
    """The container answered an error."""

    code = "ModelError"
    status = 424


def refuse_strangers(ctx: Context) -> None:
    """Do as S3 does unless a bucket lets them in."""
    if ctx.principal is None:
        raise AccessDenied("Access Denied")


class Recorder:
    """Handlers that keep what they were called with and answer what the test says."""

    def __init__(self, folder: Path) -> None:
        self.calls: list[tuple[Context, Params]] = []
        self.objects: dict[str, bytes] = {}
        self.trailers: dict[str, str] = {}
        self.folder = folder

    async def describe(self, ctx: Context, params: Params) -> Result:
        self.calls.append((ctx, params))
        name = params["TransformJobName"]
        if name == "missing":
            raise ResourceNotFound("Could not find requested job with name: missing")
        if name == "broken":
            raise StoreUnavailable("secret detail")
        return {"TransformJobName": name, "CreationTime": MOMENT, "FailureReason": None, "NotAMember": 1}

    async def put(self, ctx: Context, params: Params) -> Result:
        self.calls.append((ctx, params))
        refuse_strangers(ctx)
        pieces = [piece async for piece in params["Body"]]
        self.objects[params["Key"]] = b"".join(pieces)
        self.trailers = params["Body"].trailers
        return {"ETag": '"e"'}

    async def get(self, ctx: Context, params: Params) -> Result | Reply:
        self.calls.append((ctx, params))
        refuse_strangers(ctx)
        if params["Key"] == "nothing":
            raise S3Error("NoSuchKey", "The specified key does not exist.", status=404, members={"Key": "nothing"})
        content = self.objects[params["Key"]]
        path = self.folder / "object"
        path.write_bytes(content)
        if params.get("Range"):
            first, last = (int(number) for number in params["Range"][6:].split("-"))
            region = FileRegion(path, first, last - first + 1, os.open(path, os.O_RDONLY))
            return Reply(result={"Body": region}, status=206, headers=(("content-range", f"bytes {first}-{last}/*"),))
        return {"Body": FileRegion(path, 0, len(content)), "Metadata": {"a": "b\r\nx-evil: 1"}, "LastModified": MOMENT}

    async def head(self, ctx: Context, params: Params) -> Result:
        if params["Key"] == "nothing":
            raise S3Error("NoSuchKey", "The specified key does not exist.", status=404)
        return {"ContentLength": len(self.objects[params["Key"]]), "ETag": '"e"'}

    async def invoke(self, ctx: Context, params: Params) -> Result:
        self.calls.append((ctx, params))
        if params["Body"] == b"fail":
            raise ModelError(
                "Received server error (500)", members={"OriginalStatusCode": 500, "OriginalMessage": "boom"}
            )
        if params["Body"] == b"bad":
            raise ValidationError("Endpoint e of account 0 not found.")
        return {"Body": params["Body"][::-1], "ContentType": "text/csv", "InvokedProductionVariant": "AllTraffic"}

    async def stream(self, ctx: Context, params: Params) -> Result:
        async def events() -> AsyncIterator[dict[str, Any]]:
            yield {"PayloadPart": {"Bytes": b"one"}}
            yield {"PayloadPart": {"Bytes": b"two"}}
            if params["Body"] == b"fail":
                error = ApiError("stream broke")
                error.code = "ModelStreamError"  # type: ignore[misc]
                raise error

        return {"Body": events(), "ContentType": "text/plain"}


async def health(request: Request) -> Response:
    """Answer 200."""
    return Response(status=200, headers=(("content-type", "text/plain"),), body=b"ok\n")


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Recorder:
    return Recorder(tmp_path_factory.mktemp("objects"))


@pytest.fixture(scope="module")
def live(recorder: Recorder) -> Iterator[Live]:
    handlers: Handlers = {
        "sagemaker": {"DescribeTransformJob": recorder.describe},
        "s3": {"PutObject": recorder.put, "GetObject": recorder.get, "HeadObject": recorder.head},
        "sagemaker-runtime": {
            "InvokeEndpoint": recorder.invoke,
            "InvokeEndpointWithResponseStream": recorder.stream,
        },
        "sqs": {},
    }
    settings = Settings(max_body_bytes=1_000_000)
    with running(handlers, settings=settings, extra={"/_millrace/health": health, "/_millrace/x/": health}) as server:
        yield server


def _raw(live: Live, content: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", live.port), timeout=10) as connection:
        connection.sendall(content)
        received = b""
        while piece := connection.recv(65536):
            received += piece
        return received


def _code(error: ClientError) -> tuple[str, int]:
    return error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]


def test_a_json_call_reaches_its_handler(live: Live, recorder: Recorder) -> None:
    """The handler is told region, caller and address; unknown members and None are left out of the answer."""
    answer = client(live, "sagemaker").describe_transform_job(TransformJobName="job")
    metadata = answer.pop("ResponseMetadata")
    assert answer == {"TransformJobName": "job", "CreationTime": MOMENT}
    headers = metadata["HTTPHeaders"]
    assert headers["content-type"] == "application/x-amz-json-1.1"
    assert {"date", "content-length", "x-amzn-requestid"} <= headers.keys()
    assert "server" not in headers
    context, params = recorder.calls[-1]
    assert params == {"TransformJobName": "job"}
    assert (context.region, context.base_url) == ("us-west-2", live.url)
    assert context.principal is not None
    assert context.principal.arn == "arn:aws:sts::000000000000:assumed-role/Role/millrace"


@pytest.mark.parametrize(
    ("name", "code", "status"),
    [("missing", "ResourceNotFound", 400), ("a b", "ValidationException", 400), ("broken", "InternalFailure", 500)],
)
def test_json_errors_have_code_and_status(live: Live, name: str, code: str, status: int) -> None:
    """Errors of handler, validation and platform come with AWS's codes; the platform's details stay in the log."""
    with pytest.raises(ClientError) as caught:
        client(live, "sagemaker").describe_transform_job(TransformJobName=name)
    assert _code(caught.value) == (code, status)
    assert "secret detail" not in str(caught.value)


def test_modelled_errors_become_their_classes(live: Live) -> None:
    """client.exceptions works for what the model declares."""
    sagemaker = client(live, "sagemaker")
    with pytest.raises(sagemaker.exceptions.ResourceNotFound, match="with name: missing"):
        sagemaker.describe_transform_job(TransformJobName="missing")


def test_operations_that_are_not_served_are_named(live: Live) -> None:
    """An operation or service without handlers is refused by name, in the protocol's own code."""
    with pytest.raises(ClientError, match="DescribeModel of sagemaker") as caught:
        client(live, "sagemaker").describe_model(ModelName="m")
    assert _code(caught.value) == ("UnknownOperationException", 400)
    with pytest.raises(ClientError, match="ListBuckets of s3") as caught:
        client(live, "s3").list_buckets()
    assert _code(caught.value) == ("NotImplemented", 501)
    with pytest.raises(ClientError, match=r"does not serve dynamodb \(DynamoDB_20120810.ListTables\)") as caught:
        client(live, "dynamodb").list_tables()
    assert _code(caught.value) == ("UnknownOperationException", 400)
    with pytest.raises(ClientError, match="does not serve sns") as caught:
        client(live, "sns").list_topics()
    assert _code(caught.value) == ("InvalidAction", 400)


def test_query_compatible_services_send_the_old_code(live: Live) -> None:
    """An SQS error carries x-amzn-query-error, which boto3 turns into the code."""
    with pytest.raises(ClientError) as caught:
        client(live, "sqs").list_queues()
    assert "x-amzn-query-error" in caught.value.response["ResponseMetadata"]["HTTPHeaders"]


@pytest.mark.parametrize(
    ("service", "call", "unknown", "wrong"),
    [
        (
            "sagemaker",
            lambda c: c.describe_transform_job(TransformJobName="j"),
            ("UnrecognizedClientException", 400),
            ("InvalidSignatureException", 400),
        ),
        (
            "s3",
            lambda c: c.get_object(Bucket="b", Key="k"),
            ("InvalidAccessKeyId", 403),
            ("SignatureDoesNotMatch", 403),
        ),
        (
            "sagemaker-runtime",
            lambda c: c.invoke_endpoint(EndpointName="e", Body=b""),
            ("UnrecognizedClientException", 403),
            ("InvalidSignatureException", 403),
        ),
    ],
)
def test_wrong_keys_are_refused_in_the_protocols_codes(
    live: Live, service: str, call: Any, unknown: tuple[str, int], wrong: tuple[str, int]
) -> None:
    """An unknown key and a wrong secret have the codes that SDKs know."""
    with pytest.raises(ClientError) as caught:
        call(client(live, service, key=replace(ACCESS_KEY, id="AKIDOTHER")))
    assert _code(caught.value) == unknown
    with pytest.raises(ClientError) as caught:
        call(client(live, service, key=replace(ACCESS_KEY, secret="other")))
    assert _code(caught.value) == wrong


def test_unsigned_requests_are_refused(live: Live) -> None:
    """Without a signature S3 says AccessDenied, JSON services MissingAuthenticationTokenException."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{live.url}/bucket/key")
    with caught.value as answer:
        assert answer.status == 403
        assert b"<Code>AccessDenied</Code>" in answer.read()
    request = urllib.request.Request(live.url, data=b"{}", headers={"X-Amz-Target": "SageMaker.DescribeTransformJob"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    with caught.value as answer:
        assert json.load(answer)["__type"] == "MissingAuthenticationTokenException"


@pytest.mark.parametrize("key", ["a//../b c%é+", "x/./y", "/lead", "trail/", "q?#&=", "ünï"])
@pytest.mark.parametrize("signature_version", ["s3v4", "s3"])
def test_objects_go_both_ways_under_any_key(live: Live, recorder: Recorder, key: str, signature_version: str) -> None:
    """Keys are taken as they are, whatever they look like, and presigned URLs reach the same object."""
    s3 = client(live, "s3")
    s3.put_object(Bucket="bk", Key=key, Body=b"content of " + key.encode())
    assert recorder.calls[-1][1]["Key"] == key
    answer = s3.get_object(Bucket="bk", Key=key)
    assert answer["Body"].read() == b"content of " + key.encode()
    presigner = client(live, "s3", signature_version=signature_version)
    url = presigner.generate_presigned_url("get_object", Params={"Bucket": "bk", "Key": key})
    with urllib.request.urlopen(url) as response:
        assert response.read() == b"content of " + key.encode()


@pytest.mark.parametrize("host", ["my.bucket.localhost", "my.bucket.s3.eu-west-1.amazonaws.com"])
def test_virtual_hosts_name_the_bucket(live: Live, recorder: Recorder, host: str) -> None:
    """A bucket in the host name is a bucket in the parameters."""
    recorder.objects["deep/key"] = b"x"
    request = AWSRequest("GET", f"http://{host}:{live.port}/deep/key")
    S3SigV4Auth(Credentials(ACCESS_KEY.id, ACCESS_KEY.secret), "s3", "eu-west-1").add_auth(request)
    connection = HTTPConnection("127.0.0.1", live.port)
    connection.request("GET", "/deep/key", headers={**dict(request.headers), "Host": f"{host}:{live.port}"})
    assert connection.getresponse().read() == b"x"
    connection.close()
    context, params = recorder.calls[-1]
    assert (params["Bucket"], params["Key"]) == ("my.bucket", "deep/key")
    assert context.base_url.startswith("https://" if "amazonaws" in host else "http://")


def test_large_objects_stream_both_ways(live: Live, recorder: Recorder) -> None:
    """Twenty megabytes, far beyond the limit for bodies in memory, go in and out unchanged."""
    content = os.urandom(1 << 20) * 20
    s3 = client(live, "s3")
    s3.put_object(Bucket="b", Key="large", Body=io.BytesIO(content))
    answer = s3.get_object(Bucket="b", Key="large")
    assert answer["ContentLength"] == len(content)
    assert answer["Body"].read() == content
    part = s3.get_object(Bucket="b", Key="large", Range="bytes=1048570-3145741")
    assert part["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert part["Body"].read() == content[1048570:3145742]


def test_header_values_cannot_start_a_header(live: Live, recorder: Recorder) -> None:
    """A line break in stored metadata goes out as a space."""
    recorder.objects["k"] = b"x"
    headers = client(live, "s3").get_object(Bucket="b", Key="k")["ResponseMetadata"]["HTTPHeaders"]
    assert headers["x-amz-meta-a"] == "b x-evil: 1"
    assert "x-evil" not in headers


def test_s3_errors_tell_resource_and_ids(live: Live) -> None:
    """An S3 error has its members, resource and ids; after HEAD there is a status only."""
    s3 = client(live, "s3")
    with pytest.raises(s3.exceptions.NoSuchKey) as caught:
        s3.get_object(Bucket="b", Key="nothing")
    error = caught.value.response
    assert (error["Error"]["Key"], error["Error"]["Resource"]) == ("nothing", "/b/nothing")
    assert error["ResponseMetadata"]["RequestId"]
    assert error["ResponseMetadata"]["HostId"]
    with pytest.raises(ClientError) as head:
        s3.head_object(Bucket="b", Key="nothing")
    assert _code(head.value) == ("404", 404)


def test_head_keeps_the_objects_length(live: Live, recorder: Recorder) -> None:
    """HeadObject tells the object's length without its body."""
    recorder.objects["headed"] = b"12345"
    assert client(live, "s3").head_object(Bucket="b", Key="headed")["ContentLength"] == 5


def test_a_body_other_than_the_signed_one_is_refused_while_it_streams(live: Live, recorder: Recorder) -> None:
    """Bytes changed on the way are XAmzContentSHA256Mismatch, before the handler can commit them."""
    s3 = client(live, "s3")

    s3.meta.events.register("before-send.s3.PutObject", lambda request, **_: _with_body(request, b"changed!"))
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket="b", Key="tampered", Body=b"original")
    assert _code(caught.value) == ("XAmzContentSHA256Mismatch", 400)
    assert "tampered" not in recorder.objects


def _with_body(request: Any, body: bytes) -> None:
    request.body = body


def test_temporary_keys_need_their_token(live: Live, recorder: Recorder) -> None:
    """A session's key works with its token only, and not after its end."""
    session = asyncio.run(live.keys.create_session_key(role="R", session_name="s", duration_seconds=900))
    client(live, "sagemaker", key=session).describe_transform_job(TransformJobName="j")
    principal = recorder.calls[-1][0].principal
    assert principal is not None
    assert (principal.role, principal.session) == ("R", "s")
    with pytest.raises(ClientError) as caught:
        client(live, "sagemaker", key=replace(session, session_token=None)).describe_transform_job(TransformJobName="j")
    assert _code(caught.value)[0] == "UnrecognizedClientException"
    ended = asyncio.run(live.keys.create_session_key(role="R", session_name="s", duration_seconds=-1))
    with pytest.raises(ClientError) as caught:
        client(live, "sagemaker", key=ended).describe_transform_job(TransformJobName="j")
    assert _code(caught.value)[0] == "ExpiredTokenException"


def test_the_runtime_speaks_raw_bodies(live: Live) -> None:
    """InvokeEndpoint passes bytes and content type; its errors have the runtime's names and members."""
    runtime = client(live, "sagemaker-runtime")
    answer = runtime.invoke_endpoint(EndpointName="e", Body=b"abc")
    assert (answer["Body"].read(), answer["ContentType"]) == (b"cba", "text/csv")
    with pytest.raises(runtime.exceptions.ModelError) as failed:
        runtime.invoke_endpoint(EndpointName="e", Body=b"fail")
    assert _code(failed.value) == ("ModelError", 424)
    assert failed.value.response["OriginalMessage"] == "boom"
    with pytest.raises(ClientError) as caught:
        runtime.invoke_endpoint(EndpointName="e", Body=b"bad")
    assert _code(caught.value) == ("ValidationError", 400)


def test_event_streams_come_event_by_event(live: Live) -> None:
    """A stream of events is read by boto3; an error in its middle is an exception event."""
    runtime = client(live, "sagemaker-runtime")
    events = runtime.invoke_endpoint_with_response_stream(EndpointName="e", Body=b"x")["Body"]
    assert [event["PayloadPart"]["Bytes"] for event in events] == [b"one", b"two"]
    events = runtime.invoke_endpoint_with_response_stream(EndpointName="e", Body=b"fail")["Body"]
    with closing(events), pytest.raises(EventStreamError, match="stream broke"):
        list(events)


def test_own_paths_are_served_unsigned(live: Live) -> None:
    """Paths below /_millrace/ have plain handlers; one that ends in a slash takes all below it."""
    for path in ("/_millrace/health", "/_millrace/x/any/thing"):
        with urllib.request.urlopen(live.url + path) as answer:
            assert answer.read() == b"ok\n"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(live.url + "/_millrace/no")
    with caught.value as refused:
        assert refused.status == 404


def test_bodies_beyond_the_limit_are_refused(live: Live) -> None:
    """A JSON body above the setting is refused, with the limit and the size."""
    with pytest.raises(ClientError, match="at most 1000000 bytes, got 2000") as caught:
        client(live, "sagemaker").describe_transform_job(TransformJobName="x" * 2_000_000)
    assert _code(caught.value) == ("ValidationException", 400)


def test_broken_requests_are_answered(live: Live) -> None:
    """Requests that no SDK sends are answered with an error, never with silence or a 500.

    Unsigned ones for S3 reach its operations, which may be for everybody; 501 names one that is not served.
    """
    for target in (b"/%zz", b"/b/%ff", b"/?X-Amz-Algorithm=x", b"/b?AWSAccessKeyId=x", b"/a?" + b"x&" * 25_000):
        answer = _raw(live, b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 501")), answer[:200]
        assert b"<Code>" in answer
    huge = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Huge: " + b"h" * 30_000 + b"\r\n\r\n"
    assert _raw(live, huge).startswith((b"HTTP/1.1 4", b"HTTP/1.1 501"))


def test_expect_100_continue_is_answered_at_once(live: Live, recorder: Recorder) -> None:
    """A client that waits before it sends its body is told to go on; a refused one is not."""
    refused = _raw(
        live, b"PUT /b/k HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\nConnection: close\r\n\r\n"
    )
    assert refused.startswith(b"HTTP/1.1 403")
    # The body never comes, so the connection can't be used for another request.
    closed = _raw(live, b"PUT /b/k HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    assert closed.startswith(b"HTTP/1.1 403")
    assert b"connection: close" in closed
    client(live, "s3").put_object(Bucket="b", Key="expected", Body=io.BytesIO(b"hello"))
    assert recorder.objects["expected"] == b"hello"


def test_connections_are_kept(live: Live) -> None:
    """Two requests go over one connection."""
    request = b"GET /_millrace/health HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /_millrace/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert _raw(live, request + last).count(b"HTTP/1.1 200") == 2
