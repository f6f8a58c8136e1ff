"""Containers that hang or never are healthy, on a server whose patience is short."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.platform import Platform


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    running = Platform(
        tmp_path_factory.mktemp("impatient"), ping_window_seconds=0.5, serve_stop_grace_seconds=1.0
    ).start()
    running.put("s3://shop/in/a.csv", b"1,2\n")
    yield running
    assert running.stop() == 0


@pytest.mark.spec("B §9.8 F10")
def test_a_container_that_is_never_healthy_fails_the_job(impatient: Platform) -> None:
    """After the start-up window the job fails with the documented reason; nothing was invoked."""
    model = impatient.model("unwell", MODE="no-ping")
    impatient.transform("t-unwell", model, "s3://shop/in/")
    found = impatient.ended_transform("t-unwell")
    assert found["TransformJobStatus"] == "Failed"
    assert found["FailureReason"].startswith("AlgorithmError: Model container failed to respond to ping")
    lines = impatient.log("/aws/sagemaker/TransformJobs", "t-unwell/")
    assert not any("POST" in line for line in lines)


@pytest.mark.spec("B §9.8 F07")
def test_a_container_that_hangs_times_out(impatient: Platform, tmp_path: Path) -> None:
    """The invocation's time limit holds, the text is the documented one."""
    model = impatient.model("hangs", MODE="rowsum", WAIT_FOR=str(tmp_path / "never"))
    limits = {"InvocationsTimeoutInSeconds": 1, "InvocationsMaxRetries": 0}
    impatient.transform("t-hangs", model, "s3://shop/in/", ModelClientConfig=limits)
    reason = impatient.ended_transform("t-hangs")["FailureReason"]
    assert reason.startswith("AlgorithmError: See job logs for more information")
    assert "did not respond to /invocations request within 1 seconds" in reason


def test_broken_input_is_told_by_record(impatient: Platform) -> None:
    """Invalid JSON under a join, and a corrupt gzip, name the place."""
    impatient.put("s3://shop/json/a.jsonl", b'{"a":1}\n{"a":\n')
    impatient.put("s3://shop/gz/a.csv.gz", b"\x1f\x8b\x08\x00 this is no gzip")
    model = impatient.model("echo", MODE="echo")
    jsonl = {"ContentType": "application/jsonlines", "SplitType": "Line"}

    def source(uri: str) -> dict[str, object]:
        return {"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": uri}}}

    impatient.transform(
        "t-json",
        model,
        "s3://shop/json/",
        TransformInput={**source("s3://shop/json/"), **jsonl},
        TransformOutput={
            "S3OutputPath": "s3://shop/t-json",
            "AssembleWith": "Line",
            "Accept": "application/jsonlines",
        },
        DataProcessing={"JoinSource": "Input"},
    )
    reason = impatient.ended_transform("t-json")["FailureReason"]
    assert "json/a.jsonl, record 2 at byte 8" in reason
    compressed = {"ContentType": "text/csv", "SplitType": "Line", "CompressionType": "Gzip"}
    impatient.transform("t-gz", model, "s3://shop/gz/", TransformInput={**source("s3://shop/gz/"), **compressed})
    reason = impatient.ended_transform("t-gz")["FailureReason"]
    assert reason.startswith("ClientError")
    assert "gz/a.csv.gz" in reason
    assert impatient.keys("s3://shop/t-gz/") == []
