"""Which work wrote an object is the store's affair: no client is told, and no copy inherits it."""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from millrace.names import ObjectRef
from millrace.ports.objects import ObjectMeta
from millrace.protocol.bodies import MemoryBody
from millrace.protocol.message import Context, FileRegion, Principal, Reply, Request
from millrace.services import s3
from millrace.store.filesystem import FilesystemObjects

OUT = ObjectRef("shop", "out")
SECRET = "job-4711-of-somebody"
Call = Callable[..., Awaitable[object]]


@pytest.fixture
async def store(tmp_path: Path) -> FilesystemObjects:
    """A store with an output of a job."""
    store = FilesystemObjects(tmp_path, durable=False)
    await store.create_bucket("shop", region="us-east-1", owner="123456789012")
    writer = await store.open_writer(OUT, ObjectMeta(headers={"content-type": "text/csv"}, user={"a": "b"}))
    await writer.write(b"1,2\n")
    await writer.commit(origin=SECRET)
    return store


@pytest.fixture
def call(store: FilesystemObjects) -> Call:
    """Call an operation of S3."""
    table = s3.handlers(store, account="123456789012")

    async def call(operation: str, **params: Any) -> object:
        context = Context(
            request_id="r",
            service="s3",
            operation=operation,
            region="us-east-1",
            account="123456789012",
            principal=Principal(access_key="AKIATEST", account="123456789012", role="Role"),
            base_url="http://127.0.0.1:4600",
            request=Request(method="GET", path=b"/", query=b"", headers=(), body=MemoryBody()),
        )
        answer = await table[operation](context, params)
        result = answer.result if isinstance(answer, Reply) else answer
        if isinstance(body := (result or {}).get("Body"), FileRegion) and body.fd is not None:
            os.close(body.fd)
        return answer

    return call


@pytest.mark.parametrize(
    ("operation", "params"),
    [
        ("HeadObject", {"Key": "out"}),
        ("GetObject", {"Key": "out"}),
        ("GetObjectAttributes", {"Key": "out", "ObjectAttributes": ["ETag", "ObjectSize", "Checksum", "ObjectParts"]}),
        ("GetObjectTagging", {"Key": "out"}),
        ("ListObjectsV2", {}),
        ("ListObjects", {}),
        ("ListObjectVersions", {}),
    ],
)
async def test_no_client_is_told_of_it(call: Call, operation: str, params: dict[str, Any]) -> None:
    """Whatever it asks."""
    assert SECRET not in repr(await call(operation, Bucket="shop", **params))


@pytest.mark.parametrize(
    ("directive", "target", "params"),
    [
        ("COPY", "copy", {}),
        ("COPY", "copy", {"ChecksumAlgorithm": "SHA256"}),
        ("COPY", "out", {"StorageClass": "STANDARD"}),
        ("REPLACE", "copy", {"Metadata": {"c": "d"}}),
        ("REPLACE", "out", {"Metadata": {"c": "d"}}),
    ],
)
async def test_copies_are_not_of_that_origin(
    store: FilesystemObjects, call: Call, directive: str, target: str, params: dict[str, Any]
) -> None:
    """Not even of the object onto itself, by which clients replace metadata."""
    await call("CopyObject", Bucket="shop", Key=target, CopySource="shop/out", MetadataDirective=directive, **params)
    assert (await store.get(ObjectRef("shop", target))).meta.origin == ""


async def test_tags_leave_it(store: FilesystemObjects, call: Call) -> None:
    """The bytes are what the work has written."""
    await call("PutObjectTagging", Bucket="shop", Key="out", Tagging={"TagSet": [{"Key": "k", "Value": "v"}]})
    meta = (await store.get(OUT)).meta
    assert (meta.origin, meta.tags) == (SECRET, {"k": "v"})
