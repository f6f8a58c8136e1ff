"""Training jobs through boto3, on a real server with real containers."""

import gzip
import io
import json
import os
import signal
from typing import Any

import pytest
from botocore.exceptions import ClientError
from sklearn.datasets import load_iris

from tests.integration.platform import Platform, wait_until

GROUP = "/aws/sagemaker/TrainingJobs"


def channel(name: str, uri: str, **members: Any) -> dict[str, Any]:
    """Return a channel over a prefix unless told otherwise."""
    source = {"S3DataType": "S3Prefix", "S3Uri": uri, **members.pop("source", {})}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}, **members}


@pytest.fixture(scope="module")
def data(platform: Platform) -> str:
    """Six parts and a deeper object under a prefix, a manifest of two of them."""
    for number in range(6):
        platform.put(f"s3://shop/train/part-{number}.csv", b"1,2\n" * (number + 1))
    platform.put("s3://shop/train/deep/x.csv", b"9,9\n")
    manifest = [{"prefix": "s3://shop/train/"}, "part-1.csv", "deep/x.csv"]
    platform.put("s3://shop/manifest.json", json.dumps(manifest).encode())
    return "s3://shop/train"


def test_a_container_finds_what_the_contract_promises(platform: Platform, data: str) -> None:
    """Channels, configuration, environment, metrics, artifacts, checkpoints and log, all in one job."""
    platform.put("s3://shop/ckpt/earlier.txt", b"resume")
    platform.train(
        "look",
        InputDataConfig=[
            channel("train", data, ContentType="text/csv"),
            channel("one", f"{data}/part-0.csv"),
            channel("listed", "s3://shop/manifest.json", source={"S3DataType": "ManifestFile"}),
        ],
        HyperParameters={"alpha": "0.5", "flag": "True"},
        Environment={"MY_SETTING": "blue"},
        CheckpointConfig={"S3Uri": "s3://shop/ckpt"},
        AlgorithmSpecification={
            "TrainingImage": "brought:latest",
            "TrainingInputMode": "File",
            "MetricDefinitions": [{"Name": "loss", "Regex": "loss=([0-9.]+)"}],
        },
    )
    found = platform.ended_training("look")
    assert (found["TrainingJobStatus"], found["SecondaryStatus"]) == ("Completed", "Completed")
    assert found["ModelArtifacts"]["S3ModelArtifacts"] == "s3://shop/out/look/output/model.tar.gz"
    assert found["OutputDataConfig"]["KmsKeyId"] == ""
    stages = [it["Status"] for it in found["SecondaryStatusTransitions"]]
    assert stages == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    assert all(it["StatusMessage"] and it["EndTime"] >= it["StartTime"] for it in found["SecondaryStatusTransitions"])
    assert [(it["MetricName"], round(it["Value"], 4)) for it in found["FinalMetricDataList"]] == [("loss", 0.3333)]
    seen = json.loads(platform.untar("s3://shop/out/look/output/model.tar.gz")["seen-algo-1.json"])
    assert seen["argv"] == ["train"]
    assert seen["hyperparameters"] == {"alpha": "0.5", "flag": "True"}
    assert seen["files"] == {
        **{f"train/part-{number}.csv": 4 * (number + 1) for number in range(6)},
        "train/deep/x.csv": 4,
        "one/part-0.csv": 4,
        "listed/part-1.csv": 8,
        "listed/deep/x.csv": 4,
    }
    assert seen["inputdata"]["train"] == {
        "TrainingInputMode": "File",
        "S3DistributionType": "FullyReplicated",
        "RecordWrapperType": "None",
        "ContentType": "text/csv",
    }
    assert seen["resource"]["current_host"] == "algo-1"
    assert seen["resource"]["instance_groups"][0]["hosts"] == ["algo-1"]
    assert seen["environment"] == {"TRAINING_JOB_NAME": "look", "MY_SETTING": "blue", "AWS_REGION": "us-east-1"}
    assert seen["checkpoints"] == ["earlier.txt"]
    assert platform.get("s3://shop/ckpt/step-algo-1.txt") == b"checkpoint"
    assert platform.untar("s3://shop/out/look/output/output.tar.gz") == {"report-algo-1.txt": b"report"}
    lines = platform.log(GROUP, "look/")
    assert [line for line in lines if line.startswith("epoch=")] == [
        f"epoch={epoch} loss={1 / (epoch + 1):.4f}" for epoch in range(3)
    ]


