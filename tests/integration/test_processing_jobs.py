"""Processing jobs through boto3, on a real server with real containers."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.integration.platform import IMAGE, PROGRAM, Platform, wait_until
from tests.integration.processing import GROUP, ended, log_so_far, process, result, source


@pytest.fixture(scope="module")
def data(platform: Platform) -> str:
    """Five parts and a deeper object under a prefix, a script, a manifest."""
    for number in range(5):
        platform.put(f"s3://shop/rows/part-{number}.csv", b"1,2\n" * (number + 1))
    platform.put("s3://shop/rows/deep/x.csv", b"9,9\n")
    platform.put("s3://shop/code/prep.py", b"newer")
    platform.put("s3://shop/tree/prep.py", b"older")
    platform.put("s3://shop/tree/more.py", b"more")
    manifest = [{"prefix": "s3://shop/rows/"}, "part-1.csv", "deep/x.csv"]
    platform.put("s3://shop/manifests/rows.json", json.dumps(manifest).encode())
    return "s3://shop/rows"


@pytest.mark.spec("C §12 C-35")
@pytest.mark.spec("C §12 C-37")
def test_a_container_finds_what_the_contract_promises(platform: Platform, data: str) -> None:
    """Inputs, configuration, environment, outputs and log; no argument is added to the image's own command."""
    process(
        platform,
        "look",
        ProcessingInputs=[
            source("rows", data),
            source("one", f"{data}/part-0.csv", "/opt/ml/processing/one/"),
            source("listed", "s3://shop/manifests/rows.json", "/opt/ml/processing/listed", S3DataType="ManifestFile"),
            source("tree", "s3://shop/tree/", "/opt/ml/processing/input/code"),
            source("code", "s3://shop/code/prep.py", "/opt/ml/processing/input/code"),
            {"InputName": "own", "AppManaged": True},
        ],
        Environment={"COLOUR": "red"},
        NetworkConfig={"EnableNetworkIsolation": False},
        ExperimentConfig={"ExperimentName": "e"},
        Tags=[{"Key": "k", "Value": "v"}],
    )
    found = ended(platform, "look")
    assert found["ProcessingJobStatus"] == "Completed", found
    assert "ExitMessage" not in found
    assert "FailureReason" not in found
    assert found["CreationTime"] <= found["ProcessingStartTime"] <= found["ProcessingEndTime"]
    assert found["StoppingCondition"] == {"MaxRuntimeInSeconds": 86400}
    assert found["NetworkConfig"] == {"EnableNetworkIsolation": False}
    assert found["ExperimentConfig"] == {"ExperimentName": "e"}
    assert found["ProcessingInputs"][0]["S3Input"]["S3DataDistributionType"] == "FullyReplicated"
    assert platform.client("sagemaker").list_tags(ResourceArn=found["ProcessingJobArn"])["Tags"] == [
        {"Key": "k", "Value": "v"}
    ]
    assert platform.keys("s3://shop/look/") == ["look/deep/seen-algo-1.json"]
    seen = json.loads(platform.get("s3://shop/look/deep/seen-algo-1.json"))
    assert seen["argv"] == []
    assert seen["opt_ml"] == ["config", "output", "processing"]
    assert seen["environment"] == {
        "PROCESSING_JOB_NAME": "look",
        "PROCESSING_JOB_ARN": found["ProcessingJobArn"],
        "COLOUR": "red",
        "AWS_REGION": "us-east-1",
    }
    assert seen["files"] == {
        **{f"in/part-{number}.csv": "1,2\n" * (number + 1) for number in range(5)},
        "in/deep/x.csv": "9,9\n",
        "one/part-0.csv": "1,2\n",
        "listed/part-1.csv": "1,2\n1,2\n",
        "listed/deep/x.csv": "9,9\n",
        "input/code/prep.py": "newer",  # inputs of one folder are merged, the later one's file stays
        "input/code/more.py": "more",
    }
    config = seen["config"]
    assert config["ProcessingJobArn"] == found["ProcessingJobArn"]
    assert config["AppSpecification"] == {"ContainerEntrypoint": None, "ContainerArguments": None, "ImageUri": IMAGE}
    assert config["ProcessingInputs"][0]["S3Input"] == {
        "S3Uri": data,
        "LocalPath": "/opt/ml/processing/in",
        "S3DataType": "S3Prefix",
        "S3InputMode": "File",
        "S3DataDistributionType": "FullyReplicated",
        "S3CompressionType": "None",
        "S3DownloadMode": "StartOfJob",
    }
    assert config["ProcessingOutputConfig"]["KmsKeyId"] is None
    assert config["ProcessingResources"]["ClusterConfig"]["VolumeKmsKeyId"] is None
    assert config["StoppingCondition"] == {"MaxRuntimeInSeconds": 86400}
    assert (seen["resource"]["current_host"], seen["resource"]["hosts"]) == ("algo-1", ["algo-1"])
    assert log_so_far(platform, "look") == ["processing on algo-1 do look"]
    streams = platform.client("logs").describe_log_streams(logGroupName=GROUP, logStreamNamePrefix="look/")
    epoch = int(found["CreationTime"].timestamp())
    assert [it["logStreamName"] for it in streams["logStreams"]] == [f"look/algo-1-{epoch}"]


