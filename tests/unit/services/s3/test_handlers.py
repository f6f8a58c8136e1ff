"""S3's handlers: parameters in wire names in, results in wire names out."""

import base64
import hashlib
import os
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import time_ns
from typing import Any

import pytest

from millrace.errors import S3Error
from millrace.protocol.bodies import MemoryBody
from millrace.protocol.message import Context, FileRegion, Principal, Reply, Request
from millrace.protocol.operations import service
from millrace.protocol.xml import Markup, XmlReaders, parse_document
from millrace.services import s3
from millrace.store.filesystem import FilesystemObjects

ACCOUNT = "123456789012"

Call = Callable[..., Awaitable[dict[str, Any]]]


class TrailingBody:
    """A body whose trailers are there once it has been read."""

    def __init__(self, content: bytes, trailers: dict[str, str]) -> None:
        self._content = content
        self._late = trailers
        self.trailers: dict[str, str] = {}
        self.length = len(content)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._content
        self.trailers = self._late

    async def read(self, limit: int) -> bytes:
        return self._content[:limit]


def context(operation: str, *, region: str = "us-east-1", headers: Mapping[str, str] | None = None) -> Context:
    """Return what a handler is told about a call."""
    return Context(
        request_id="r",
        service="s3",
        operation=operation,
        region=region,
        account=ACCOUNT,
        principal=Principal(access_key="AKIATEST", account=ACCOUNT, role="Role"),
        base_url="http://127.0.0.1:4600",
        request=Request(method="GET", path=b"/", query=b"", headers=tuple((headers or {}).items()), body=MemoryBody()),
    )


_READ_ENTRIES = XmlReaders().members_reader(
    service("s3").model.operation_model("ListObjectsV2").output_shape, ["Contents"]
)


@pytest.fixture
def call(tmp_path: Path) -> Call:
    """Call an operation; the status of a Reply is in `_status`, the bytes of a body in `_bytes`."""
    table = s3.handlers(FilesystemObjects(tmp_path, durable=False), account=ACCOUNT)

    async def call(
        operation: str, *, _region: str = "us-east-1", _headers: Mapping[str, str] | None = None, **params: Any
    ) -> dict[str, Any]:
        if isinstance(params.get("Body"), bytes):
            params["Body"] = MemoryBody(params["Body"])
        answer = await table[operation](context(operation, region=_region, headers=_headers), params)
        status = answer.status if isinstance(answer, Reply) else None
        result = dict(answer.result if isinstance(answer, Reply) else answer or {})
        body = result.get("Body")
        if isinstance(body, FileRegion):
            assert body.fd is not None
            result["_bytes"] = os.pread(body.fd, body.length, body.start)
            os.close(body.fd)
        if isinstance(entries := result.get("Contents"), Markup):
            result["Contents"] = _READ_ENTRIES(parse_document(f"<page>{entries}</page>".encode())).get("Contents", [])
        return {**result, "_status": status}

    return call


@pytest.fixture
async def bucket(call: Call) -> str:
    """The bucket "box-one"."""
    await call("CreateBucket", Bucket="box-one")
    return "box-one"


_POLICY = '{"Statement": {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "arn:aws:s3:::box-one/x"}}'


async def refused(code: str, status: int, answer: Awaitable[object]) -> S3Error:
    """Expect an error of that code and status."""
    with pytest.raises(S3Error) as caught:
        await answer
    assert (caught.value.wire_code, caught.value.wire_status) == (code, status)
    return caught.value


def crc(data: bytes) -> str:
    """Return a CRC32 as S3 writes it."""
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


# --- buckets


@pytest.mark.parametrize("name", ["ab", "A-bucket", "a..b", "192.168.1.1", "-ab", "ab-", "a_b", "xn--a", "a" * 64])
async def test_a_bucket_needs_a_valid_name(call: Call, name: str) -> None:
    """Names that S3 refuses are refused."""
    await refused("InvalidBucketName", 400, call("CreateBucket", Bucket=name))


async def test_a_bucket_is_made_in_a_region(call: Call) -> None:
    """us-east-1 needs no constraint, other regions need theirs."""
    await call("CreateBucket", Bucket="east")
    assert (await call("GetBucketLocation", Bucket="east"))["LocationConstraint"] is None
    west = {"LocationConstraint": "eu-west-1"}
    await refused("IllegalLocationConstraintException", 400, call("CreateBucket", Bucket="west", _region="eu-west-1"))
    await call("CreateBucket", Bucket="west", _region="eu-west-1", CreateBucketConfiguration=west)
    assert (await call("GetBucketLocation", Bucket="west"))["LocationConstraint"] == "eu-west-1"
    await refused(
        "IllegalLocationConstraintException",
        400,
        call("CreateBucket", Bucket="third", _region="eu-central-1", CreateBucketConfiguration=west),
    )


async def test_an_own_bucket_is_made_again_only_in_us_east_1(call: Call, bucket: str) -> None:
    """us-east-1 answers 200 to its own bucket, other regions BucketAlreadyOwnedByYou."""
    assert (await call("CreateBucket", Bucket=bucket))["Location"] == f"/{bucket}"
    west = {"LocationConstraint": "eu-west-1"}
    again = call("CreateBucket", Bucket=bucket, _region="eu-west-1", CreateBucketConfiguration=west)
    await refused("BucketAlreadyOwnedByYou", 409, again)


