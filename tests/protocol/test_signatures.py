"""botocore's signers and the vectors of the S3 documentation as the other end of our verification."""

import hashlib
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from botocore.auth import HmacV1Auth, HmacV1QueryAuth, S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth, SigV4QueryAuth
from botocore.session import Session
from hypothesis import given
from hypothesis import strategies as st
from tests.protocol.signing import SECRET, signed

from millrace.protocol.bodies import MemoryBody
from millrace.protocol.chunked import ChunkedBody
from millrace.protocol.faults import AuthFailure, AuthProblem, IncompleteBody
from millrace.protocol.message import Request
from millrace.protocol.sigv2 import check_time_v2, find_signature_v2, verify_signature_v2
from millrace.protocol.sigv4 import (
    UNSIGNED_PAYLOAD,
    ChunkSignatures,
    Signature,
    check_time,
    find_signature,
    signing_key,
    verify_signature,
)
from millrace.protocol.targets import parse_pairs

PATHS = [
    "/",
    "/bucket/a%20b",
    "/bucket//double/../dots/./x",
    "/bucket/%C3%A9%2B%25",
    "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A1%3Afunction%3Af/invocations",
]


def _verify(request: Request, payload_hash: str | None = None, secret: str = SECRET) -> Signature:
    signature = find_signature(request, parse_pairs(request.query))
    assert signature is not None
    computed = payload_hash or signature.payload_hash or UNSIGNED_PAYLOAD
    verify_signature(signature, request, secret=secret, payload_hash=computed)
    return signature


@pytest.mark.spec("api-surface 4")
@pytest.mark.parametrize("path", PATHS)
def test_header_signatures_of_json_and_rest_services_hold(path: str) -> None:
    """What SigV4Auth signs verifies, with the path normalised and escaped again."""
    body = b'{"A": 1}'
    request = signed(
        SigV4Auth,
        "lambda",
        "us-east-1",
        method="POST",
        url=f"http://127.0.0.1:4600{path}?b=2&a=%20x&a=1&empty",
        headers={"X-Amz-Target": "a  b   c"},
        body=body,
    )
    signature = _verify(request, hashlib.sha256(body).hexdigest())
    assert (signature.service, signature.region) == ("lambda", "us-east-1")


@pytest.mark.spec("api-surface 4")
@pytest.mark.parametrize("path", PATHS)
def test_header_signatures_of_s3_hold(path: str) -> None:
    """What S3SigV4Auth signs verifies, with the path as it was sent."""
    _verify(signed(S3SigV4Auth, "s3", "eu-west-1", url=f"http://127.0.0.1:4600{path}?uploads", body=b"x"))


@pytest.mark.spec("api-surface 4")
@pytest.mark.parametrize("path", PATHS)
def test_presigned_urls_hold(path: str) -> None:
    """A URL that S3SigV4QueryAuth presigned verifies, and stops to hold when a parameter is added."""
    url = f"http://127.0.0.1:4600{path}?versionId=1"
    request = signed(S3SigV4QueryAuth, "s3", "us-east-1", url=url, expires=60)
    signature = _verify(request)
    assert signature.expires_seconds == 60
    with pytest.raises(AuthFailure) as caught:
        _verify(replace(request, query=request.query + b"&partNumber=1"))
    assert caught.value.problem is AuthProblem.MISMATCH


def test_presigned_calls_of_other_services_hold() -> None:
    """A presigned GetCallerIdentity verifies with the hash of its empty body."""
    request = signed(SigV4QueryAuth, "sts", "us-east-1", url="http://127.0.0.1/?Action=GetCallerIdentity", token="t/+=")
    signature = _verify(request, hashlib.sha256(b"").hexdigest())
    assert signature.token == "t/+="


