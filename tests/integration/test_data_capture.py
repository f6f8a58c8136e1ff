"""Data capture and inference ids of transform jobs through boto3, on a real server with real containers."""

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.integration.platform import Platform, wait_until

GROUP = "/aws/sagemaker/TransformJobs"
UUID = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


@pytest.fixture(scope="module")
def rowsum(platform: Platform) -> str:
    return platform.model("capture-rowsum", MODE="rowsum")


def manifests(platform: Platform, found: dict[str, Any], destination: str, side: str) -> list[Any]:
    """Return the manifests of one side; their keys are in the folder of the hour in which the job started."""
    hour = found["TransformStartTime"].strftime("%Y/%m/%d/%H")
    keys = platform.keys(f"{destination}/{side}/")
    bucket, _, prefix = destination.removeprefix("s3://").partition("/")
    for key in keys:
        assert re.fullmatch(f"{prefix}/{side}/{hour}/[0-9a-f-]{{36}}\\.json", key)
    return [json.loads(platform.get(f"s3://{bucket}/{key}")) for key in keys]


@pytest.mark.spec("B §9.7 J21 J23")
def test_a_job_captures_what_it_transformed(platform: Platform, rowsum: str) -> None:
    """Each row has an id of its own and the job's start; manifests list inputs and outputs; Describe tells it all."""
    capture = {"DestinationS3Uri": "s3://shop/captured", "GenerateInferenceId": True, "KmsKeyId": "key-1"}
    platform.transform("t-capture", rowsum, "s3://shop/in/", DataCaptureConfig=capture)
    found = platform.ended_transform("t-capture")
    assert found["TransformJobStatus"] == "Completed", found.get("FailureReason")
    assert found["DataCaptureConfig"] == capture
    rows = platform.get("s3://shop/t-capture/a.csv.out").decode().splitlines()
    start = found["TransformStartTime"].strftime("%Y-%m-%dT%H:%M:%SZ")
    columns = [row.split(",") for row in rows]
    assert [row[0] for row in columns] == ["3", "7", "11"]
    assert all(re.fullmatch(UUID, row[1]) for row in columns)
    assert len({row[1] for row in columns}) == 3
    assert {row[2] for row in columns} == {start}
    assert manifests(platform, found, "s3://shop/captured", "input") == [
        [{"prefix": "s3://shop/in/"}, "a.csv", "sub/b.csv"]
    ]
    assert manifests(platform, found, "s3://shop/captured", "output") == [
        [{"prefix": "s3://shop/t-capture/"}, "a.csv.out", "sub/b.csv.out"]
    ]
    (key,) = platform.keys("s3://shop/captured/input/")
    head = platform.client("s3").head_object(Bucket="shop", Key=key)
    assert (head["ContentType"], head["SSEKMSKeyId"]) == ("application/json", "key-1")


def test_each_instance_lists_its_own_objects(platform: Platform, rowsum: str) -> None:
    """Two instances write two manifests of each side, and all rows tell the same time."""
    capture = {"DestinationS3Uri": "s3://shop/shared-out", "GenerateInferenceId": True}
    resources = {"InstanceType": "ml.m5.large", "InstanceCount": 2}
    platform.transform("t-two", rowsum, "s3://shop/in/", DataCaptureConfig=capture, TransformResources=resources)
    found = platform.ended_transform("t-two")
    assert sorted(manifests(platform, found, "s3://shop/shared-out", "input"), key=str) == [
        [{"prefix": "s3://shop/in/"}, "a.csv"],
        [{"prefix": "s3://shop/in/"}, "sub/b.csv"],
    ]
    rows = platform.get("s3://shop/t-two/a.csv.out") + platform.get("s3://shop/t-two/sub/b.csv.out")
    assert len(rows.splitlines()) == 4
    start = found["TransformStartTime"].strftime("%Y-%m-%dT%H:%M:%SZ").encode()
    assert {row.rpartition(b",")[2] for row in rows.splitlines()} == {start}