async def test_another_owner_is_denied(call: Call, bucket: str) -> None:
    """A request for a bucket of another account is refused, whatever the operation."""
    await call("HeadBucket", Bucket=bucket, ExpectedBucketOwner=ACCOUNT)
    for operation, more in (
        ("HeadBucket", {}),
        ("ListObjectsV2", {}),
        ("PutObject", {"Key": "k", "Body": b""}),
        ("CreateMultipartUpload", {"Key": "k"}),
    ):
        denied = call(operation, Bucket=bucket, ExpectedBucketOwner="000000000001", **more)
        await refused("AccessDenied", 403, denied)
    await refused("NoSuchBucket", 404, call("HeadBucket", Bucket="none", ExpectedBucketOwner="000000000001"))


async def test_buckets_are_listed_in_pages(call: Call) -> None:
    """All buckets at once, or as many as the client asks for."""
    for name in ("one", "two", "three"):
        await call("CreateBucket", Bucket=name)
    assert [found["Name"] for found in (await call("ListBuckets"))["Buckets"]] == ["one", "three", "two"]
    page = await call("ListBuckets", MaxBuckets=2)
    assert [found["Name"] for found in page["Buckets"]] == ["one", "three"]
    rest = await call("ListBuckets", MaxBuckets=2, ContinuationToken=page["ContinuationToken"])
    assert [found["Name"] for found in rest["Buckets"]] == ["two"]
    assert rest["ContinuationToken"] is None
    assert all(isinstance(found["CreationDate"], datetime) for found in page["Buckets"])


@pytest.mark.parametrize(
    ("kind", "member", "document", "missing"),
    [
        ("BucketTagging", "Tagging", {"TagSet": [{"Key": "k", "Value": "v"}]}, "NoSuchTagSet"),
        (
            "BucketCors",
            "CORSConfiguration",
            {"CORSRules": [{"AllowedMethods": ["GET"], "AllowedOrigins": ["*"]}]},
            "NoSuchCORSConfiguration",
        ),
        (
            "BucketLifecycleConfiguration",
            "LifecycleConfiguration",
            {"Rules": [{"Status": "Enabled", "Expiration": {"Date": datetime(2030, 1, 1, tzinfo=UTC)}}]},
            "NoSuchLifecycleConfiguration",
        ),
        ("BucketVersioning", "VersioningConfiguration", {"Status": "Enabled"}, None),
        (
            "BucketNotificationConfiguration",
            "NotificationConfiguration",
            {"LambdaFunctionConfigurations": [{"LambdaFunctionArn": "arn:x", "Events": ["s3:ObjectCreated:*"]}]},
            None,
        ),
    ],
)
async def test_a_configuration_is_told_back(
    call: Call, bucket: str, kind: str, member: str, document: dict[str, Any], missing: str | None
) -> None:
    """What was put is told back, times and all; what was never put is told as S3 tells it."""
    if missing is None:
        assert await call(f"Get{kind}", Bucket=bucket) == {"_status": None}
    else:
        await refused(missing, 404, call(f"Get{kind}", Bucket=bucket))
    await call(f"Put{kind}", Bucket=bucket, **{member: document})
    assert await call(f"Get{kind}", Bucket=bucket) == {**document, "_status": None}


async def test_a_configuration_may_be_one_member(call: Call, bucket: str) -> None:
    """Policy and public access block come back under their names, and can be removed."""
    await refused("NoSuchBucketPolicy", 404, call("GetBucketPolicy", Bucket=bucket))
    await refused("MalformedPolicy", 400, call("PutBucketPolicy", Bucket=bucket, Policy="no"))
    await call("PutBucketPolicy", Bucket=bucket, Policy=_POLICY)
    assert (await call("GetBucketPolicy", Bucket=bucket))["Policy"] == _POLICY
    await call("DeleteBucketPolicy", Bucket=bucket)
    await refused("NoSuchBucketPolicy", 404, call("GetBucketPolicy", Bucket=bucket))
    block = {"BlockPublicAcls": True}
    await call("PutPublicAccessBlock", Bucket=bucket, PublicAccessBlockConfiguration=block)
    assert (await call("GetPublicAccessBlock", Bucket=bucket))["PublicAccessBlockConfiguration"] == block


async def test_nothing_is_promised_that_is_not_kept(call: Call, bucket: str) -> None:
    """Objects for everybody, locks and keys of the client are refused rather than ignored."""
    put = {"Bucket": bucket, "Key": "k", "Body": b""}
    await refused("AccessControlListNotSupported", 400, call("PutObject", **put, ACL="public-read"))
    await refused("AccessControlListNotSupported", 400, call("PutBucketAcl", Bucket=bucket, ACL="public-read"))
    await refused("InvalidRequest", 400, call("PutObject", **put, ObjectLockMode="GOVERNANCE"))
    await refused("NotImplemented", 501, call("PutObject", **put, SSECustomerAlgorithm="AES256"))
    await call("PutObject", **put, ACL="bucket-owner-full-control")
    grants = (await call("GetBucketAcl", Bucket=bucket))["Grants"]
    assert [grant["Permission"] for grant in grants] == ["FULL_CONTROL"]
    await refused("ReplicationConfigurationNotFoundError", 404, call("GetBucketReplication", Bucket=bucket))