@pytest.mark.parametrize(
    "change",
    [
        lambda request: replace(request, method="PUT"),
        lambda request: replace(request, path=request.path + b"x"),
        lambda request: replace(request, query=b"prefix=b"),
        lambda request: replace(
            request, headers=tuple((n, "evil:1" if n == "host" else v) for n, v in request.headers)
        ),
    ],
)
def test_a_changed_request_is_refused(change: object) -> None:
    """Method, path, query and signed headers cannot be changed after signing."""
    request = signed(S3SigV4Auth, "s3", "us-east-1", url="http://127.0.0.1/b/k?prefix=a")
    assert callable(change)
    with pytest.raises(AuthFailure) as caught:
        _verify(change(request))
    assert caught.value.problem is AuthProblem.MISMATCH


def test_another_secret_is_refused() -> None:
    """A signature made with another secret does not verify."""
    with pytest.raises(AuthFailure):
        _verify(signed(S3SigV4Auth, "s3", "us-east-1"), secret="other")


def test_s3_headers_outside_of_the_signature_are_refused() -> None:
    """Nobody adds x-amz-copy-source to a request that was signed without it."""
    request = signed(S3SigV4Auth, "s3", "us-east-1", method="PUT", url="http://127.0.0.1/b/k")
    request = replace(request, headers=(*request.headers, ("x-amz-copy-source", "/secret/object")))
    with pytest.raises(AuthFailure, match="not signed"):
        _verify(request)


def test_time_is_checked_with_skew_and_expiry() -> None:
    """A header's time may differ by the skew both ways; a URL holds until it expires."""
    by_header = find_signature(signed(S3SigV4Auth, "s3", "us-east-1"), [])
    assert by_header is not None
    now = by_header.signed_at
    check_time(by_header, now + timedelta(seconds=900), 900)
    check_time(by_header, now - timedelta(seconds=900), 900)
    for off in (901, -901):
        with pytest.raises(AuthFailure) as caught:
            check_time(by_header, now + timedelta(seconds=off), 900)
        assert caught.value.problem is AuthProblem.SKEWED
    request = signed(S3SigV4QueryAuth, "s3", "us-east-1", expires=3600)
    by_query = find_signature(request, parse_pairs(request.query))
    assert by_query is not None
    check_time(by_query, by_query.signed_at + timedelta(seconds=3600), 900)
    with pytest.raises(AuthFailure) as caught:
        check_time(by_query, by_query.signed_at + timedelta(seconds=3601), 900)
    assert caught.value.problem is AuthProblem.EXPIRED_URL


@pytest.mark.parametrize("given", ["0", "604801", "-1", "1.5", "", "9" * 5000, "0000604800" + "9" * 12, "\u0661"])
def test_a_url_expires_in_a_week_at_most(given: str) -> None:
    """However many digits say so, and whatever they begin with, nothing else than a number of seconds is taken."""
    request = signed(S3SigV4QueryAuth, "s3", "us-east-1", expires=60)
    query = [(name, given if name == "X-Amz-Expires" else value) for name, value in parse_pairs(request.query)]
    with pytest.raises(AuthFailure, match=r"X-Amz-Expires must be between 1 and 604800 seconds, got '"):
        find_signature(request, query)


@pytest.mark.parametrize("given", ["604800", "000000000000000604800"])
def test_zeros_before_a_number_of_seconds_do_not_count(given: str) -> None:
    """A URL may live for a week, however that is written."""
    request = signed(S3SigV4QueryAuth, "s3", "us-east-1", expires=60)
    query = [(name, given if name == "X-Amz-Expires" else value) for name, value in parse_pairs(request.query)]
    signature = find_signature(request, query)
    assert signature is not None
    assert signature.expires_seconds == 604800


@pytest.mark.parametrize("service", ["s3", "lambda"])
def test_unverified_requests_fill_no_memory(service: str) -> None:
    """Whoever knows the id of a key but not the secret leaves nothing behind, however long path and scope are."""
    request = signed(S3SigV4Auth, service, "us-east-1")
    signature = _verify(request)
    tracemalloc.start()
    try:
        for number in range(100):
            long = b"%03d" % number + b"x" * 60_000
            with pytest.raises(AuthFailure):
                verify_signature(
                    signature._replace(region=long.decode()),
                    replace(request, path=b"/" + long),
                    secret=SECRET,
                    payload_hash=UNSIGNED_PAYLOAD,
                )
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1_000_000


