"""Training and processing jobs of an image that users built, in real sandboxes."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.platform import PROGRAM, Platform, wait_until
from tests.integration.processing import ended, log_so_far, process, result, source
from tests.sandbox_rig import needs_sandbox

pytestmark = needs_sandbox

BUILT = "000000000000.dkr.ecr.us-east-1.amazonaws.com/built:1"
DOCKERFILE = """\
FROM python:3.11-slim
ENV SAGEMAKER_BASE_DIR=/
COPY brought_program.py /srv/
ENTRYPOINT ["python", "/srv/brought_program.py"]
CMD ["--from-the-image"]
"""


@pytest.fixture(scope="module")
def sandboxes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A server whose data directory has the image."""
    running = Platform(tmp_path_factory.mktemp("sandboxes"), heartbeat_seconds=0.2, lease_seconds=3.0).start()
    context = tmp_path_factory.mktemp("context")
    (context / "Dockerfile").write_text(DOCKERFILE)
    shutil.copy(PROGRAM, context)
    data_dir = str(running.settings.data_dir)
    command = [sys.executable, "-m", "millrace", "image", "build", "--data-dir", data_dir, "--tag", BUILT, str(context)]
    subprocess.run(command, check=True, capture_output=True)
    for number in range(5):
        running.put(f"s3://shop/rows/part-{number}.csv", b"1,2\n" * (number + 1))
    yield running
    assert running.stop() == 0


@pytest.mark.spec("C §12 C-35")
def test_a_processor_runs_its_own_command_on_its_own_opt_ml(sandboxes: Platform) -> None:
    """Without a word of the job, entry point and arguments are the image's; paths are the contract's."""
    process(sandboxes, "plain", BUILT, ProcessingInputs=[source("rows", "s3://shop/rows/")])
    found = ended(sandboxes, "plain")
    assert found["ProcessingJobStatus"] == "Completed", found
    seen = json.loads(sandboxes.get("s3://shop/plain/deep/seen-algo-1.json"))
    assert seen["argv"] == ["--from-the-image"]
    assert {"config", "output", "processing"} <= set(seen["opt_ml"])
    assert sorted(seen["files"]) == [f"in/part-{number}.csv" for number in range(5)]


def test_pipes_lead_into_a_sandbox(sandboxes: Platform) -> None:
    """Read twice, from two numbered pipes."""
    piped = [source("rows", "s3://shop/rows/", "/opt/ml/processing/in/rows", S3InputMode="Pipe")]
    process(sandboxes, "piped", BUILT, ProcessingInputs=piped, Environment={"DO": "pipe"})
    assert ended(sandboxes, "piped")["ProcessingJobStatus"] == "Completed"
    assert json.loads(sandboxes.get("s3://shop/piped/seen.json")) == [60, 60]


@pytest.mark.spec("C §12 C-43")
@pytest.mark.parametrize(("do", "stored"), [("links", ["links/plain.txt"]), ("hostile", [])])
@pytest.mark.parametrize("mode", ["EndOfJob", "Continuous"])
def test_no_link_of_a_container_leads_to_files_of_this_machine(
    sandboxes: Platform, do: str, stored: list[str], mode: str
) -> None:
    """Neither one among its outputs, nor one in the place of an output folder or of the message."""
    name = process(
        sandboxes, f"{do}-{mode}", BUILT, Outputs=[result(f"s3://shop/{mode}/{do}", mode=mode)], Environment={"DO": do}
    )
    found = ended(sandboxes, name)
    assert found["ProcessingJobStatus"] == "Completed"
    assert "ExitMessage" not in found
    assert sandboxes.keys(f"s3://shop/{mode}/{do}/") == [f"{mode}/{key}" for key in stored]


def test_a_failing_processor_tells_exit_code_and_message(sandboxes: Platform) -> None:
    """What it wrote before is stored."""
    process(sandboxes, "failing", BUILT, Environment={"DO": "fail"})
    found = ended(sandboxes, "failing")
    assert (found["ProcessingJobStatus"], found["ExitMessage"]) == ("Failed", "asked to fail")
    assert found["FailureReason"].endswith("boom on stderr, exit code: 4")
    assert sandboxes.get("s3://shop/failing/partial.txt") == b"what there was"


@pytest.mark.spec("C §12 C-42")
def test_a_failing_host_ends_the_others(sandboxes: Platform) -> None:
    """One exits with an error, the other waits for a signal, which comes."""
    two = {"ClusterConfig": {"InstanceCount": 2, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1}}
    environment = {"DO": "wait", "DO_algo_2": "fail"}
    process(sandboxes, "half", BUILT, ProcessingResources=two, Environment=environment)
    found = ended(sandboxes, "half")
    assert found["ProcessingJobStatus"] == "Failed"
    assert found["FailureReason"].endswith("exit code: 4")


def test_a_killed_agent_is_followed_by_another_in_a_clean_folder(sandboxes: Platform) -> None:
    """The second attempt's outputs are stored, after a stop that its program notices."""
    process(sandboxes, "again", BUILT, Environment={"DO": "wait"})
    wait_until("the program", lambda: log_so_far(sandboxes, "again").count("waiting") == 1)
    [agent] = sandboxes.agents()
    os.kill(agent, signal.SIGKILL)
    wait_until("another attempt", lambda: log_so_far(sandboxes, "again").count("waiting") == 2)
    sandboxes.client("sagemaker").stop_processing_job(ProcessingJobName="again")
    found = ended(sandboxes, "again")
    assert (found["ProcessingJobStatus"], found["ExitMessage"]) == ("Stopped", "stopped in time")
    names = [Path(key).name for key in sandboxes.keys("s3://shop/again/")]
    assert (len(names), names[-1]) == (2, "stopped.txt")


@pytest.mark.spec("C §12 C-25")
def test_a_training_job_s_stop_reaches_the_program(sandboxes: Platform) -> None:
    """What it saves then is its model."""
    rows = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://shop/rows/"}}
    sandboxes.train(
        "stopped",
        BUILT,
        InputDataConfig=[{"ChannelName": "train", "DataSource": rows}],
        HyperParameters={"do": "wait"},
    )
    training = "/aws/sagemaker/TrainingJobs"
    logs = sandboxes.client("logs")

    def waiting() -> bool:
        groups = [it["logGroupName"] for it in logs.describe_log_groups()["logGroups"]]
        return training in groups and "waiting" in sandboxes.log(training, "stopped/")

    wait_until("the program", waiting)
    sandboxes.client("sagemaker").stop_training_job(TrainingJobName="stopped")
    found = sandboxes.ended_training("stopped")
    assert (found["TrainingJobStatus"], found["SecondaryStatus"]) == ("Stopped", "Stopped")
    assert "stopped.txt" in sandboxes.untar(found["ModelArtifacts"]["S3ModelArtifacts"])
