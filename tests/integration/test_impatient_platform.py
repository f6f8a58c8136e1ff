"""Containers that hang or never are healthy, on a server whose patience is short."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.platform import Platform


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    running = Platform(
        tmp_path_factory.mktemp("impatient"),
        ping_window_seconds=0.5,
        serve_stop_grace_seconds=1.0,
        max_answer_bytes=4096,
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


def test_a_container_of_a_chain_that_hangs_is_told_as_one_alone_is(impatient: Platform, tmp_path: Path) -> None:
    """The documented text, and which of them it was."""
    hangs = {"MODE": "rowsum", "WAIT_FOR": str(tmp_path / "never")}
    model = impatient.chain("chain-hangs", {"MODE": "echo"}, hangs)
    limits = {"InvocationsTimeoutInSeconds": 1, "InvocationsMaxRetries": 0}
    impatient.transform("t-chain-hangs", model, "s3://shop/in/", ModelClientConfig=limits)
    reason = impatient.ended_transform("t-chain-hangs")["FailureReason"]
    assert reason.startswith("AlgorithmError: See job logs for more information")
    text = "Model server did not respond to /invocations request within 1 seconds"
    assert reason.endswith(f"{text}: container-2")
    assert any(f"in/a.csv: {text}" in line for line in impatient.log("/aws/sagemaker/TransformJobs", "t-chain-hangs/"))


def test_an_answer_too_large_to_pass_on_is_not_asked_for_again(impatient: Platform) -> None:
    """It would be no shorter; the reason names the container, the limit and its setting."""
    model = impatient.chain("chain-large", {"MODE": "echo"}, {"MODE": "echo"})
    impatient.put("s3://shop/long/a.csv", b"1,2\n" * 2000)
    impatient.transform("t-chain-large", model, "s3://shop/long/")
    reason = impatient.ended_transform("t-chain-large")["FailureReason"]
    assert reason.startswith("AlgorithmError")
    assert "Answer too large: container-1: it must have at most 4096 bytes (MILLRACE_MAX_ANSWER_BYTES), got" in reason
    lines = impatient.log("/aws/sagemaker/TransformJobs", "t-chain-large/")
    assert sum("POST /invocations" in line for line in lines) == 1, lines


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