@pytest.mark.parametrize(
    "header",
    [
        "AWS4-HMAC-SHA256 Credential=a/b/c/d, SignedHeaders=host, Signature=x",
        "AWS4-HMAC-SHA256 Credential=AK/20260101/us-east-1/s3/aws4_request, Signature=x",
        "AWS4-HMAC-SHA256 rubbish",
        "AWS4-ECDSA-P256-SHA256 Credential=AK/20260101/s3/aws4_request, SignedHeaders=host, Signature=x",
    ],
)
def test_malformed_authorization_names_what_is_wrong(header: str) -> None:
    """A header that does not parse is refused as malformed."""
    request = Request(
        method="GET",
        path=b"/",
        query=b"",
        headers=(("authorization", header), ("x-amz-date", "20260101T000000Z")),
        body=MemoryBody(),
    )
    with pytest.raises(AuthFailure) as caught:
        find_signature(request, [])
    assert caught.value.problem is AuthProblem.MALFORMED


@pytest.mark.spec("api-surface 4")
@pytest.mark.parametrize("path", ["/bucket/key", "/bucket/a%20b/%C3%A9", "/bucket//x"])
def test_version_2_urls_hold(path: str) -> None:
    """What boto3 presigns by default against a custom endpoint verifies until it expires."""
    url = f"http://127.0.0.1:4600{path}?response-content-type=text%2Fcsv&uploadId=u%2B1&other=1&acl"
    request = signed(HmacV1QueryAuth, url=url, expires=60, token="tok", headers={"x-amz-meta-a": "b"})
    request = replace(request, headers=(("host", "127.0.0.1:4600"),))
    query = parse_pairs(request.query)
    signature = find_signature_v2(request, query)
    assert signature is not None
    verify_signature_v2(signature, request, query, secret=SECRET, bucket=None)
    with pytest.raises(AuthFailure):
        verify_signature_v2(signature, replace(request, method="PUT"), query, secret=SECRET, bucket=None)
    assert signature.expires is not None
    expires_at = datetime.fromtimestamp(signature.expires, UTC)
    check_time_v2(signature, request, expires_at, 900)
    with pytest.raises(AuthFailure) as caught:
        check_time_v2(signature, request, expires_at + timedelta(seconds=1), 900)
    assert caught.value.problem is AuthProblem.EXPIRED_URL


@pytest.mark.spec("api-surface 4")
def test_version_2_urls_hold_for_their_operation_only() -> None:
    """Whoever holds a presigned URL can't make another operation of it: a sub-resource is signed, or refused."""
    model = Session().get_service_model("s3")
    uris = [model.operation_model(name).http["requestUri"] for name in model.operation_names]
    fixed = {part.partition("=")[0] for uri in uris for part in uri.partition("?")[2].split("&")}
    chosen = sorted(fixed - {"", "list-type", "x-id"})
    assert {"acl", "encryption", "policyStatus", "uploads"} <= set(chosen)
    request = signed(HmacV1QueryAuth, method="PUT", url="http://127.0.0.1:4600/bucket", expires=60)
    for name in chosen:
        added = replace(request, query=request.query + b"&" + name.encode())
        query = parse_pairs(added.query)
        signature = find_signature_v2(added, query)
        assert signature is not None
        with pytest.raises(AuthFailure):
            verify_signature_v2(signature, added, query, secret=SECRET, bucket=None)


def test_version_2_headers_may_sign_any_operation() -> None:
    """Nobody but the signer has a request signed in its header, so a client of version 2 may use every operation."""
    url = "http://127.0.0.1:4600/bucket?encryption"
    request = signed(HmacV1Auth, url=url)
    query = parse_pairs(request.query)
    signature = find_signature_v2(request, query)
    assert signature is not None
    verify_signature_v2(signature, request, query, secret=SECRET, bucket=None)


