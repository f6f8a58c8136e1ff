"""Transform jobs that failed or were stopped, and those that go on with them, through boto3 and on the command line."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from millrace.settings import as_environment
from tests.integration.platform import ROLE, Platform, wait_until

SLOW = Path(__file__).parents[1] / "programs" / "slow_model.py"
IMAGE = "slow:latest"
RECORDS = 200
FAILS_AT = 150


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A server with an image whose containers are slow; three objects lie in the bucket."""
    platform = Platform(tmp_path_factory.mktemp("resumed"), heartbeat_seconds=0.2, lease_seconds=3.0)
    with (platform.settings.data_dir / "host-images.toml").open("a") as file:
        file.write(f'[[image]]\nmatch = "slow:*"\ncommand = ["{sys.executable}", "{SLOW}"]\n')
    platform.start()
    for name in "abc":
        platform.put(f"s3://shop/rows/{name}.csv", b"".join(b"%s%d,1\n" % (name.encode(), n) for n in range(RECORDS)))
    platform.model("slow", IMAGE)
    yield platform
    assert platform.stop() == 0


class Work:
    """A job that fails in the midst of b.csv as long as `gate` is there."""

    def __init__(self, platform: Platform, folder: Path, name: str) -> None:
        self.platform = platform
        self.name = name
        self.asked = folder / "asked"
        self.gate = folder / "gate"
        self.gate.touch()

    def start(self, name: str, *, model: str = "slow", resumes: str | None = None, **members: Any) -> str:
        """Create a job of this work."""
        environment = {
            "JOURNAL": str(self.asked),
            "SLEEP": "0.005",
            "FAIL_AT": f"b{FAILS_AT},",
            "FAIL_WHILE": str(self.gate),
            **({} if resumes is None else {"MILLRACE_RESUME_FROM": resumes}),
            **members.pop("Environment", {}),
        }
        output = {"S3OutputPath": f"s3://shop/{self.name}", "Accept": "text/csv"}
        request = {"BatchStrategy": "SingleRecord", "Environment": environment, "TransformOutput": output, **members}
        return self.platform.transform(name, model, "s3://shop/rows/", **request)

    def requests(self) -> list[str]:
        """Return the first field of each record that was asked for, in order, and forget them."""
        lines = self.asked.read_text().splitlines()
        self.asked.write_text("")
        return [bytes.fromhex(line.split()[2]).decode().partition(",")[0] for line in lines]

    def outputs(self) -> dict[str, bytes]:
        keys = self.platform.keys(f"s3://shop/{self.name}/")
        return {key.rpartition("/")[2]: self.platform.get(f"s3://shop/{key}") for key in keys}


@pytest.fixture
def work(slow: Platform, tmp_path: Path, request: pytest.FixtureRequest) -> Work:
    """Work of its own for each test."""
    return Work(slow, tmp_path, request.node.name.replace("_", "-")[:50].strip("-"))