def test_two_hosts_share_a_sharded_channel(platform: Platform, data: str) -> None:
    """Each object is on exactly one host; the hosts' models become one archive."""
    platform.train(
        "two-hosts",
        InputDataConfig=[channel("train", f"{data}/part-", source={"S3DataDistributionType": "ShardedByS3Key"})],
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 1},
    )
    assert platform.ended_training("two-hosts")["TrainingJobStatus"] == "Completed"
    files = platform.untar("s3://shop/out/two-hosts/output/model.tar.gz")
    first, second = (json.loads(files[f"seen-algo-{number}.json"]) for number in (1, 2))
    assert first["resource"]["hosts"] == second["resource"]["hosts"] == ["algo-1", "algo-2"]
    assert len(first["files"]) == len(second["files"]) == 3
    assert not set(first["files"]) & set(second["files"])


def test_a_channel_may_be_for_one_instance_group(platform: Platform, data: str) -> None:
    """Its hosts share it, the others do not know of it; each is told its group."""
    small, big = (
        {"InstanceGroupName": name, "InstanceType": kind, "InstanceCount": 1}
        for name, kind in (("small", "ml.m5.large"), ("big", "ml.p3.2xlarge"))
    )
    platform.train(
        "groups",
        InputDataConfig=[
            channel("train", data),
            channel("big-only", f"{data}/part-", source={"InstanceGroupNames": ["big"]}),
        ],
        ResourceConfig={"InstanceGroups": [small, big], "VolumeSizeInGB": 1},
    )
    assert platform.ended_training("groups")["TrainingJobStatus"] == "Completed"
    files = platform.untar("s3://shop/out/groups/output/model.tar.gz")
    first, second = (json.loads(files[f"seen-algo-{number}.json"]) for number in (1, 2))
    assert [list(seen["inputdata"]) for seen in (first, second)] == [["train"], ["train", "big-only"]]
    assert [seen["resource"]["current_group_name"] for seen in (first, second)] == ["small", "big"]
    assert [seen["resource"]["current_instance_type"] for seen in (first, second)] == ["ml.m5.large", "ml.p3.2xlarge"]
    assert [len(seen["files"]) for seen in (first, second)] == [7, 13]


def test_pipe_mode_gives_a_fifo_for_each_epoch(platform: Platform, data: str) -> None:
    """All bytes of the channel, once an epoch."""
    platform.train(
        "pipe", InputDataConfig=[channel("train", f"{data}/part-", InputMode="Pipe")], HyperParameters={"do": "pipe"}
    )
    assert platform.ended_training("pipe")["TrainingJobStatus"] == "Completed"
    sizes = json.loads(platform.untar("s3://shop/out/pipe/output/model.tar.gz")["seen.json"])
    assert sizes == [4 * 21, 4 * 21]


def test_a_damaged_gzip_fails_a_piped_job(platform: Platform) -> None:
    """The program is not left to learn from half of its data."""
    platform.put("s3://shop/damaged/a.gz", gzip.compress(os.urandom(100_000))[:-1000])
    platform.train(
        "damaged",
        InputDataConfig=[channel("train", "s3://shop/damaged/", InputMode="Pipe", CompressionType="Gzip")],
        HyperParameters={"do": "pipe"},
    )
    found = platform.ended_training("damaged")
    assert found["TrainingJobStatus"] == "Failed"
    assert found["FailureReason"].startswith("ClientError: s3://shop/damaged/a.gz: Failed to decompress gzip")


def test_uncompressed_output_is_a_prefix(platform: Platform, data: str) -> None:
    """With CompressionType NONE the model's files are objects."""
    output = {"S3OutputPath": "s3://shop/plain/", "CompressionType": "NONE"}
    platform.train("plain", InputDataConfig=[channel("train", data)], OutputDataConfig=output)
    found = platform.ended_training("plain")
    assert found["ModelArtifacts"]["S3ModelArtifacts"] == "s3://shop/plain/plain/output/model/"
    assert platform.keys("s3://shop/plain/plain/output/model/") == ["plain/plain/output/model/seen-algo-1.json"]


@pytest.mark.parametrize(
    ("do", "reason"),
    [
        ("fail", "AlgorithmError: the data smells, exit code: 3"),
        ("crash", "AlgorithmError: boom on stderr, exit code: 7"),
    ],
)
def test_a_failing_container_fails_the_job(platform: Platform, data: str, do: str, reason: str) -> None:
    """The failure file, or the last line said, and the exit code are the reason; no model is promised."""
    platform.train(f"do-{do}", InputDataConfig=[channel("train", data)], HyperParameters={"do": do})
    found = platform.ended_training(f"do-{do}")
    assert (found["TrainingJobStatus"], found["FailureReason"]) == ("Failed", reason)
    assert "ModelArtifacts" not in found


def test_a_long_failure_text_keeps_its_exit_code(platform: Platform, data: str) -> None:
    """The reason has 1,024 characters, and the code is among them."""
    platform.train("do-ramble", InputDataConfig=[channel("train", data)], HyperParameters={"do": "ramble"})
    reason = platform.ended_training("do-ramble")["FailureReason"]
    assert len(reason) == 1024
    assert reason.startswith("AlgorithmError: xxx")
    assert reason.endswith("xxx, exit code: 3")