def test_objects_that_failed_are_not_captured(platform: Platform, rowsum: str) -> None:
    """A failed job's manifests list what has its output; ids are not asked for, so rows are the model's own."""
    platform.put("s3://shop/half/a.csv", b"x,y\n")
    platform.put("s3://shop/half/b.csv", b"1,2\n")
    platform.transform(
        "t-half",
        rowsum,
        "s3://shop/half/",
        DataCaptureConfig={"DestinationS3Uri": "s3://shop/half-captured/"},
        ModelClientConfig={"InvocationsMaxRetries": 0},
    )
    found = platform.ended_transform("t-half")
    assert found["TransformJobStatus"] == "Failed"
    assert platform.get("s3://shop/t-half/b.csv.out") == b"3\n"
    assert manifests(platform, found, "s3://shop/half-captured", "input") == [[{"prefix": "s3://shop/half/"}, "b.csv"]]
    assert manifests(platform, found, "s3://shop/half-captured", "output") == [
        [{"prefix": "s3://shop/t-half/"}, "b.csv.out"]
    ]


def test_a_job_that_captured_nothing_writes_no_manifest(platform: Platform) -> None:
    """If no object succeeded there is nothing to list."""
    model = platform.model("capture-says-no", MODE="status", STATUS="400")
    platform.transform(
        "t-none", model, "s3://shop/in/", DataCaptureConfig={"DestinationS3Uri": "s3://shop/none-captured"}
    )
    assert platform.ended_transform("t-none")["TransformJobStatus"] == "Failed"
    assert platform.keys("s3://shop/none-captured") == []


def test_a_container_that_dies_leaves_what_was_captured(platform: Platform) -> None:
    """Outputs that were there before the container ended are listed."""
    platform.put("s3://shop/deadly/a-empty.csv", b"")
    platform.put("s3://shop/deadly/b.csv", b"1\n")
    first_output = platform.settings.objects_dir / "shop" / "t-deadly" / "a-empty.csv.out"
    model = platform.model("capture-dies", MODE="die", WAIT_FOR=str(first_output))
    platform.transform(
        "t-deadly", model, "s3://shop/deadly/", DataCaptureConfig={"DestinationS3Uri": "s3://shop/deadly-captured"}
    )
    found = platform.ended_transform("t-deadly")
    assert found["TransformJobStatus"] == "Failed"
    assert platform.keys("s3://shop/t-deadly/") == ["t-deadly/a-empty.csv.out"]
    assert manifests(platform, found, "s3://shop/deadly-captured", "output") == [
        [{"prefix": "s3://shop/t-deadly/"}, "a-empty.csv.out"]
    ]


def test_a_stopped_job_lists_what_was_there(platform: Platform, tmp_path: Path) -> None:
    """What was in flight is dropped and not listed."""
    platform.put("s3://shop/halted/a-empty.csv", b"")
    platform.put("s3://shop/halted/b.csv", b"1\n")
    model = platform.model("capture-stopped", MODE="rowsum", WAIT_FOR=str(tmp_path / "never"))
    platform.transform(
        "t-halted", model, "s3://shop/halted/", DataCaptureConfig={"DestinationS3Uri": "s3://shop/halted-captured"}
    )
    wait_until("the first output", lambda: platform.keys("s3://shop/t-halted/"))
    platform.client("sagemaker").stop_transform_job(TransformJobName="t-halted")
    found = platform.ended_transform("t-halted")
    assert found["TransformJobStatus"] == "Stopped"
    assert manifests(platform, found, "s3://shop/halted-captured", "input") == [
        [{"prefix": "s3://shop/halted/"}, "a-empty.csv"]
    ]