# --- objects


async def test_what_is_put_comes_back(call: Call, bucket: str) -> None:
    """Bytes, headers, metadata, tags and encryption wishes come back."""
    expires = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    put = await call(
        "PutObject",
        Bucket=bucket,
        Key="k",
        Body=b"data",
        ContentType="text/csv",
        ContentEncoding="gzip,aws-chunked",
        CacheControl="no-store",
        Expires=expires,
        Metadata={"Who": "mé"},
        Tagging="a=1&b=x%20y",
        ServerSideEncryption="aws:kms",
        SSEKMSKeyId="key-1",
    )
    assert put["ETag"] == f'"{hashlib.md5(b"data").hexdigest()}"'
    assert (put["ServerSideEncryption"], put["SSEKMSKeyId"]) == ("aws:kms", "key-1")
    got = await call("GetObject", Bucket=bucket, Key="k")
    assert got["_bytes"] == b"data"
    assert got["_status"] is None
    expected = {
        "ContentType": "text/csv",
        "ContentEncoding": "gzip",
        "CacheControl": "no-store",
        "Expires": expires,
        "Metadata": {"who": "=?UTF-8?B?bcOp?="},
        "TagCount": 2,
        "ServerSideEncryption": "aws:kms",
        "SSEKMSKeyId": "key-1",
        "ContentLength": 4,
        "ETag": put["ETag"],
    }
    assert {name: got[name] for name in expected} == expected
    head = await call("HeadObject", Bucket=bucket, Key="k")
    assert {name: head[name] for name in expected} == expected
    assert "Body" not in head
    tags = await call("GetObjectTagging", Bucket=bucket, Key="k")
    assert tags["TagSet"] == [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "x y"}]