def test_a_stop_lets_the_container_save_its_model(platform: Platform, data: str) -> None:
    """SIGTERM reaches the program, what it saves is uploaded."""
    platform.train("stopped", InputDataConfig=[channel("train", data)], HyperParameters={"do": "wait"})
    wait_until("the program", lambda: "waiting" in _log_so_far(platform, "stopped/"))
    sagemaker = platform.client("sagemaker")
    sagemaker.stop_training_job(TrainingJobName="stopped")
    found = platform.ended_training("stopped")
    assert (found["TrainingJobStatus"], found["SecondaryStatus"]) == ("Stopped", "Stopped")
    assert "stopped.txt" in platform.untar(found["ModelArtifacts"]["S3ModelArtifacts"])
    with pytest.raises(ClientError, match="in status Stopped"):
        sagemaker.stop_training_job(TrainingJobName="stopped")


def test_the_time_limit_stops_the_job(platform: Platform, data: str) -> None:
    """MaxRuntimeInSeconds ends the job as MaxRuntimeExceeded, with its artifacts."""
    platform.train(
        "limited",
        InputDataConfig=[channel("train", data)],
        HyperParameters={"do": "wait"},
        StoppingCondition={"MaxRuntimeInSeconds": 1},
    )
    found = platform.ended_training("limited")
    assert (found["TrainingJobStatus"], found["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")
    assert "ModelArtifacts" in found


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"InputDataConfig": [channel("train", "s3://shop/none/")]}, "No S3 objects found under S3 URL"),
        ({"AlgorithmSpecification": {"TrainingImage": "nobody/knows:1", "TrainingInputMode": "File"}}, "no image"),
        ({"OutputDataConfig": {"S3OutputPath": "s3://no-such-bucket-here/x"}}, "does not exist"),
        ({"OutputDataConfig": {"S3OutputPath": "shop/x"}}, "regular expression"),
        ({"InputDataConfig": [channel("a", "s3://shop/in/"), channel("a", "s3://shop/in/")]}, "unique"),
        ({"InputDataConfig": [channel("a", "s3://shop/in/", CompressionType="Gzip")]}, "Pipe"),
        (
            {
                "AlgorithmSpecification": {
                    "TrainingImage": "brought:latest",
                    "TrainingInputMode": "File",
                    "MetricDefinitions": [{"Name": "m", "Regex": "("}],
                }
            },
            "not a regular expression",
        ),
        (
            {"InputDataConfig": [channel("a", "s3://shop/in/", source={"InstanceGroupNames": ["none"]})]},
            "must be of ResourceConfig.InstanceGroups (homogeneousCluster), got 'none'",
        ),
        ({"HyperParameters": {"k": "v" * 2501}}, "2500"),
        ({"StoppingCondition": {"MaxRuntimeInSeconds": 10**9}}, "StoppingCondition"),
    ],
)
def test_a_bad_request_is_refused(platform: Platform, members: dict[str, Any], text: str) -> None:
    """Faults that can be told at once are told at once."""
    with pytest.raises(ClientError) as raised:
        platform.train("bad", **members)
    assert raised.value.response["Error"]["Code"] == "ValidationException"
    assert text.lower() in str(raised.value).lower()


def test_unknown_and_taken_names(platform: Platform, data: str) -> None:
    """The texts are those that the SDK matches."""
    with pytest.raises(ClientError, match=r"ValidationException.*Requested resource not found\."):
        platform.client("sagemaker").describe_training_job(TrainingJobName="nobody")
    platform.train("taken", InputDataConfig=[channel("train", data)])
    with pytest.raises(ClientError, match=r"ResourceInUse.*already exists"):
        platform.train("taken", InputDataConfig=[channel("train", data)])
    platform.ended_training("taken")


def test_jobs_are_listed(platform: Platform, data: str) -> None:
    """Summaries carry the times; filters by status and name combine."""
    platform.train("listed-one", InputDataConfig=[channel("train", data)])
    platform.ended_training("listed-one")
    sagemaker = platform.client("sagemaker")
    found = sagemaker.list_training_jobs(NameContains="listed-one", StatusEquals="Completed")["TrainingJobSummaries"]
    assert [it["TrainingJobName"] for it in found] == ["listed-one"]
    assert found[0]["TrainingEndTime"] >= found[0]["CreationTime"]
    assert sagemaker.list_training_jobs(NameContains="listed-one", StatusEquals="Failed")["TrainingJobSummaries"] == []


