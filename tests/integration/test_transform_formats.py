"""Transform jobs over tables and compressed objects, through boto3 on a real server with real containers."""

import gzip
import json
import subprocess
import sys
from typing import Any

import pyarrow as pa
import pytest
from botocore.exceptions import ClientError

from millrace.dataplane.formats.options import TableForm
from tests.integration.platform import Platform
from tests.unit.dataplane.formats.tables import parquet, read

TABLE = pa.table({"id": ["x", "y", "z"], "a": [1, 3, 5], "b": [2.0, 4.0, 6.0], "v": [[1.5], None, []]})


@pytest.fixture(scope="module")
def rowsum(platform: Platform) -> str:
    return platform.model("rowsum-formats", MODE="rowsum")


def settings(*, joins: bool = False, **variables: str) -> dict[str, Any]:
    """Members of a job whose answers are like its records, with variables named without their prefix."""
    members: dict[str, Any] = {"Environment": {f"MILLRACE_{key.upper()}": value for key, value in variables.items()}}
    if joins:
        members["DataProcessing"] = {"JoinSource": "Input"}
    return members


def told_bytes_out(job: str, platform: Platform) -> int:
    """Return how many bytes of output the report of a job tells of."""
    words = [sys.executable, "-m", "millrace", "jobs", "report", job, "--data-dir", str(platform.settings.data_dir)]
    told = subprocess.run(words, capture_output=True, timeout=60, check=True).stdout
    size: int = json.loads(told)["size_bytes"]["out"]
    return size


def test_a_table_gets_a_column(platform: Platform, rowsum: str) -> None:
    """The unmodified client sets variables of the job; the output is the input's table with the answers beside it."""
    platform.put("s3://shop/tables/t.parquet", parquet(TABLE))
    formats = {"input_format": "parquet", "input_columns": "a,b", "output_format": "parquet"}
    members = settings(joins=True, output_columns="sum:double", **formats)
    platform.transform("t-table", rowsum, "s3://shop/tables/", **members)
    found = platform.ended_transform("t-table")
    assert found["TransformJobStatus"] == "Completed", found
    data = platform.get("s3://shop/t-table/t.parquet.out")
    assert read(data, TableForm.PARQUET).to_pydict() == {**TABLE.to_pydict(), "sum": [3.0, 7.0, 11.0]}
    assert told_bytes_out("t-table", platform) == len(data)
    head = platform.client("s3").head_object(Bucket="shop", Key="t-table/t.parquet.out")
    assert head["ContentType"] == "application/vnd.apache.parquet"


def test_bad_records_are_left_out_of_a_table(platform: Platform, rowsum: str) -> None:
    """The row of the input goes with the answer that it has not, and is told beside the output."""
    platform.put(
        "s3://shop/some-bad/t.parquet", parquet(pa.table({"a": ["1", "one", "3", "three"], "b": [2, 4, 6, 8]}))
    )
    formats = {"input_format": "parquet", "output_format": "parquet", "output_columns": "sum", "on_error": "quarantine"}
    client = {"ModelClientConfig": {"InvocationsMaxRetries": 0}}
    platform.transform("t-some-bad", rowsum, "s3://shop/some-bad/", **client, **settings(joins=True, **formats))
    found = platform.ended_transform("t-some-bad")
    assert found["TransformJobStatus"] == "Completed", found
    data = read(platform.get("s3://shop/t-some-bad/t.parquet.out"), TableForm.PARQUET)
    assert data.to_pydict() == {"a": ["1", "3"], "b": [2, 6], "sum": [3, 9]}
    told = platform.get("s3://shop/t-some-bad/t.parquet.errors.jsonl").splitlines()
    assert [json.loads(line)["record"] for line in told] == [2, 4]


def test_compressed_text_with_a_header_stays_so(platform: Platform, rowsum: str) -> None:
    """The header of the input names columns of the output; both are compressed."""
    platform.put("s3://shop/zipped/a.csv.gz", gzip.compress(b"a,b\n1,2\n3,4\n", mtime=0))
    formats = {"input_compression": "auto", "csv_header": "skip", "output_compression": "gzip"}
    platform.transform("t-zipped", rowsum, "s3://shop/zipped/", **settings(joins=True, output_columns="sum", **formats))
    assert platform.ended_transform("t-zipped")["TransformJobStatus"] == "Completed"
    data = platform.get("s3://shop/t-zipped/a.csv.gz.out")
    assert gzip.decompress(data) == b"a,b,sum\n1,2,3\n3,4,7\n"
    assert told_bytes_out("t-zipped", platform) == len(data)


def test_what_is_no_table_fails_the_job(platform: Platform, rowsum: str) -> None:
    """The reason names object and format."""
    platform.put("s3://shop/broken/t.parquet", b"a,b\n1,2\n")
    platform.transform("t-no-table", rowsum, "s3://shop/broken/", **settings(input_format="parquet"))
    found = platform.ended_transform("t-no-table")
    assert found["TransformJobStatus"] == "Failed"
    assert "first: broken/t.parquet, record 1 at byte 0: Failed to read parquet: " in found["FailureReason"]


def test_variables_are_checked_by_the_create_call(platform: Platform, rowsum: str) -> None:
    """A wrong variable never becomes a job."""
    with pytest.raises(ClientError) as caught:
        platform.transform("t-orc", rowsum, "s3://shop/in/", **settings(input_format="orc"))
    assert caught.value.response["Error"] == {
        "Code": "ValidationException",
        "Message": 'Environment.MILLRACE_INPUT_FORMAT must be one of [parquet, arrow]. Got "orc" instead.',
    }