class Pieces:
    """A body that arrives in the pieces given."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces
        self.length: int | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece

    async def read(self, limit: int) -> bytes:
        return b"".join(self._pieces)


def _documented_signature() -> Signature:
    return Signature(
        access_key="AKIAIOSFODNN7EXAMPLE",
        date="20130524",
        region="us-east-1",
        service="s3",
        signed_headers=("host",),
        value="4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
        timestamp="20130524T000000Z",
        payload_hash="STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        token=None,
    )


def _documented_chain() -> ChunkSignatures:
    key = signing_key("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "20130524", "us-east-1", "s3")
    return ChunkSignatures(_documented_signature(), key)


def _documented_body() -> bytes:
    return (
        b"10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n"
        + b"a" * 65536
        + b"\r\n400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n"
        + b"a" * 1024
        + b"\r\n0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n"
    )


async def test_the_documented_chunked_upload_verifies() -> None:
    """The example of the S3 documentation, 65 KiB in two signed chunks, verifies and decodes."""
    body = ChunkedBody(MemoryBody(_documented_body()), length=66560, signatures=_documented_chain())
    assert await body.read(1 << 20) == b"a" * 66560


async def test_a_changed_chunk_raises_before_iteration_ends() -> None:
    """One changed byte in a signed chunk makes reading fail, so that nothing is committed."""
    content = _documented_body().replace(b"a" * 1024 + b"\r\n0;", b"a" * 1023 + b"b\r\n0;")
    body = ChunkedBody(MemoryBody(content), length=66560, signatures=_documented_chain())
    with pytest.raises(AuthFailure):
        await body.read(1 << 20)


async def test_trailers_are_told_after_the_last_chunk() -> None:
    """Trailing headers of an unsigned upload are there once the body has been read."""
    body = ChunkedBody(MemoryBody(b"3\r\nabc\r\n0\r\nx-amz-checksum-crc32:NSRBwg==\r\n\r\n"), length=3)
    assert body.trailers == {}
    assert await body.read(10) == b"abc"
    assert body.trailers == {"x-amz-checksum-crc32": "NSRBwg=="}


@given(st.binary(max_size=300), st.lists(st.integers(1, 40), max_size=20), st.integers(1, 50))
async def test_decoding_does_not_depend_on_how_the_body_arrives(content: bytes, cuts: list[int], size: int) -> None:
    """Whatever the chunks and the network's pieces, the decoded bytes are the client's."""
    encoded = b""
    for start in range(0, len(content), size):
        chunk = content[start : start + size]
        encoded += b"%x\r\n%s\r\n" % (len(chunk), chunk)
    encoded += b"0\r\nx-amz-checksum-sha256: abc\r\n\r\n"
    pieces = []
    for cut in cuts:
        pieces.append(encoded[:cut])
        encoded = encoded[cut:]
    body = ChunkedBody(Pieces([*pieces, encoded]), length=len(content))
    assert await body.read(1000) == content
    assert body.trailers == {"x-amz-checksum-sha256": "abc"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"3\r\nab",
        b"3\r\nabc\r\n",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"-3\r\nabc\r\n0\r\n\r\n",
        b"0x3\r\nabc\r\n0\r\n\r\n",
        b"ffffffffffffffffff\r\n",
        b"2\r\nab\r\n0\r\n\r\n",
        b"4\r\nabcd\r\n0\r\n\r\n",
        b"3\r\nabc\r\n0\r\n\r\nmore",
        b"3;" + b"x" * 9000 + b"\r\nabc\r\n0\r\n\r\n",
        b"3\r\nabc\r\n0\r\n" + b"a:b\r\n" * 100 + b"\r\n",
        b"3\r\nabc\r\n0\r\nno colon\r\n\r\n",
    ],
)
async def test_broken_chunks_are_refused(content: bytes) -> None:
    """A body that is cut, too long, too short or no chunked body at all is refused by name."""
    with pytest.raises(IncompleteBody):
        await ChunkedBody(MemoryBody(content), length=3).read(1000)