def test_built_in_knn_reports_its_metrics(platform: Platform) -> None:
    """Metric definitions come with the image; the final values are in the description."""
    samples, labels = load_iris(return_X_y=True)
    text = io.StringIO()
    for label, row in zip(labels, samples, strict=True):
        text.write(",".join(str(value) for value in (label, *row)) + "\n")
    for name in ("train", "test"):
        platform.put(f"s3://shop/iris/{name}/iris.csv", text.getvalue().encode())
    image = "382416733822.dkr.ecr.us-east-1.amazonaws.com/knn:1"
    platform.train(
        "iris",
        image,
        InputDataConfig=[
            channel(name, f"s3://shop/iris/{name}", ContentType="text/csv", InputMode="Pipe")
            for name in ("train", "test")
        ],
        HyperParameters={"k": "1", "sample_size": "150", "predictor_type": "classifier", "feature_dim": "4"},
    )
    found = platform.ended_training("iris")
    assert found["TrainingJobStatus"] == "Completed", found.get("FailureReason")
    metrics = {it["MetricName"]: it["Value"] for it in found["FinalMetricDataList"]}
    assert metrics["test:accuracy"] == 1.0
    assert found["AlgorithmSpecification"]["MetricDefinitions"]
    assert any("#test_score (algo-1) : ('accuracy', 1.0)" in line for line in platform.log(GROUP, "iris/"))


def test_a_bad_hyperparameter_of_a_built_in_is_a_client_error(platform: Platform) -> None:
    """The text is the service's, the exit code says that it is the user's fault."""
    platform.put("s3://shop/knn-bad/a.csv", b"0,1,2\n")
    platform.train(
        "knn-bad",
        "knn:1",
        InputDataConfig=[channel("train", "s3://shop/knn-bad/", ContentType="text/csv")],
        HyperParameters={"k": "1", "sample_size": "1", "predictor_type": "classifier", "feature_dims": "2"},
    )
    reason = platform.ended_training("knn-bad")["FailureReason"]
    assert reason.startswith("ClientError: Additional properties are not allowed ('feature_dims' was unexpected)")
    assert reason.endswith("exit code: 2")


def _log_so_far(platform: Platform, prefix: str) -> list[str]:
    try:
        return platform.log(GROUP, prefix)
    except ClientError:  # the group or stream is not there yet
        return []


def test_a_job_is_updated_while_it_runs_and_deleted_after_its_end(platform: Platform, data: str) -> None:
    """Update is echoed; Delete wants the end first, and frees the name."""
    sagemaker = platform.client("sagemaker")
    platform.train("amended", InputDataConfig=[channel("train", data)], HyperParameters={"do": "wait"})
    sagemaker.update_training_job(
        TrainingJobName="amended",
        ResourceConfig={"KeepAlivePeriodInSeconds": 60},
        ProfilerConfig={"DisableProfiler": True},
    )
    found = sagemaker.describe_training_job(TrainingJobName="amended")
    assert found["ResourceConfig"]["KeepAlivePeriodInSeconds"] == 60
    assert found["ResourceConfig"]["InstanceType"] == "ml.m5.large"
    assert found["ProfilerConfig"]["DisableProfiler"] is True
    with pytest.raises(ClientError, match="ResourceInUse"):
        sagemaker.delete_training_job(TrainingJobName="amended")
    sagemaker.stop_training_job(TrainingJobName="amended")
    platform.ended_training("amended")
    sagemaker.delete_training_job(TrainingJobName="amended")
    with pytest.raises(ClientError, match="Requested resource not found"):
        sagemaker.describe_training_job(TrainingJobName="amended")
    platform.train("amended", InputDataConfig=[channel("train", data)])
    assert platform.ended_training("amended")["TrainingJobStatus"] == "Completed"


def test_a_killed_agent_takes_its_container_along(own_platform: Platform) -> None:
    """Another attempt starts the training anew; nothing of the first goes on beside it."""
    own_platform.train("again", InputDataConfig=[channel("train", "s3://shop/in/")], HyperParameters={"do": "wait"})
    wait_until("the program", lambda: _count(own_platform, "again/", "waiting") == 1)
    [container] = own_platform.processes("brought_program.py")
    [agent] = own_platform.agents()
    os.kill(agent, signal.SIGKILL)
    wait_until("the container's end", lambda: container not in own_platform.processes("brought_program.py"))
    wait_until("another attempt", lambda: _count(own_platform, "again/", "waiting") == 2)
    own_platform.client("sagemaker").stop_training_job(TrainingJobName="again")
    found = own_platform.ended_training("again")
    assert found["TrainingJobStatus"] == "Stopped"
    assert "Restarting" in [it["Status"] for it in found["SecondaryStatusTransitions"]]
    assert "stopped.txt" in own_platform.untar(found["ModelArtifacts"]["S3ModelArtifacts"])


def _count(platform: Platform, prefix: str, line: str) -> int:
    return _log_so_far(platform, prefix).count(line)