@pytest.mark.spec("C §12 C-36")
def test_entry_point_and_arguments_follow_dockers_rules(platform: Platform, data: str) -> None:
    """An entry point replaces the image's; paths of the contract are told as the process runtime has them."""
    platform.put("s3://shop/code/program.py", PROGRAM.read_bytes())
    process(
        platform,
        "scripted",
        AppSpecification={
            "ImageUri": IMAGE,
            "ContainerEntrypoint": ["python3", "/opt/ml/processing/input/code/program.py"],
            "ContainerArguments": ["--a", "1"],
        },
        ProcessingInputs=[source("code", "s3://shop/code/program.py", "/opt/ml/processing/input/code")],
    )
    process(platform, "argued", AppSpecification={"ImageUri": IMAGE, "ContainerArguments": ["--x"]})
    for name, arguments in (("scripted", ["--a", "1"]), ("argued", ["--x"])):
        assert ended(platform, name)["ProcessingJobStatus"] == "Completed"
        seen = json.loads(platform.get(f"s3://shop/{name}/deep/seen-algo-1.json"))
        assert seen["argv"] == arguments


@pytest.mark.spec("C §12 C-42")
def test_hosts_share_a_sharded_input_and_one_failure_fails_all(platform: Platform, data: str) -> None:
    """Each object is on one host; the outputs of all come under one prefix."""
    two = {"ClusterConfig": {"InstanceCount": 2, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1}}
    sharded = [source("rows", f"{data}/part-", S3DataDistributionType="ShardedByS3Key")]
    process(platform, "two", ProcessingResources=two, ProcessingInputs=sharded)
    assert ended(platform, "two")["ProcessingJobStatus"] == "Completed"
    first, second = (
        json.loads(platform.get(f"s3://shop/two/deep/seen-algo-{number}.json"))["files"] for number in (1, 2)
    )
    assert (len(first), len(second), len({**first, **second})) == (3, 2, 5)
    process(platform, "half", ProcessingResources=two, Environment={"DO": "wait", "DO_algo_2": "fail"})
    found = ended(platform, "half")
    assert found["ProcessingJobStatus"] == "Failed"
    assert found["FailureReason"].endswith("exit code: 4")


def test_a_failing_container_fails_the_job(platform: Platform) -> None:
    """Reason with exit code and last lines, exit message and what was written are all there."""
    process(platform, "failing", Environment={"DO": "fail"})
    found = ended(platform, "failing")
    assert (found["ProcessingJobStatus"], found["ExitMessage"]) == ("Failed", "asked to fail")
    assert found["FailureReason"] == (
        "AlgorithmError: See job logs for more information; the last lines are: processing on algo-1 do fail | "
        "boom on stderr, exit code: 4"
    )
    assert platform.get("s3://shop/failing/partial.txt") == b"what there was"
    [summary] = platform.client("sagemaker").list_processing_jobs(NameContains="failing")["ProcessingJobSummaries"]
    assert (summary["ProcessingJobStatus"], summary["ExitMessage"]) == ("Failed", "asked to fail")
    assert summary["FailureReason"] == found["FailureReason"]


@pytest.mark.spec("C §12 C-40")
def test_the_exit_message_is_told_on_success_too(platform: Platform) -> None:
    """Its first KB."""
    process(platform, "wordy", Environment={"DO": "message", "MESSAGE": "xyz", "TIMES": "1000"})
    found = ended(platform, "wordy")
    assert (found["ProcessingJobStatus"], found["ExitMessage"]) == ("Completed", ("xyz" * 1000)[:1024])


@pytest.mark.spec("C §12 C-43")
def test_links_are_not_followed(platform: Platform) -> None:
    """Neither those that lead out nor those that stay."""
    process(platform, "linked", Environment={"DO": "links"})
    assert ended(platform, "linked")["ProcessingJobStatus"] == "Completed"
    assert platform.keys("s3://shop/linked/") == ["linked/plain.txt"]


