"""Records that end the container that they are sent to, in jobs that leave bad records out."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.platform import IMAGE, PROGRAM, Platform, wait_until
from tests.sandbox_rig import needs_sandbox

GROUP = "/aws/sagemaker/TransformJobs"
COUNT = 40
DEADLY = (7, 23, 24)
"""Numbers of records, from 1; two stand in a row."""

ROWS = [b"%d,%s\n" % (n, b"deadly" if n in DEADLY else b"fine") for n in range(1, COUNT + 1)]
FINE = [row for row in ROWS if b"deadly" not in row]
DIES = {"MODE": "die", "DIE_ON": "deadly"}
ENDED = "AlgorithmError: Unable to get response from algorithm: the container exited with status {} each time that {}"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A server with rows of which some end their container."""
    running = Platform(tmp_path_factory.mktemp("deadly"), heartbeat_seconds=0.2, lease_seconds=3.0).start()
    running.put("s3://shop/deadly/a.csv", b"".join(ROWS))
    running.model("dies", IMAGE, **DIES)
    yield running
    assert running.stop() == 0


def run(platform: Platform, name: str, model: str, *, on_error: str = "quarantine", **members: Any) -> dict[str, Any]:
    """Run a job over the rows to its end; each request that is lost is sent as often as it must be."""
    platform.transform(
        name,
        model,
        "s3://shop/deadly/",
        Environment={"MILLRACE_ON_ERROR": on_error, **members.pop("Environment", {})},
        ModelClientConfig={"InvocationsMaxRetries": 0},
        TransformOutput={"S3OutputPath": f"s3://shop/{name}", "Accept": "text/csv"},
        **members,
    )
    return platform.ended_transform(name)


def told(platform: Platform, name: str) -> list[tuple[int, str]]:
    """Return numbers and errors of quarantined records."""
    lines = platform.get(f"s3://shop/{name}/a.csv.errors.jsonl").splitlines()
    return [(line["record"], line["error"]) for line in map(json.loads, lines)]


@pytest.mark.parametrize("strategy", ["MultiRecord", "SingleRecord"])
@pytest.mark.parametrize("concurrency", [1, 8])
def test_only_the_records_that_end_the_container_are_left_out(
    platform: Platform, strategy: str, concurrency: int
) -> None:
    """All that was under way beside them has its result; how the container ended is told of each."""
    name = f"dies-{strategy}-{concurrency}"
    ended = run(platform, name, "dies", BatchStrategy=strategy, MaxConcurrentTransforms=concurrency)
    assert ended["TransformJobStatus"] == "Completed", ended
    assert platform.get(f"s3://shop/{name}/a.csv.out") == b"".join(FINE)
    assert told(platform, name) == [(n, ENDED.format(7, "it was sent")) for n in DEADLY]
    log = platform.log(GROUP, f"{name}/")
    restarts = [line for line in log if "it is started again" in line]
    assert restarts, log
    assert any("dying in mid-request" in line for line in restarts)


def test_a_skipped_record_leaves_its_line(platform: Platform) -> None:
    """Also where it ends the container."""
    ended = run(platform, "dies-skip", "dies", on_error="skip", MaxConcurrentTransforms=4)
    assert ended["TransformJobStatus"] == "Completed", ended
    assert platform.get("s3://shop/dies-skip/a.csv.out") == b"".join(
        b"\n" if n in DEADLY else row for n, row in enumerate(ROWS, 1)
    )


def test_without_a_wish_the_end_of_the_container_ends_the_job(platform: Platform) -> None:
    """As with SageMaker."""
    ended = run(platform, "dies-fail", "dies", on_error="fail")
    assert ended["TransformJobStatus"] == "Failed"
    assert ended["FailureReason"].startswith("AlgorithmError: "), ended
    assert platform.keys("s3://shop/dies-fail/") == []


def test_one_container_of_a_chain_is_started_again(platform: Platform) -> None:
    """The others stay as they are."""
    model = platform.chain("chained", {"MODE": "tag", "WHO": "a"}, DIES, {"MODE": "tag", "WHO": "c"})
    ended = run(platform, "dies-chain", model, MaxConcurrentTransforms=3)
    assert ended["TransformJobStatus"] == "Completed", ended
    assert platform.get("s3://shop/dies-chain/a.csv.out") == b"".join(row[:-1] + b",a,c\n" for row in FINE)
    error = ENDED.replace("the container", "container-2").format(7, "it was sent")
    assert told(platform, "dies-chain") == [(n, error) for n in DEADLY]
    log = [line for line in platform.log(GROUP, "dies-chain/") if line.startswith("serving")]
    assert sorted(set(log)) == ["serving die []", "serving tag []"]
    assert log.count("serving tag []") == 2


def test_a_model_that_dies_at_everything_fails_its_job(platform: Platform) -> None:
    """As soon as more records are bad than are allowed."""
    platform.model("hopeless", IMAGE, MODE="die")
    ended = run(platform, "hopeless", "hopeless", Environment={"MILLRACE_MAX_FAILED_RECORDS": "2"})
    assert ended["TransformJobStatus"] == "Failed"
    assert "MILLRACE_MAX_FAILED_RECORDS" in ended["FailureReason"]


def test_a_job_whose_container_is_started_again_can_be_stopped(platform: Platform, tmp_path: Path) -> None:
    """While nobody is there to be asked."""
    gate, journal = tmp_path / "gate", tmp_path / "journal"
    platform.model("waits", IMAGE, WAIT_FOR=str(gate), JOURNAL=str(journal))
    platform.transform(
        "stopped",
        "waits",
        "s3://shop/deadly/",
        Environment={"MILLRACE_ON_ERROR": "quarantine"},
        ModelClientConfig={"InvocationsMaxRetries": 0},
    )

    def asked() -> list[str]:
        return journal.read_text().split() if journal.exists() else []

    first = wait_until("first request", asked)[0]
    os.kill(int(first), signal.SIGKILL)
    wait_until("request to another process", lambda: {*asked()} > {first})
    platform.client("sagemaker").stop_transform_job(TransformJobName="stopped")
    assert platform.ended_transform("stopped")["TransformJobStatus"] == "Stopped"
    assert platform.keys("s3://shop/stopped/") == []


@needs_sandbox
def test_a_sandbox_is_started_again(platform: Platform, tmp_path: Path) -> None:
    """In its folder and at its address; killed for its memory, say."""
    image = "000000000000.dkr.ecr.us-east-1.amazonaws.com/deadly:1"
    shutil.copy(PROGRAM, tmp_path)
    (tmp_path / "Dockerfile").write_text(
        "FROM python:3.11-slim\nENV SAGEMAKER_BASE_DIR=/\nENV SAGEMAKER_BIND_TO_PORT=8080\n"
        'COPY brought_program.py /srv/\nENTRYPOINT ["python", "/srv/brought_program.py"]\n'
    )
    data_dir = str(platform.settings.data_dir)
    command = [sys.executable, "-m", "millrace", "image", "build", "--data-dir", data_dir, "--tag", image]
    subprocess.run([*command, str(tmp_path)], check=True, capture_output=True)
    platform.model("dies-inside", image, **DIES)
    ended = run(platform, "dies-inside", "dies-inside", MaxConcurrentTransforms=4)
    assert ended["TransformJobStatus"] == "Completed", ended
    assert platform.get("s3://shop/dies-inside/a.csv.out") == b"".join(FINE)
    assert told(platform, "dies-inside") == [(n, ENDED.format(7, "it was sent")) for n in DEADLY]
