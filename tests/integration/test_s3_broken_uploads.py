"""Uploads that break off or lie, on a real server: S3's error codes, the old object intact, nothing left behind."""

import base64
import hashlib
import http.client
import socket
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from millrace.commands.environment import client_environment
from tests.integration.platform import Platform, wait_until

CONTENT = b"new content"
UNSIGNED_CHUNKS = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"


@pytest.fixture
def old(platform: Platform) -> str:
    """An object that broken uploads must not change."""
    return platform.put("s3://shop/broken", b"old")


def signed_headers(platform: Platform, headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of a signed PUT of s3://shop/broken."""
    environment = client_environment(platform.settings, platform.address, proxy=False)
    credentials = Credentials(environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"])
    request: Any = AWSRequest(method="PUT", url=f"{platform.address.url}/shop/broken", headers=dict(headers))
    request.headers["X-Amz-Content-SHA256"] = headers["X-Amz-Content-SHA256"]
    signer: Any = S3SigV4Auth(credentials, "s3", "us-east-1")
    signer.payload = lambda _: headers["X-Amz-Content-SHA256"]
    signer.add_auth(request)
    return {name: str(value) for name, value in request.headers.items()}


def put(platform: Platform, body: bytes, **headers: str) -> tuple[int, bytes]:
    """Send a PUT and return status and body of the answer."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection = http.client.HTTPConnection(urlsplit(platform.address.url).netloc, timeout=30)
    try:
        connection.request("PUT", "/shop/broken", body, signed_headers(platform, named))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def drafts(platform: Platform) -> list[Path]:
    """Return the files that uploads in progress have in the bucket's private folder."""
    temporary = platform.settings.objects_dir / ".millrace" / "shop" / "tmp"
    return [path for path in temporary.rglob("*") if path.is_file()]


def chunks(content: bytes, *, trailer: str = "") -> bytes:
    """Return a body in the unsigned chunked form."""
    return b"%x\r\n%b\r\n0\r\n%b\r\n" % (len(content), content, trailer.encode())


def crc(content: bytes) -> str:
    return base64.b64encode(zlib.crc32(content).to_bytes(4, "big")).decode()


CHUNKED = {"X_Amz_Content_SHA256": UNSIGNED_CHUNKS, "X_Amz_Trailer": "x-amz-checksum-crc32"}


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (CONTENT, {"X_Amz_Content_SHA256": hashlib.sha256(b"other").hexdigest()}, 400, b"XAmzContentSHA256Mismatch"),
        (CONTENT, {"X_Amz_Content_SHA256": "UNSIGNED-PAYLOAD", "Content_MD5": "A" * 22 + "=="}, 400, b"BadDigest"),
        (CONTENT, {"X_Amz_Content_SHA256": "UNSIGNED-PAYLOAD", "X_Amz_Checksum_CRC32": crc(b"x")}, 400, b"BadDigest"),
        (
            chunks(CONTENT, trailer=f"x-amz-checksum-crc32:{crc(b'other')}\r\n"),
            {**CHUNKED, "X_Amz_Decoded_Content_Length": str(len(CONTENT))},
            400,
            b"BadDigest",
        ),
        (
            chunks(CONTENT, trailer=f"x-amz-checksum-crc32:{crc(CONTENT)}\r\n"),
            {**CHUNKED, "X_Amz_Decoded_Content_Length": str(len(CONTENT) + 1)},
            400,
            b"IncompleteBody",
        ),
        (chunks(CONTENT), {**CHUNKED, "X_Amz_Decoded_Content_Length": str(len(CONTENT))}, 400, b"InvalidRequest"),
        (chunks(CONTENT), CHUNKED, 411, b"MissingContentLength"),
    ],
)
def test_a_body_that_is_not_what_was_announced_is_refused(
    platform: Platform, old: str, body: bytes, headers: dict[str, str], status: int, code: bytes
) -> None:
    """Hashes, checksums, trailers and lengths are compared before anything is stored."""
    answer = put(platform, body, **headers)
    assert (answer[0], code in answer[1]) == (status, True), answer
    assert platform.get(old) == b"old"
    assert drafts(platform) == []


def test_an_upload_that_breaks_off_stores_nothing(platform: Platform, old: str) -> None:
    """The client goes away in the middle of the body: the draft goes with it."""
    url = urlsplit(platform.address.url)
    lines = signed_headers(platform, {"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"})
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    with socket.create_connection((url.hostname or "", url.port or 0)) as connection:
        request = f"PUT /shop/broken HTTP/1.1\r\nHost: {url.netloc}\r\n{head}Content-Length: 1000000\r\n\r\n"
        connection.sendall(request.encode() + b"x" * 200_000)
        wait_until("the draft is there", lambda: drafts(platform))
    wait_until("the draft is gone", lambda: not drafts(platform))
    assert platform.get(old) == b"old"