async def test_plain_objects_have_plain_answers(call: Call, bucket: str) -> None:
    """No encryption is invented, and a body of unknown type is binary/octet-stream."""
    put = await call("PutObject", Bucket=bucket, Key="k", Body=b"")
    assert put["ServerSideEncryption"] is None
    got = await call("GetObject", Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert got["ContentType"] == "binary/octet-stream"
    assert "StorageClass" not in got
    assert got["ChecksumType"] == "FULL_OBJECT"
    assert got["ChecksumCRC64NVME"] == put["ChecksumCRC64NVME"], "S3's own default"


async def test_responses_can_be_overridden(call: Call, bucket: str) -> None:
    """A GET may ask for other headers in its answer."""
    await call("PutObject", Bucket=bucket, Key="k", Body=b"x")
    got = await call("GetObject", Bucket=bucket, Key="k", ResponseContentType="text/x", ResponseCacheControl="no")
    assert (got["ContentType"], got["CacheControl"]) == ("text/x", "no")


async def test_last_modified_is_never_before_the_upload(call: Call, bucket: str) -> None:
    """LastModified is a whole second at or after the moment of the upload, in every answer the same."""
    before = datetime.now(UTC) - timedelta(milliseconds=20)  # the file system's clock ticks
    await call("PutObject", Bucket=bucket, Key="k", Body=b"x")
    told = (await call("HeadObject", Bucket=bucket, Key="k"))["LastModified"]
    assert told.microsecond == 0
    assert before <= told <= datetime.now(UTC) + timedelta(seconds=1)
    listed = (await call("ListObjectsV2", Bucket=bucket))["Contents"][0]["LastModified"]
    assert listed == told


@pytest.mark.parametrize(
    ("header", "content", "content_range"),
    [
        ("bytes=2-4", b"234", "bytes 2-4/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=-30", b"0123456789", "bytes 0-9/10"),
        ("bytes=8-100", b"89", "bytes 8-9/10"),
        ("bytes=0-9", b"0123456789", "bytes 0-9/10"),
        (f"bytes=2-{'9' * 5000}", b"23456789", "bytes 2-9/10"),
        (f"bytes=-{'9' * 5000}", b"0123456789", "bytes 0-9/10"),
        (f"bytes={'0' * 5000}-{'0' * 5000}1", b"01", "bytes 0-1/10"),
    ],
)
async def test_a_range_is_sent(call: Call, bucket: str, header: str, content: bytes, content_range: str) -> None:
    """Ranges by first and last, from first on, and of the last bytes are answered with 206."""
    await call("PutObject", Bucket=bucket, Key="k", Body=b"0123456789")
    got = await call("GetObject", Bucket=bucket, Key="k", Range=header, ChecksumMode="ENABLED")
    assert (got["_bytes"], got["ContentRange"], got["_status"]) == (content, content_range, 206)
    assert got["ContentLength"] == len(content)
    assert ("ChecksumCRC64NVME" in got) == (len(content) == 10), "a range's bytes have another checksum"


@pytest.mark.parametrize("header", ["bytes=4-2", "bytes=1-2,4-5", "lines=1-2", "bytes=", "bytes=a-b"])
async def test_a_range_that_is_none_is_ignored(call: Call, bucket: str, header: str) -> None:
    """What is no single range of bytes gets the whole object."""
    await call("PutObject", Bucket=bucket, Key="k", Body=b"0123456789")
    got = await call("GetObject", Bucket=bucket, Key="k", Range=header)
    assert (got["_bytes"], got["_status"]) == (b"0123456789", None)


@pytest.mark.parametrize(
    ("size", "header"),
    [(10, "bytes=10-"), (10, "bytes=-0"), (0, "bytes=0-"), (0, "bytes=-5"), (10, f"bytes={'9' * 5000}-")],
)
async def test_a_range_beyond_the_end_is_refused(call: Call, bucket: str, size: int, header: str) -> None:
    """No byte in the range is 416, and the error tells the size."""
    await call("PutObject", Bucket=bucket, Key="k", Body=b"x" * size)
    error = await refused("InvalidRange", 416, call("GetObject", Bucket=bucket, Key="k", Range=header))
    assert error.members == {"RangeRequested": header, "ActualObjectSize": str(size)}


async def test_conditions_decide(call: Call, bucket: str) -> None:
    """If-Match and If-Unmodified-Since fail with 412, If-None-Match and If-Modified-Since answer 304."""
    etag = (await call("PutObject", Bucket=bucket, Key="k", Body=b"x"))["ETag"]
    told = (await call("HeadObject", Bucket=bucket, Key="k"))["LastModified"]
    earlier = told - timedelta(hours=1)
    get = {"Bucket": bucket, "Key": "k"}
    for passing in (
        {"IfMatch": etag},
        {"IfMatch": "*"},
        {"IfMatch": f'"other", {etag}'},
        {"IfMatch": etag, "IfUnmodifiedSince": earlier},
        {"IfUnmodifiedSince": told},
        {"IfNoneMatch": '"other"'},
        {"IfNoneMatch": '"other"', "IfModifiedSince": told},
        {"IfModifiedSince": earlier},
    ):
        assert (await call("GetObject", **get, **passing))["_bytes"] == b"x"
    for failing in ({"IfMatch": '"other"'}, {"IfUnmodifiedSince": earlier}):
        await refused("PreconditionFailed", 412, call("GetObject", **get, **failing))
        await refused("PreconditionFailed", 412, call("HeadObject", **get, **failing))
    for unchanged in ({"IfNoneMatch": etag}, {"IfNoneMatch": "*"}, {"IfModifiedSince": told}):
        answer = await call("GetObject", **get, **unchanged)
        assert (answer["_status"], "Body" in answer) == (304, False)


async def test_writes_may_have_conditions(call: Call, bucket: str) -> None:
    """A put may demand that there is no object or a known one, a delete a known one."""
    put = {"Bucket": bucket, "Key": "k", "Body": b"x"}
    etag = (await call("PutObject", **put, IfNoneMatch="*"))["ETag"]
    await refused("PreconditionFailed", 412, call("PutObject", **put, IfNoneMatch="*"))
    await refused("PreconditionFailed", 412, call("PutObject", **put, IfMatch='"0"'))
    await refused("PreconditionFailed", 412, call("PutObject", **put, IfNoneMatch=etag))
    await call("PutObject", **put, IfNoneMatch='"another"')
    await call("PutObject", **put, IfMatch="*")
    await call("PutObject", **put, IfMatch=etag)
    await refused("PreconditionFailed", 412, call("DeleteObject", Bucket=bucket, Key="k", IfMatch='"0"'))
    await call("DeleteObject", Bucket=bucket, Key="k", IfMatch=etag)
    await refused("NoSuchKey", 404, call("HeadObject", Bucket=bucket, Key="k"))


async def test_digests_are_verified(call: Call, bucket: str) -> None:
    """MD5 and checksums are compared, and told back where they are right."""
    put = {"Bucket": bucket, "Key": "k", "Body": b"data"}
    md5 = base64.b64encode(hashlib.md5(b"data").digest()).decode()
    good = await call("PutObject", **put, ContentMD5=md5, ChecksumCRC32=crc(b"data"), ChecksumAlgorithm="CRC32")
    assert (good["ChecksumCRC32"], good["ChecksumType"]) == (crc(b"data"), "FULL_OBJECT")
    await call("DeleteObject", Bucket=bucket, Key="k")
    await refused("BadDigest", 400, call("PutObject", **put, ChecksumCRC32="AAAAAA=="))
    await refused("BadDigest", 400, call("PutObject", **put, ContentMD5=base64.b64encode(b"0" * 16).decode()))
    await refused("InvalidDigest", 400, call("PutObject", **put, ContentMD5="no"))
    await refused("InvalidRequest", 400, call("PutObject", **put, ChecksumCRC32="no"))
    await refused("NoSuchKey", 404, call("HeadObject", Bucket=bucket, Key="k"))


async def test_trailing_checksums_are_verified(call: Call, bucket: str) -> None:
    """A checksum that comes after the body counts as one that came before it."""
    headers = {"x-amz-trailer": "x-amz-checksum-crc32"}

    def put(trailers: dict[str, str]) -> Awaitable[dict[str, Any]]:
        return call("PutObject", Bucket=bucket, Key="k", Body=TrailingBody(b"data", trailers), _headers=headers)

    await refused("BadDigest", 400, put({"x-amz-checksum-crc32": "AAAAAA=="}))
    await refused("InvalidRequest", 400, put({}))
    await refused("NoSuchKey", 404, call("HeadObject", Bucket=bucket, Key="k"))
    assert (await put({"x-amz-checksum-crc32": crc(b"data")}))["ChecksumCRC32"] == crc(b"data")


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"Tagging": "&".join(f"k{n}=v" for n in range(11))}, "InvalidTag"),
        ({"Tagging": "a=1&a=2"}, "InvalidTag"),
        ({"Tagging": "x" * 129 + "=1"}, "InvalidTag"),
        ({"Metadata": {"k": "v" * 2048}}, "MetadataTooLarge"),
        ({"Key": "k" * 1025}, "KeyTooLongError"),
    ],
)
async def test_limits_are_kept(call: Call, bucket: str, params: dict[str, Any], code: str) -> None:
    """Tags, metadata and keys have S3's limits."""
    await refused(code, 400, call("PutObject", **{"Bucket": bucket, "Key": "k", "Body": b"", **params}))


