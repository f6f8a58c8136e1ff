"""The files of /opt/ml/input/config are those that images read."""

import json
from typing import Any

import pytest

from millrace.agents.training_config import config_files, training_environment
from millrace.jobs.channel import Channel, Distribution, InputMode
from millrace.jobs.hosts import InstanceGroup
from millrace.jobs.training import CheckpointConfig, TrainingSpec
from millrace.names import ObjectPrefix, sagemaker_arn

GROUPS = (
    InstanceGroup(name="big", instance_type="ml.p3.2xlarge", count=1),
    InstanceGroup(name="small", instance_type="ml.m5.large", count=1),
)


def spec(**members: Any) -> TrainingSpec:
    return TrainingSpec(image="i:1", output=ObjectPrefix("shop", "out"), groups=GROUPS, **members)


def files(host: str = "algo-1", **members: Any) -> dict[str, Any]:
    return {name: json.loads(text) for name, text in config_files(spec(**members), host).items()}


@pytest.mark.spec("C §12 C-04")
def test_hyperparameters_are_told_as_they_came() -> None:
    """Those that an SDK has made JSON of are not unpacked; without any there is an empty file."""
    sent = {"a": "1", "opt": '"adam"'}
    assert files(hyperparameters=sent)["hyperparameters.json"] == sent
    assert files()["hyperparameters.json"] == {}


@pytest.mark.spec("C §12 C-07")
@pytest.mark.spec("C §12 C-08")
def test_a_channel_is_told_with_mode_distribution_and_wrapper() -> None:
    """Content type and compression where they say something, addresses never."""
    plain = Channel(name="train", source=ObjectPrefix("shop", "in/"))
    piped = Channel(
        name="more",
        source=ObjectPrefix("shop", "in/"),
        mode=InputMode.PIPE,
        gzip=True,
        content_type="text/csv",
        distribution=Distribution.SHARDED,
    )
    assert files(channels=(plain, piped))["inputdataconfig.json"] == {
        "train": {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"},
        "more": {
            "TrainingInputMode": "Pipe",
            "S3DistributionType": "ShardedByS3Key",
            "RecordWrapperType": "None",
            "ContentType": "text/csv",
            "CompressionType": "Gzip",
        },
    }


def test_a_channel_of_one_group_is_told_to_its_hosts_only() -> None:
    """The others have no such channel."""
    channel = Channel(name="train", source=ObjectPrefix("shop", "in/"), groups=("small",))
    assert list(files("algo-1", channels=(channel,))["inputdataconfig.json"]) == []
    assert list(files("algo-2", channels=(channel,))["inputdataconfig.json"]) == ["train"]


def test_files_that_only_some_jobs_have() -> None:
    """Checkpoints and debugger hooks are told where they were asked for."""
    assert set(files()) == {"hyperparameters.json", "inputdataconfig.json", "resourceconfig.json"}
    found = files(
        checkpoints=CheckpointConfig(target=ObjectPrefix("shop", "c")), debug_hook={"S3OutputPath": "s3://shop/debug"}
    )
    assert found["checkpointconfig.json"] == {"LocalPath": "/opt/ml/checkpoints"}
    assert found["debughookconfig.json"] == {"S3OutputPath": "s3://shop/debug"}


@pytest.mark.spec("C §12 C-11")
def test_variables_of_the_user_win_over_all_but_name_and_arn() -> None:
    """The region is the job's."""
    arn = sagemaker_arn("training-job", "t", region="eu-west-1")
    asked = {"AWS_REGION": "mine", "TRAINING_JOB_NAME": "other", "MINE": "x"}
    found = training_environment(
        spec(environment=asked),
        arn,
        "algo-2",
        endpoint_url="http://127.0.0.1:1",
        credentials={"AWS_ACCESS_KEY_ID": "k"},
    )
    assert found == {
        "AWS_REGION": "mine",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "CURRENT_HOST": "algo-2",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "S3_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ACCESS_KEY_ID": "k",
        "SAGEMAKER_METRICS_DIRECTORY": "/opt/ml/output/metrics/sagemaker",
        "MINE": "x",
        "TRAINING_JOB_NAME": "t",
        "TRAINING_JOB_ARN": str(arn),
    }