def test_manifests_that_cannot_be_written_do_not_fail_the_job(platform: Platform, tmp_path: Path) -> None:
    """The bucket of the destination is deleted while the job runs: the data log tells it, and the outputs are there."""
    s3 = platform.client("s3")
    s3.create_bucket(Bucket="fleeting")
    gate = tmp_path / "gate"
    model = platform.model("capture-gated", MODE="rowsum", WAIT_FOR=str(gate))
    platform.transform(
        "t-fleeting", model, "s3://shop/in/a.csv", DataCaptureConfig={"DestinationS3Uri": "s3://fleeting/c"}
    )
    s3.delete_bucket(Bucket="fleeting")
    gate.touch()
    assert platform.ended_transform("t-fleeting")["TransformJobStatus"] == "Completed"
    assert platform.get("s3://shop/t-fleeting/a.csv.out") == b"3\n7\n11\n"
    lines = [line for line in platform.log(GROUP, "t-fleeting/") if "manifest could not be written" in line]
    assert len(lines) == 2
    assert ":[sagemaker logs]: fleeting/c/input/" in lines[0]
    assert "NoSuchBucket: fleeting" in lines[0]


def test_another_attempt_adds_no_manifest(own_platform: Platform, tmp_path: Path) -> None:
    """After an agent was killed its successor tells the same start in every row, and writes the only manifests."""
    gate = tmp_path / "gate"
    model = own_platform.model("capture-again", MODE="rowsum", WAIT_FOR=str(gate))
    capture = {"DestinationS3Uri": "s3://shop/c", "GenerateInferenceId": True}
    own_platform.transform("t-retaken", model, "s3://shop/in/", DataCaptureConfig=capture)
    sagemaker = own_platform.client("sagemaker")
    wait_until("start", lambda: "TransformStartTime" in sagemaker.describe_transform_job(TransformJobName="t-retaken"))
    (first,) = wait_until("agent", own_platform.agents)
    os.kill(first, signal.SIGKILL)
    wait_until("another agent", lambda: own_platform.agents() not in ([], [first]))
    gate.touch()
    found = own_platform.ended_transform("t-retaken")
    assert found["TransformJobStatus"] == "Completed"
    start = found["TransformStartTime"].strftime("%Y-%m-%dT%H:%M:%SZ").encode()
    rows = own_platform.get("s3://shop/t-retaken/a.csv.out").splitlines()
    assert {row.rpartition(b",")[2] for row in rows} == {start}
    assert manifests(own_platform, found, "s3://shop/c", "input") == [[{"prefix": "s3://shop/in/"}, "a.csv"]]
    assert manifests(own_platform, found, "s3://shop/c", "output") == [
        [{"prefix": "s3://shop/t-retaken/"}, "a.csv.out"]
    ]


def test_a_job_without_capture_is_described_without(platform: Platform, rowsum: str) -> None:
    """Describe echoes DataCaptureConfig only if it was given."""
    platform.transform("t-uncaptured", rowsum, "s3://shop/in/a.csv")
    assert "DataCaptureConfig" not in platform.ended_transform("t-uncaptured")


@pytest.mark.parametrize(
    ("capture", "accept", "text"),
    [
        pytest.param(
            {"DestinationS3Uri": "s3://shop/c", "GenerateInferenceId": True},
            "image/png",
            "DataCaptureConfig.GenerateInferenceId requires TransformOutput.Accept to be one of [text/csv, "
            'application/json, application/jsonlines]. Got "image/png" instead.',
            marks=pytest.mark.spec("batch-transform 1.2 X26"),
        ),
        (
            {"DestinationS3Uri": "s3://no-such-bucket-here/c"},
            "text/csv",
            "dataCaptureConfig.destinationS3Uri: the bucket 'no-such-bucket-here' does not exist",
        ),
        (
            {"DestinationS3Uri": "https://shop/c"},
            "text/csv",
            "dataCaptureConfig.destinationS3Uri: expected s3://bucket/prefix, got 'https://shop/c'",
        ),
    ],
)
def test_capture_that_cannot_work_is_refused(
    platform: Platform, rowsum: str, capture: dict[str, Any], accept: str, text: str
) -> None:
    """Types without rows and places that do not exist are refused when the job is created."""
    output = {"S3OutputPath": "s3://shop/t-refused", "AssembleWith": "Line", "Accept": accept}
    with pytest.raises(ClientError) as raised:
        platform.transform("t-refused", rowsum, "s3://shop/in/", DataCaptureConfig=capture, TransformOutput=output)
    assert raised.value.response["Error"]["Code"] == "ValidationException"
    assert raised.value.response["Error"]["Message"] == text