@pytest.mark.spec("C §12 C-39")
def test_a_continuous_output_is_stored_while_the_job_runs(platform: Platform, tmp_path: Path) -> None:
    """The first file is there before the job ends, the last at its end."""
    gate = tmp_path / "gate"
    outputs = [result("s3://shop/steady", mode="Continuous")]
    process(platform, "steady", Outputs=outputs, Environment={"DO": "continuous", "WAIT_FOR": str(gate)})
    wait_until("the first file", lambda: platform.keys("s3://shop/steady/") == ["steady/early.txt"])
    gate.touch()
    assert ended(platform, "steady")["ProcessingJobStatus"] == "Completed"
    assert platform.keys("s3://shop/steady/") == ["steady/early.txt", "steady/late.txt"]


def test_a_piped_input_is_a_fifo_for_each_reading(platform: Platform, data: str) -> None:
    """Beside where the folder would be, numbered as training's."""
    piped = [source("rows", f"{data}/part-", "/opt/ml/processing/in/rows", S3InputMode="Pipe")]
    process(platform, "piped", ProcessingInputs=piped, Environment={"DO": "pipe"})
    assert ended(platform, "piped")["ProcessingJobStatus"] == "Completed"
    assert json.loads(platform.get("s3://shop/piped/seen.json")) == [60, 60]


def test_a_stop_lets_the_container_save_its_outputs(platform: Platform) -> None:
    """SIGTERM reaches the program; what it saves is stored, its message told, its exit code no failure."""
    process(platform, "stopped", Environment={"DO": "wait"})
    wait_until("the program", lambda: "waiting" in log_so_far(platform, "stopped"))
    sagemaker = platform.client("sagemaker")
    sagemaker.stop_processing_job(ProcessingJobName="stopped")
    found = ended(platform, "stopped")
    assert (found["ProcessingJobStatus"], found["ExitMessage"]) == ("Stopped", "stopped in time")
    assert platform.get("s3://shop/stopped/stopped.txt") == b"saved on SIGTERM"
    with pytest.raises(ClientError, match=r"ValidationException.*in status Stopped"):
        sagemaker.stop_processing_job(ProcessingJobName="stopped")


def test_the_time_limit_stops_the_job(platform: Platform) -> None:
    """Its log says so."""
    process(platform, "limited", Environment={"DO": "wait"}, StoppingCondition={"MaxRuntimeInSeconds": 1})
    assert ended(platform, "limited")["ProcessingJobStatus"] == "Stopped"
    assert "stopped: MaxRuntimeInSeconds of 1 is over" in log_so_far(platform, "limited")


def test_a_killed_agent_is_followed_by_another_in_a_clean_folder(own_platform: Platform) -> None:
    """Nothing of the first attempt goes on, nothing it wrote is taken for the second's."""
    process(own_platform, "again", Environment={"DO": "wait"})
    wait_until("the program", lambda: log_so_far(own_platform, "again").count("waiting") == 1)
    [container] = own_platform.processes("brought_program.py")
    [agent] = own_platform.agents()
    os.kill(agent, signal.SIGKILL)
    wait_until("the container's end", lambda: container not in own_platform.processes("brought_program.py"))
    wait_until("another attempt", lambda: log_so_far(own_platform, "again").count("waiting") == 2)
    own_platform.client("sagemaker").stop_processing_job(ProcessingJobName="again")
    assert ended(own_platform, "again")["ProcessingJobStatus"] == "Stopped"
    names = own_platform.keys("s3://shop/again/")
    assert len([name for name in names if "attempt-" in name]) == 1
    assert "again/stopped.txt" in names