async def test_objects_have_one_version(call: Call, bucket: str) -> None:
    """The version "null" is the object; there is no other."""
    await call("PutObject", Bucket=bucket, Key="k", Body=b"x")
    assert (await call("GetObject", Bucket=bucket, Key="k", VersionId="null"))["_bytes"] == b"x"
    await refused("NoSuchVersion", 404, call("GetObject", Bucket=bucket, Key="k", VersionId="v1"))
    versions = (await call("ListObjectVersions", Bucket=bucket))["Versions"]
    assert [(found["Key"], found["VersionId"], found["IsLatest"]) for found in versions] == [("k", "null", True)]


async def test_many_are_deleted_at_once(call: Call, bucket: str) -> None:
    """Each key is answered for itself; quiet answers name failures only."""
    await call("PutObject", Bucket=bucket, Key="a", Body=b"")
    named = [{"Key": "a"}, {"Key": "never"}, {"Key": "a", "VersionId": "v1"}]
    answer = await call("DeleteObjects", Bucket=bucket, Delete={"Objects": named})
    assert answer["Deleted"] == [{"Key": "a"}, {"Key": "never"}]
    assert [(error["Key"], error["Code"]) for error in answer["Errors"]] == [("a", "NoSuchVersion")]
    quiet = await call("DeleteObjects", Bucket=bucket, Delete={"Objects": named, "Quiet": True})
    assert (quiet["Deleted"], len(quiet["Errors"])) == ([], 1)
    too_many = {"Objects": [{"Key": str(n)} for n in range(1001)]}
    await refused("MalformedXML", 400, call("DeleteObjects", Bucket=bucket, Delete=too_many))


async def test_tags_are_replaced_and_removed(call: Call, bucket: str) -> None:
    """Tagging leaves the object itself alone."""
    put = await call("PutObject", Bucket=bucket, Key="k", Body=b"x", Metadata={"a": "b"})
    tags = [{"Key": "k", "Value": "v"}]
    await call("PutObjectTagging", Bucket=bucket, Key="k", Tagging={"TagSet": tags})
    assert (await call("GetObjectTagging", Bucket=bucket, Key="k"))["TagSet"] == tags
    await call("DeleteObjectTagging", Bucket=bucket, Key="k")
    head = await call("HeadObject", Bucket=bucket, Key="k")
    assert (head["TagCount"], head["Metadata"], head["ETag"]) == (None, {"a": "b"}, put["ETag"])


async def test_attributes_are_told_as_asked(call: Call, bucket: str) -> None:
    """GetObjectAttributes tells what was asked for, the ETag without quotes."""
    await call("PutObject", Bucket=bucket, Key="k", Body=b"data", ChecksumCRC32=crc(b"data"))
    asked = ["ETag", "ObjectSize", "Checksum", "StorageClass", "ObjectParts"]
    told = await call("GetObjectAttributes", Bucket=bucket, Key="k", ObjectAttributes=asked)
    assert told["ETag"] == hashlib.md5(b"data").hexdigest()
    assert (told["ObjectSize"], told["StorageClass"]) == (4, "STANDARD")
    assert told["Checksum"] == {"ChecksumCRC32": crc(b"data"), "ChecksumType": "FULL_OBJECT"}
    assert "ObjectParts" not in told


# --- copies


async def test_a_copy_keeps_or_replaces(call: Call, bucket: str) -> None:
    """Metadata and tags come along unless the client replaces them."""
    source = f"{bucket}/a%20b"
    await call(
        "PutObject", Bucket=bucket, Key="a b", Body=b"x", ContentType="text/x", Metadata={"a": "1"}, Tagging="t=1"
    )
    await call("CopyObject", Bucket=bucket, Key="kept", CopySource=source)
    kept = await call("GetObject", Bucket=bucket, Key="kept")
    assert (kept["_bytes"], kept["ContentType"], kept["Metadata"], kept["TagCount"]) == (b"x", "text/x", {"a": "1"}, 1)
    await call(
        "CopyObject",
        Bucket=bucket,
        Key="new",
        CopySource="/" + source,
        MetadataDirective="REPLACE",
        TaggingDirective="REPLACE",
        Metadata={"b": "2"},
        ChecksumAlgorithm="SHA256",
    )
    new = await call("GetObject", Bucket=bucket, Key="new", ChecksumMode="ENABLED")
    assert (new["ContentType"], new["Metadata"], new["TagCount"]) == ("binary/octet-stream", {"b": "2"}, None)
    assert new["ChecksumSHA256"] == base64.b64encode(hashlib.sha256(b"x").digest()).decode()