def cli(platform: Platform, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `millrace jobs` on the platform's data directory."""
    command = [sys.executable, "-m", "millrace", "jobs", *words]
    environment = {**os.environ, **as_environment(platform.settings)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_failed_job_is_gone_on_with(slow: Platform, work: Work) -> None:
    """What is finished stays, what was begun goes on, what failed is done; with another number of instances."""
    work.start("r-failed")
    assert slow.ended_transform("r-failed")["TransformJobStatus"] == "Failed"
    assert sorted(work.outputs()) == ["a.csv.out", "c.csv.out"]
    assert len(work.requests()) >= 2 * RECORDS + FAILS_AT
    work.gate.unlink()
    more = {"InstanceType": "ml.m5.large", "InstanceCount": 2}
    work.start("r-resumed", resumes="r-failed", TransformResources=more, MaxConcurrentTransforms=2)
    assert slow.ended_transform("r-resumed")["TransformJobStatus"] == "Completed"
    asked = work.requests()
    assert {record[0] for record in asked} == {"b"}
    assert "b0" not in asked, "a part was committed before record 150 failed"
    assert f"b{FAILS_AT}" in asked
    outputs = work.outputs()
    work.start("r-again", TransformOutput={"S3OutputPath": "s3://shop/r-again", "Accept": "text/csv"})
    assert slow.ended_transform("r-again")["TransformJobStatus"] == "Completed"
    assert outputs == {key: slow.get(f"s3://shop/r-again/{key}") for key in ("a.csv.out", "b.csv.out", "c.csv.out")}
    objects = slow.settings.objects_dir / ".millrace"
    assert not list(objects.glob("*/drafts/*"))


def test_a_resumed_job_that_fails_is_resumed(slow: Platform, work: Work) -> None:
    """The third knows what the first has done."""
    work.start("r-first")
    slow.ended_transform("r-first")
    work.start("r-second", resumes="r-first")
    assert slow.ended_transform("r-second")["TransformJobStatus"] == "Failed"
    work.requests()
    work.gate.unlink()
    work.start("r-third", resumes="r-second")
    assert slow.ended_transform("r-third")["TransformJobStatus"] == "Completed"
    asked = work.requests()
    assert {record[0] for record in asked} == {"b"}
    assert "b0" not in asked


def test_a_job_that_failed_at_a_bad_record_goes_on_without_it(slow: Platform, work: Work) -> None:
    """By command; the outputs are those of a job that quarantined from its beginning."""
    work.start("r-bad")
    assert slow.ended_transform("r-bad")["TransformJobStatus"] == "Failed"
    work.requests()
    resumed = cli(slow, "resume", "r-bad", "--quarantine", "--wait")
    assert (resumed.returncode, resumed.stderr) == (0, "")
    assert "b0" not in work.requests()
    outputs = work.outputs()
    assert sorted(outputs) == ["a.csv.out", "b.csv.errors.jsonl", "b.csv.out", "c.csv.out"]
    output = {"S3OutputPath": "s3://shop/r-whole", "Accept": "text/csv"}
    work.start("r-whole", TransformOutput=output, Environment={"MILLRACE_ON_ERROR": "quarantine"})
    assert slow.ended_transform("r-whole")["TransformJobStatus"] == "Completed"
    assert outputs == {key: slow.get(f"s3://shop/r-whole/{key}") for key in outputs}
    found = [cli(slow, "report", name) for name in ("r-bad-resume-1", "r-whole")]
    assert [json.loads(report.stdout)["records"] for report in found] == [
        {"in": 3 * RECORDS, "out": 3 * RECORDS - 1, "failed": 1, "filtered": 0}
    ] * 2


def test_parts_are_gone_on_with_once(slow: Platform, work: Work) -> None:
    """Of two jobs that resume the same one, the first has its parts; both end right."""
    work.start("r-base")
    slow.ended_transform("r-base")
    work.start("r-one", resumes="r-base")
    assert slow.ended_transform("r-one")["TransformJobStatus"] == "Failed"
    work.gate.unlink()
    work.requests()
    work.start("r-two", resumes="r-base")
    assert slow.ended_transform("r-two")["TransformJobStatus"] == "Completed"
    assert "b0" in work.requests()
    work.start("r-one-more", resumes="r-one")
    assert slow.ended_transform("r-one-more")["TransformJobStatus"] == "Completed"


def test_a_job_that_asks_for_something_else_is_refused(slow: Platform, work: Work) -> None:
    """The message names each member and both values; values of the container's variables may be secrets."""
    work.start("r-plain")
    slow.ended_transform("r-plain")
    processing = {"InputFilter": "$[0]"}
    environment = {"TOKEN": "secret", "MILLRACE_ON_ERROR": "skip"}
    with pytest.raises(ClientError) as raised:
        work.start(
            "r-other",
            resumes="r-plain",
            BatchStrategy="MultiRecord",
            MaxPayloadInMB=2,
            DataProcessing=processing,
            Environment=environment,
        )
    assert raised.value.response["Error"]["Code"] == "ValidationException"
    assert raised.value.response["Error"]["Message"] == (
        "Environment.MILLRACE_RESUME_FROM: a job that resumes another one must ask for the same outputs. It differs "
        'from "r-plain" in BatchStrategy ("MultiRecord" instead of "SingleRecord"); MaxPayloadInMB ("2" instead of '
        'none); DataProcessing.InputFilter ("$[0]" instead of "$"); Environment.MILLRACE_ON_ERROR ("skip" instead of '
        "none); Environment.TOKEN (their values are not told)."
    )


def test_model_data_that_were_written_since_are_refused(slow: Platform, work: Work) -> None:
    """Half of the outputs would be of another model."""
    work.gate.unlink()
    source = {"S3Uri": slow.put("s3://shop/weights.txt", b"1"), "S3DataType": "S3Object", "CompressionType": "None"}
    container = {"Image": IMAGE, "ModelDataSource": {"S3DataSource": source}}
    slow.client("sagemaker").create_model(ModelName="weighed", ExecutionRoleArn=ROLE, PrimaryContainer=container)
    work.start("r-weighed", model="weighed")
    slow.ended_transform("r-weighed")
    work.start("r-same-weights", model="weighed", resumes="r-weighed")
    slow.put("s3://shop/weights.txt", b"2")
    with pytest.raises(ClientError, match=r"model data s3://shop/weights\.txt must be as they were when the job"):
        work.start("r-other-weights", model="weighed", resumes="r-weighed")


def test_a_job_that_is_not_there_is_refused(slow: Platform, work: Work) -> None:
    """The message names it."""
    with pytest.raises(ClientError, match='there is no transform job "nobody" in us-east-1'):
        work.start("r-orphan", resumes="nobody")


def test_a_stopped_job_is_resumed_by_command(slow: Platform, work: Work) -> None:
    """The new job is a copy of the old one's request; its name is printed, its end waited for."""
    work.gate.unlink()
    slow.client("sagemaker")
    work.start("r-stopped", Environment={"SLEEP": "0.02"}, Tags=[{"Key": "team", "Value": "shop"}])
    running = cli(slow, "resume", "r-stopped")
    assert (running.returncode, running.stderr) == (
        1,
        "millrace jobs: r-stopped is InProgress; it can be resumed once it has ended\n",
    )
    wait_until("a finished object", lambda: work.outputs())
    slow.client("sagemaker").stop_transform_job(TransformJobName="r-stopped")
    assert slow.ended_transform("r-stopped")["TransformJobStatus"] == "Stopped"
    work.requests()
    resumed = cli(slow, "resume", "r-stopped", "--wait")
    assert (resumed.returncode, resumed.stderr) == (0, "")
    assert resumed.stdout.splitlines()[0] == "r-stopped-resume-1"
    assert "Completed" in resumed.stdout.splitlines()[-1]
    assert "a0" not in work.requests()
    assert len(work.outputs()) == 3
    found = slow.client("sagemaker").describe_transform_job(TransformJobName="r-stopped-resume-1")
    assert found["Environment"]["MILLRACE_RESUME_FROM"] == "r-stopped"
    tags = slow.client("sagemaker").list_tags(ResourceArn=found["TransformJobArn"])["Tags"]
    assert tags == [{"Key": "team", "Value": "shop"}]
    again = cli(slow, "resume", "r-stopped")
    assert again.stdout == "r-stopped-resume-2\n"
    slow.ended_transform("r-stopped-resume-2")
    assert work.requests() == []


def test_the_command_tells_what_it_cannot_resume(slow: Platform, work: Work) -> None:
    """Names that are taken, jobs that are complete or not there, and other kinds."""
    work.gate.unlink()
    work.start("r-done")
    slow.ended_transform("r-done")
    slow.train("r-train", HyperParameters={"do": "look"})
    slow.ended_training("r-train")
    for words, text in (
        (["r-done"], "r-done is Completed: nothing is left to resume"),
        (["r-nobody"], "there is no job 'r-nobody' in region us-east-1"),
        (["training-job/r-train"], "training-job/r-train is a training-job; only transform jobs can be resumed"),
    ):
        refused = cli(slow, "resume", *words)
        assert (refused.returncode, refused.stdout, refused.stderr) == (1, "", f"millrace jobs: {text}\n")
