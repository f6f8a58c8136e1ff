"""boto3 against S3 over HTTP: a real server, real folders."""

import asyncio
import io
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from millrace import http
from millrace.clock import SystemClock
from millrace.ports.keys import AccessKey
from millrace.services import logs, s3
from millrace.settings import Settings
from millrace.store.filesystem import FilesystemObjects
from millrace.store.log_files import LogFiles
from millrace.testing.keys import MemoryKeyStore

ACCOUNT = "000000000000"
KEY = AccessKey(id="AKIATEST", secret="secret", role="MillraceExecutionRole", account=ACCOUNT)


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of S3 and Logs, on a thread of its own."""
    folder: Path = tmp_path_factory.mktemp("data")
    handlers = {
        "s3": s3.handlers(FilesystemObjects(folder / "objects", durable=False), account=ACCOUNT),
        "logs": logs.handlers(LogFiles(folder / "logs"), account=ACCOUNT),
    }
    app = http.app(handlers, keys=MemoryKeyStore([KEY]), settings=Settings(data_dir=folder), clock=SystemClock())
    ready = threading.Event()
    address: list[str] = []
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    def on_ready(host: str, port: int) -> None:
        address.append(f"http://{host}:{port}")
        ready.set()

    def run() -> None:
        loop.run_until_complete(http.serve(app, "127.0.0.1", 0, on_ready, stop=stop, handle_signals=False))
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(30)
    yield address[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join(60)
    assert not thread.is_alive()


def make_client(endpoint: str, service: str = "s3", **more: Any) -> Any:
    """Return a client of the server, as users make it."""
    return boto3.client(
        service,
        endpoint_url=endpoint,
        aws_access_key_id=KEY.id,
        aws_secret_access_key=KEY.secret,
        region_name="us-east-1",
        **more,
    )


@pytest.fixture
def client(endpoint: str) -> Iterator[Any]:
    """An S3 client whose bucket "box" is emptied afterwards."""
    client = make_client(endpoint)
    client.create_bucket(Bucket="box")
    yield client
    for page in client.get_paginator("list_objects_v2").paginate(Bucket="box"):
        for found in page.get("Contents", []):
            client.delete_object(Bucket="box", Key=found["Key"])
    client.delete_bucket(Bucket="box")
    client.close()


def test_metadata_makes_the_round_trip(client: Any) -> None:
    """What is attached to an object comes back through the wire."""
    client.put_object(
        Bucket="box",
        Key="k",
        Body=b"x",
        Metadata={"who": "me"},
        Tagging="a=1",
        ContentType="text/csv",
        CacheControl="no",
    )
    head = client.head_object(Bucket="box", Key="k", ChecksumMode="ENABLED")
    assert (head["Metadata"], head["ContentType"], head["CacheControl"]) == ({"who": "me"}, "text/csv", "no")
    assert head["ChecksumCRC32"]
    assert client.get_object_tagging(Bucket="box", Key="k")["TagSet"] == [{"Key": "a", "Value": "1"}]


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
def test_every_checksum_of_boto3_is_taken(client: Any, algorithm: str) -> None:
    """boto3 computes, we verify and tell back, and boto3 verifies what it downloads."""
    client.put_object(Bucket="box", Key="k", Body=b"data", ChecksumAlgorithm=algorithm)
    got = client.get_object(Bucket="box", Key="k", ChecksumMode="ENABLED")
    assert got[f"Checksum{algorithm}"]
    assert got["Body"].read() == b"data"


def test_large_files_go_in_parts_both_ways(client: Any) -> None:
    """The transfer manager uploads in parts and downloads in ranges, with its default checksums."""
    data = os.urandom(13 * 1024 * 1024 + 7)
    config = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20, max_concurrency=4)
    client.upload_fileobj(io.BytesIO(data), "box", "big", Config=config)
    target = io.BytesIO()
    client.download_fileobj("box", "big", target, Config=config)
    assert target.getvalue() == data
    attributes = client.get_object_attributes(Bucket="box", Key="big", ObjectAttributes=["ObjectParts", "ETag"])
    assert attributes["ObjectParts"]["TotalPartsCount"] == 3
    assert attributes["ETag"].endswith("-3")


def test_odd_keys_survive_the_wire(client: Any) -> None:
    """Keys with every kind of character are written, listed, and deleted."""
    keys = ["a b", "a+b", "ü“/日本", "a%20b", "a&b=c?d#e", "<x>'\"", "a//b", "a/", "../x", "./y", "new\nline", "~.s"]
    for key in keys:
        client.put_object(Bucket="box", Key=key, Body=key.encode())
    for key in keys:
        assert client.get_object(Bucket="box", Key=key)["Body"].read() == key.encode()
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="box", PaginationConfig={"PageSize": 5})
    assert [found["Key"] for page in pages for found in page["Contents"]] == sorted(keys, key=str.encode)
    pages = client.get_paginator("list_objects").paginate(Bucket="box", PaginationConfig={"PageSize": 5})
    assert [found["Key"] for page in pages for found in page["Contents"]] == sorted(keys, key=str.encode)
    answer = client.delete_objects(Bucket="box", Delete={"Objects": [{"Key": key} for key in keys]})
    assert len(answer["Deleted"]) == len(keys)


def test_a_bucket_is_emptied_version_by_version(client: Any, endpoint: str) -> None:
    """Tools that delete all versions of all objects find each once."""
    for n in range(3):
        client.put_object(Bucket="box", Key=f"k{n}", Body=b"")
    versions = client.list_object_versions(Bucket="box")["Versions"]
    named = [{"Key": found["Key"], "VersionId": found["VersionId"]} for found in versions]
    client.delete_objects(Bucket="box", Delete={"Objects": named})
    assert client.list_objects_v2(Bucket="box")["KeyCount"] == 0


def test_configurations_of_buckets_survive_the_wire(client: Any) -> None:
    """What templates set comes back as they set it."""
    cors = {"CORSRules": [{"AllowedMethods": ["GET"], "AllowedOrigins": ["*"], "MaxAgeSeconds": 5}]}
    client.put_bucket_cors(Bucket="box", CORSConfiguration=cors)
    assert client.get_bucket_cors(Bucket="box")["CORSRules"] == cors["CORSRules"]
    statement = {"Effect": "Deny", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::box/secret/*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    client.put_bucket_policy(Bucket="box", Policy=policy)
    assert client.get_bucket_policy(Bucket="box")["Policy"] == policy
    rule = {"ID": "r", "Status": "Enabled", "Filter": {"Prefix": "tmp/"}, "Expiration": {"Days": 3}}
    client.put_bucket_lifecycle_configuration(Bucket="box", LifecycleConfiguration={"Rules": [rule]})
    assert client.get_bucket_lifecycle_configuration(Bucket="box")["Rules"] == [rule]
    client.put_bucket_versioning(Bucket="box", VersioningConfiguration={"Status": "Enabled"})
    assert client.get_bucket_versioning(Bucket="box")["Status"] == "Enabled"
    function = {
        "LambdaFunctionArn": "arn:aws:lambda:us-east-1:0:function:f",
        "Events": ["s3:ObjectCreated:*"],
        "Id": "n",
    }
    client.put_bucket_notification_configuration(
        Bucket="box", NotificationConfiguration={"LambdaFunctionConfigurations": [function]}
    )
    told = client.get_bucket_notification_configuration(Bucket="box")
    assert told["LambdaFunctionConfigurations"] == [function]
    block = dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True)
    client.put_public_access_block(Bucket="box", PublicAccessBlockConfiguration=block)
    assert client.get_public_access_block(Bucket="box")["PublicAccessBlockConfiguration"] == block
    assert client.get_bucket_acl(Bucket="box")["Grants"][0]["Permission"] == "FULL_CONTROL"


@pytest.mark.parametrize(
    ("operation", "params", "code", "status"),
    [
        ("get_object", {"Key": "none"}, "NoSuchKey", 404),
        ("head_object", {"Key": "none"}, "404", 404),
        ("get_bucket_tagging", {}, "NoSuchTagSet", 404),
        ("get_bucket_lifecycle_configuration", {}, "NoSuchLifecycleConfiguration", 404),
        ("head_bucket", {"ExpectedBucketOwner": "111111111111"}, "403", 403),
        ("list_objects_v2", {"ExpectedBucketOwner": "111111111111"}, "AccessDenied", 403),
        ("list_parts", {"Key": "k", "UploadId": "x"}, "NoSuchUpload", 404),
        ("put_object", {"Key": "k", "ContentMD5": "AAAA", "Body": b""}, "InvalidDigest", 400),
    ],
)
def test_errors_are_those_of_s3(client: Any, operation: str, params: dict[str, Any], code: str, status: int) -> None:
    """Clients read S3's codes and statuses."""
    with pytest.raises(ClientError) as caught:
        getattr(client, operation)(Bucket="box", **params)
    response = caught.value.response
    assert (response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]) == (code, status)


def test_logs_are_read_over_the_wire(endpoint: str) -> None:
    """Paginators of boto3 read groups, streams and events to their ends."""
    client = make_client(endpoint, "logs")
    client.create_log_group(logGroupName="/mine")
    for stream in ("a", "b", "c"):
        client.create_log_stream(logGroupName="/mine", logStreamName=stream)
        events = [{"timestamp": 1000 + n, "message": f"{stream}{n}"} for n in range(3)]
        client.put_log_events(logGroupName="/mine", logStreamName=stream, logEvents=events)
    pages = client.get_paginator("filter_log_events").paginate(logGroupName="/mine", PaginationConfig={"PageSize": 2})
    messages = [event["message"] for page in pages for event in page["events"]]
    assert messages == ["a0", "b0", "c0", "a1", "b1", "c1", "a2", "b2", "c2"]
    pages = client.get_paginator("describe_log_streams").paginate(
        logGroupName="/mine", PaginationConfig={"PageSize": 2}
    )
    assert [found["logStreamName"] for page in pages for found in page["logStreams"]] == ["a", "b", "c"]
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_log_events(logGroupName="/mine", logStreamName="none")
    client.delete_log_group(logGroupName="/mine")
    client.close()