async def test_a_copy_onto_itself_must_change_something(call: Call, bucket: str) -> None:
    """An object is copied onto itself only to change what is attached to it."""
    await call("PutObject", Bucket=bucket, Key="k", Body=b"x")
    itself = {"Bucket": bucket, "Key": "k", "CopySource": f"{bucket}/k"}
    await refused("InvalidRequest", 400, call("CopyObject", **itself))
    await call("CopyObject", **itself, MetadataDirective="REPLACE", Metadata={"a": "1"})
    assert (await call("HeadObject", Bucket=bucket, Key="k"))["Metadata"] == {"a": "1"}


async def test_a_copy_may_have_conditions(call: Call, bucket: str) -> None:
    """Conditions on the source fail with 412, missing sources are named."""
    etag = (await call("PutObject", Bucket=bucket, Key="k", Body=b"x"))["ETag"]
    copy = {"Bucket": bucket, "Key": "c", "CopySource": f"{bucket}/k"}
    await refused("PreconditionFailed", 412, call("CopyObject", **copy, CopySourceIfMatch='"0"'))
    await refused("PreconditionFailed", 412, call("CopyObject", **copy, CopySourceIfNoneMatch=etag))
    await refused("AccessDenied", 403, call("CopyObject", **copy, ExpectedSourceBucketOwner="000000000001"))
    await refused("NoSuchKey", 404, call("CopyObject", **{**copy, "CopySource": f"{bucket}/none"}))
    await refused("InvalidArgument", 400, call("CopyObject", **{**copy, "CopySource": bucket}))
    await call("CopyObject", **copy, CopySourceIfMatch=etag, IfNoneMatch="*")
    await refused("PreconditionFailed", 412, call("CopyObject", **copy, IfNoneMatch="*"))


# --- listings


async def test_a_listing_goes_on_by_token(call: Call, bucket: str) -> None:
    """Pages follow by an opaque token; KeyCount counts common prefixes too."""
    for key in ("a", "b/1", "b/2", "c d", "e+"):
        await call("PutObject", Bucket=bucket, Key=key, Body=b"")
    listing = {"Bucket": bucket, "Delimiter": "/", "MaxKeys": 2, "EncodingType": "url"}
    first = await call("ListObjectsV2", **listing)
    assert ([found["Key"] for found in first["Contents"]], first["CommonPrefixes"]) == (["a"], [{"Prefix": "b/"}])
    assert (first["KeyCount"], first["IsTruncated"]) == (2, True)
    second = await call("ListObjectsV2", **listing, ContinuationToken=first["NextContinuationToken"])
    assert [found["Key"] for found in second["Contents"]] == ["c%20d", "e%2B"]
    assert (second["IsTruncated"], second["NextContinuationToken"]) == (False, None)
    assert "Owner" not in second["Contents"][0]
    assert "Owner" in (await call("ListObjectsV2", Bucket=bucket, FetchOwner=True))["Contents"][0]
    await refused("InvalidArgument", 400, call("ListObjectsV2", **listing, ContinuationToken="???"))
    await refused("InvalidArgument", 400, call("ListObjectsV2", Bucket=bucket, MaxKeys=-1))
    none = await call("ListObjectsV2", Bucket=bucket, MaxKeys=0)
    assert (none["KeyCount"], none["IsTruncated"]) == (0, False)


async def test_the_old_listing_goes_on_by_marker(call: Call, bucket: str) -> None:
    """NextMarker is given with a delimiter only; without, clients go on from the last key."""
    for key in ("a", "b/1", "b/2", "c"):
        await call("PutObject", Bucket=bucket, Key=key, Body=b"")
    page = await call("ListObjects", Bucket=bucket, MaxKeys=2)
    assert (page["IsTruncated"], page["NextMarker"], page["Contents"][-1]["Key"]) == (True, None, "b/1")
    page = await call("ListObjects", Bucket=bucket, MaxKeys=2, Delimiter="/")
    assert page["NextMarker"] == "b/"
    rest = await call("ListObjects", Bucket=bucket, MaxKeys=2, Delimiter="/", Marker="b/")
    assert ([found["Key"] for found in rest["Contents"]], rest["CommonPrefixes"]) == (["c"], [])


# --- multipart uploads

FIVE = 5 * 1024 * 1024