def cluster(**members: Any) -> dict[str, Any]:
    return {"ClusterConfig": {"VolumeSizeInGB": 1, **members}}


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"ProcessingInputs": [source("a", "s3://shop/none/")]}, "No S3 objects found under S3 URL"),
        ({"ProcessingInputs": [source("a", "s3://shop/in/", "/opt/ml/input")]}, "below /opt/ml/processing/"),
        ({"ProcessingInputs": [source("a", "s3://shop/in/", "/opt/ml/processing/../x")]}, "below /opt/ml/processing/"),
        ({"ProcessingInputs": [source("a", "s3://shop/in/", "/opt/ml/processing/" + 200 * "ü")]}, "over 255 bytes"),
        ({"ProcessingInputs": [source("a", "s3://shop/in/")] * 2}, "each InputName must be unique, got 'a' 2 times"),
        ({"ProcessingInputs": [source("a", "s3://shop/in/", S3CompressionType="Gzip")]}, "Pipe only, got File"),
        ({"ProcessingInputs": [{"InputName": "a"}]}, "needs S3Input"),
        (
            {
                "ProcessingInputs": [
                    {"InputName": "a", "DatasetDefinition": {"LocalPath": "/opt/ml/processing/a", "InputMode": "File"}}
                ]
            },
            "datasetDefinition is not supported",
        ),
        ({"Outputs": [result("s3://no-such-bucket-here/x")]}, "does not exist"),
        ({"Outputs": [result("s3://shop/x", "/tmp/out")]}, "below /opt/ml/processing/, got '/tmp/out'"),
        ({"Outputs": [result("s3://shop/x"), result("s3://shop/y")]}, "each OutputName must be unique"),
        (
            {"Outputs": [{"OutputName": "f", "FeatureStoreOutput": {"FeatureGroupName": "g"}}]},
            "featureStoreOutput is not supported",
        ),
        ({"AppSpecification": {"ImageUri": "nobody/knows:1"}}, "no image"),
        ({"ProcessingResources": cluster()}, "needs InstanceType and InstanceCount"),
        ({"StoppingCondition": {"MaxRuntimeInSeconds": 777_601}}, "777600"),
    ],
)
@pytest.mark.spec("C §12 C-38")
def test_a_bad_request_is_refused(platform: Platform, members: dict[str, Any], text: str) -> None:
    """Faults that can be told at once are told at once."""
    with pytest.raises(ClientError) as raised:
        process(platform, "bad", **members)
    assert raised.value.response["Error"]["Code"] == "ValidationException"
    assert text.lower() in str(raised.value).lower()


def test_unknown_and_taken_names(platform: Platform) -> None:
    """The codes and texts are the service's."""
    sagemaker = platform.client("sagemaker")
    for call in (sagemaker.describe_processing_job, sagemaker.stop_processing_job, sagemaker.delete_processing_job):
        with pytest.raises(ClientError, match=r"ResourceNotFound.*Could not find requested job with name: nobody"):
            call(ProcessingJobName="nobody")
    process(platform, "taken", Environment={"DO": "wait"})
    with pytest.raises(ClientError, match=r"ResourceInUse.*Processing job names must be unique.*already exists"):
        process(platform, "taken")
    with pytest.raises(ClientError, match=r"ResourceInUse.*stop it before deleting it"):
        sagemaker.delete_processing_job(ProcessingJobName="taken")
    sagemaker.stop_processing_job(ProcessingJobName="taken")
    ended(platform, "taken")
    sagemaker.delete_processing_job(ProcessingJobName="taken")
    process(platform, "taken")
    assert ended(platform, "taken")["ProcessingJobStatus"] == "Completed"


def test_jobs_are_listed(platform: Platform) -> None:
    """Pages, order, filters."""
    for number in range(3):
        process(platform, f"listed-{number}")
        ended(platform, f"listed-{number}")
    sagemaker = platform.client("sagemaker")
    pages = sagemaker.get_paginator("list_processing_jobs").paginate(
        NameContains="listed-", StatusEquals="Completed", SortBy="Name", SortOrder="Ascending", MaxResults=2
    )
    names = [[it["ProcessingJobName"] for it in page["ProcessingJobSummaries"]] for page in pages]
    assert names == [["listed-0", "listed-1"], ["listed-2"]]
    ended_ones = sagemaker.list_processing_jobs(NameContains="listed-")["ProcessingJobSummaries"]
    assert all(it["CreationTime"] <= it["ProcessingEndTime"] <= it["LastModifiedTime"] for it in ended_ones)
    newest = sagemaker.list_processing_jobs(MaxResults=1)["ProcessingJobSummaries"]
    assert [it["ProcessingJobName"] for it in newest] == ["listed-2"]
    assert sagemaker.list_processing_jobs(NameContains="listed-", StatusEquals="Failed")["ProcessingJobSummaries"] == []


def test_a_waiter_ends_with_the_job(platform: Platform) -> None:
    """Its Describe is held for the end, so that it does not sleep its 60 seconds."""
    process(platform, "awaited")
    waiter = platform.client("sagemaker").get_waiter("processing_job_completed_or_stopped")
    waiter.wait(ProcessingJobName="awaited", WaiterConfig={"MaxAttempts": 1})
