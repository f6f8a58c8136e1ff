"""A disk without room: a truthful error, the old object as it was, and nothing left behind."""

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.services.s3.test_handlers import Call, bucket, call

from millrace.errors import S3Error
from millrace.protocol.bodies import MemoryBody

__all__ = ["bucket", "call"]  # fixtures

LIMIT = 256 * 1024


@pytest.fixture
def small_files() -> Iterator[None]:
    """Let this process write files up to a limit, as a disk does that fills up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_put_without_room_changes_nothing(call: Call, bucket: str, tmp_path: Path, small_files: None) -> None:
    """503 says why, so that clients try again later; the object stays, and so does no part of the new one."""
    await call("PutObject", Bucket=bucket, Key="k", Body=b"old")
    for operation, more in (
        ("PutObject", {}),
        ("UploadPart", {"UploadId": (await call("CreateMultipartUpload", Bucket=bucket, Key="k"))["UploadId"]}),
    ):
        members = {"PartNumber": 1, **more} if more else {}
        body = MemoryBody(b"x" * (LIMIT + 1))
        with pytest.raises(S3Error, match="no room for the object") as caught:
            await call(operation, Bucket=bucket, Key="k", Body=body, **members)
        assert (caught.value.wire_code, caught.value.wire_status) == ("ServiceUnavailable", 503)
    assert (await call("GetObject", Bucket=bucket, Key="k"))["_bytes"] == b"old"
    assert [path for path in tmp_path.rglob("tmp/*") if path.is_file()] == []