async def test_an_upload_in_parts(call: Call, bucket: str) -> None:
    """Parts with checksums join into an object with a composite one, readable part by part."""
    target = {"Bucket": bucket, "Key": "big"}
    made = await call("CreateMultipartUpload", **target, ChecksumAlgorithm="CRC32", ContentType="text/x")
    assert (made["ChecksumAlgorithm"], made["ChecksumType"]) == ("CRC32", "COMPOSITE")
    upload = {**target, "UploadId": made["UploadId"]}
    contents = [b"a" * FIVE, b"end"]
    parts = []
    for number, content in enumerate(contents, 1):
        part = await call("UploadPart", **upload, PartNumber=number, Body=content, ChecksumCRC32=crc(content))
        parts.append({"PartNumber": number, "ETag": part["ETag"], "ChecksumCRC32": part["ChecksumCRC32"]})
    listed = await call("ListParts", **upload, MaxParts=1)
    assert ([part["PartNumber"] for part in listed["Parts"]], listed["IsTruncated"]) == ([1], True)
    listed = await call("ListParts", **upload, PartNumberMarker=listed["NextPartNumberMarker"])
    assert ([part["Size"] for part in listed["Parts"]], listed["IsTruncated"]) == ([3], False)
    wrong = [{**parts[0], "ChecksumCRC32": "AAAAAA=="}, parts[1]]
    await refused("InvalidPart", 400, call("CompleteMultipartUpload", **upload, MultipartUpload={"Parts": wrong}))
    sized = {"MultipartUpload": {"Parts": parts}, "MpuObjectSize": 5}
    await refused("InvalidRequest", 400, call("CompleteMultipartUpload", **upload, **sized))
    done = await call("CompleteMultipartUpload", **upload, MultipartUpload={"Parts": parts})
    joined = b"".join(zlib.crc32(content).to_bytes(4, "big") for content in contents)
    assert done["ChecksumCRC32"] == crc(joined) + "-2"
    assert done["ETag"].endswith('-2"')
    assert done["Location"] == f"http://127.0.0.1:4600/{bucket}/big"
    second = await call("GetObject", **target, PartNumber=2)
    assert (second["_bytes"], second["PartsCount"], second["_status"]) == (b"end", 2, 206)
    assert second["ContentRange"] == f"bytes {FIVE}-{FIVE + 2}/{FIVE + 3}"
    await refused("InvalidPartNumber", 416, call("GetObject", **target, PartNumber=3))
    attributes = await call("GetObjectAttributes", **target, ObjectAttributes=["ObjectParts"])
    told = attributes["ObjectParts"]
    assert (told["TotalPartsCount"], told["IsTruncated"]) == (2, False)
    assert [(part["PartNumber"], part["Size"], part["ChecksumCRC32"]) for part in told["Parts"]] == [
        (1, FIVE, crc(contents[0])),
        (2, 3, crc(contents[1])),
    ]
    paged = await call("GetObjectAttributes", **target, ObjectAttributes=["ObjectParts"], MaxParts=1)
    assert (paged["ObjectParts"]["IsTruncated"], paged["ObjectParts"]["NextPartNumberMarker"]) == (True, 1)
    first = await call("GetObject", **target, PartNumber=1, ChecksumMode="ENABLED")
    assert (first["ChecksumCRC32"], first["ChecksumType"]) == (crc(contents[0]), "COMPOSITE")


async def test_a_full_object_checksum_follows_from_the_parts(call: Call, bucket: str) -> None:
    """An upload may ask for the whole object's CRC, and its completion may name it."""
    target = {"Bucket": bucket, "Key": "big"}
    made = await call("CreateMultipartUpload", **target, ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT")
    upload = {**target, "UploadId": made["UploadId"]}
    contents = [os.urandom(FIVE), b"end"]
    parts = []
    for number, content in enumerate(contents, 1):
        part = await call("UploadPart", **upload, PartNumber=number, Body=content)
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
    complete = {**upload, "MultipartUpload": {"Parts": parts}}
    await refused("BadDigest", 400, call("CompleteMultipartUpload", **complete, ChecksumCRC32="AAAAAA=="))
    whole = crc(b"".join(contents))
    done = await call("CompleteMultipartUpload", **complete, ChecksumCRC32=whole)
    assert (done["ChecksumCRC32"], done["ChecksumType"]) == (whole, "FULL_OBJECT")


async def test_a_completion_is_checked(call: Call, bucket: str) -> None:
    """Order, existence and size of parts are checked, each with its own error."""
    target = {"Bucket": bucket, "Key": "big"}
    upload = {**target, "UploadId": (await call("CreateMultipartUpload", **target))["UploadId"]}
    one = {"PartNumber": 1, "ETag": (await call("UploadPart", **upload, PartNumber=1, Body=b"1"))["ETag"]}
    two = {"PartNumber": 2, "ETag": (await call("UploadPart", **upload, PartNumber=2, Body=b"2"))["ETag"]}
    for parts, code in (
        ([], "MalformedXML"),
        ([two, one], "InvalidPartOrder"),
        ([one, one], "InvalidPartOrder"),
        ([{"PartNumber": 3, "ETag": '"x"'}], "InvalidPart"),
        ([one, two], "EntityTooSmall"),
    ):
        await refused(code, 400, call("CompleteMultipartUpload", **upload, MultipartUpload={"Parts": parts}))
    await refused("InvalidArgument", 400, call("UploadPart", **upload, PartNumber=10_001, Body=b""))
    await call("AbortMultipartUpload", **upload)
    await refused("NoSuchUpload", 404, call("AbortMultipartUpload", **upload))
    await refused("NoSuchUpload", 404, call("UploadPart", **upload, PartNumber=1, Body=b""))


async def test_a_part_may_be_copied(call: Call, bucket: str) -> None:
    """A part can be a range of another object; one that reaches over its end is refused."""
    await call("PutObject", Bucket=bucket, Key="source", Body=b"0123456789")
    target = {"Bucket": bucket, "Key": "big"}
    upload = {**target, "UploadId": (await call("CreateMultipartUpload", **target))["UploadId"]}
    copy = {**upload, "PartNumber": 1, "CopySource": f"{bucket}/source"}
    for wrong in ("bytes=5-10", "bytes=-3", "bytes=3-", "0-1", f"bytes=0-{'9' * 5000}"):
        await refused("InvalidArgument", 400, call("UploadPartCopy", **copy, CopySourceRange=wrong))
    copied = (await call("UploadPartCopy", **copy, CopySourceRange="bytes=2-5"))["CopyPartResult"]
    parts = [{"PartNumber": 1, "ETag": copied["ETag"]}]
    done = await call("CompleteMultipartUpload", **upload, MultipartUpload={"Parts": parts})
    assert (await call("GetObject", **target))["_bytes"] == b"2345"
    same = await call("PutObject", Bucket=bucket, Key="same", Body=b"2345")
    assert done["ChecksumCRC64NVME"] == same["ChecksumCRC64NVME"], "S3's default, without being asked for"


async def test_uploads_are_listed_in_pages(call: Call, bucket: str) -> None:
    """Uploads in progress are paged by key and upload, and fold at a delimiter."""
    for key in ("a", "a", "b/1", "b/2", "c"):
        await call("CreateMultipartUpload", Bucket=bucket, Key=key)
    seen: list[tuple[str, str]] = []
    markers: dict[str, Any] = {}
    while True:
        page = await call("ListMultipartUploads", Bucket=bucket, MaxUploads=1, **markers)
        seen += [(found["Key"], found["UploadId"]) for found in page["Uploads"]]
        if not page["IsTruncated"]:
            break
        markers = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}
    assert [key for key, _ in seen] == ["a", "a", "b/1", "b/2", "c"]
    assert len({upload for _, upload in seen}) == 5
    folded = await call("ListMultipartUploads", Bucket=bucket, Delimiter="/", Prefix="")
    assert folded["CommonPrefixes"] == [{"Prefix": "b/"}]
    assert [found["Key"] for found in folded["Uploads"]] == ["a", "a", "c"]


@pytest.mark.parametrize(
    ("algorithm", "kind"), [("SHA256", "FULL_OBJECT"), ("CRC64NVME", "COMPOSITE"), (None, "COMPOSITE"), ("CRC7", None)]
)
async def test_checksum_types_that_do_not_exist_are_refused(
    call: Call, bucket: str, algorithm: str | None, kind: str | None
) -> None:
    """SHA checksums are composite, CRC-64 is of the full object, and a type needs an algorithm."""
    params = {"ChecksumAlgorithm": algorithm, "ChecksumType": kind}
    await refused("InvalidRequest", 400, call("CreateMultipartUpload", Bucket=bucket, Key="k", **params))


@pytest.mark.parametrize("operation", ["PutObject", "CreateMultipartUpload"])
async def test_a_storage_class_that_s3_does_not_know_is_refused(call: Call, bucket: str, operation: str) -> None:
    """Objects are stored as they are in every class; what is no class is a mistake of the client."""
    with pytest.raises(S3Error) as caught:
        await call(operation, Bucket=bucket, Key="k", StorageClass="BOGUS")
    assert (caught.value.wire_code, caught.value.members["StorageClassRequested"]) == ("InvalidStorageClass", "BOGUS")
    await call(operation, Bucket=bucket, Key="k", StorageClass="GLACIER_IR")


async def test_what_is_told_of_an_object_that_is_read_again_is_true(call: Call, bucket: str, tmp_path: Path) -> None:
    """Headers that are kept from an earlier answer are those of the object as it is now."""
    file = tmp_path / bucket / "k"

    async def settled() -> dict[str, Any]:
        """Read until the last change is old enough for facts to be kept, and once more."""
        answers: list[dict[str, Any]] = []
        while not answers or time_ns() - file.stat().st_ctime_ns < 60_000_000:
            answers.append(await call("GetObject", Bucket=bucket, Key="k"))
        answers += [await call("GetObject", Bucket=bucket, Key="k") for _ in range(2)]
        told = [{name: value for name, value in answer.items() if name != "Body"} for answer in answers]
        assert all(each == told[0] for each in told)
        return told[0]

    await call("PutObject", Bucket=bucket, Key="k", Body=b"one", Metadata={"a": "1"})
    assert (await settled())["Metadata"] == {"a": "1"}
    await call("PutObjectTagging", Bucket=bucket, Key="k", Tagging={"TagSet": [{"Key": "t", "Value": "v"}]})
    assert (await settled())["TagCount"] == 1
    await call("PutObject", Bucket=bucket, Key="k", Body=b"other")
    told = await settled()
    assert (told["_bytes"], told["ContentLength"], told["TagCount"], told["Metadata"]) == (b"other", 5, None, {})
    file.write_bytes(b"by hand")
    assert (await settled())["_bytes"] == b"by hand"
