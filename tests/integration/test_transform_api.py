"""The test vectors of CreateTransformJob and its neighbours that are accepted, on a server where no job can start."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, ParamValidationError, WaiterError

from tests.integration.platform import Platform, wait_until

RESOURCES = {"InstanceType": "ml.m5.large", "InstanceCount": 1}
SOURCE = {"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://shop/in/"}}}
OUTPUT = {"S3OutputPath": "s3://shop/out"}
ONCE = {"Delay": 1, "MaxAttempts": 30}


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A server that runs one job at a time, whose model never answers: all others wait."""
    folder: Path = tmp_path_factory.mktemp("busy")
    running = Platform(folder, max_jobs=1, serve_stop_grace_seconds=1.0).start()
    running.put("s3://shop/in/a.csv", b"1,2\n")
    running.model("m", MODE="rowsum", WAIT_FOR=str(folder / "never"))
    running.transform("blocker", "m", "s3://shop/in/")
    sagemaker = running.client("sagemaker")
    wait_until("start", lambda: "TransformStartTime" in sagemaker.describe_transform_job(TransformJobName="blocker"))
    yield running
    assert running.stop() == 0
    for process in (*running.agents(), *running.processes("brought_program")):
        running.kill_process(process)  # they would go on for a next server


def create(busy: Platform, name: str, **members: Any) -> dict[str, Any]:
    """Create a job of the smallest request, and describe it."""
    request = {"ModelName": "m", "TransformInput": SOURCE, "TransformOutput": OUTPUT, "TransformResources": RESOURCES}
    sagemaker = busy.client("sagemaker")
    made = sagemaker.create_transform_job(TransformJobName=name, **{**request, **members})
    assert made["TransformJobArn"] == f"arn:aws:sagemaker:us-east-1:000000000000:transform-job/{name}"
    described: dict[str, Any] = sagemaker.describe_transform_job(TransformJobName=name)
    return described


@pytest.mark.spec("B §9.1 A01")
@pytest.mark.spec("B §9.1 A02")
def test_the_smallest_request_is_described_with_defaults(busy: Platform) -> None:
    """A job is InProgress at once, without times; Describe has the documented defaults, and nothing else unsaid."""
    found = create(busy, "smallest")
    assert found.pop("ResponseMetadata")["HTTPStatusCode"] == 200
    assert found.pop("CreationTime") is not None
    assert found == {
        "TransformJobName": "smallest",
        "TransformJobArn": "arn:aws:sagemaker:us-east-1:000000000000:transform-job/smallest",
        "TransformJobStatus": "InProgress",
        "ModelName": "m",
        "TransformInput": {**SOURCE, "CompressionType": "None", "SplitType": "None"},
        "TransformOutput": {**OUTPUT, "AssembleWith": "None", "KmsKeyId": ""},
        "TransformResources": RESOURCES,
        "DataProcessing": {"InputFilter": "$", "OutputFilter": "$", "JoinSource": "None"},
    }


ACCEPTED = [
    ("A05", {}),
    ("A09", {"MaxPayloadInMB": 100}),
    ("A10", {"MaxConcurrentTransforms": 10, "MaxPayloadInMB": 10}),
    ("A10", {"MaxConcurrentTransforms": 100, "MaxPayloadInMB": 1}),
    ("A11", {"MaxConcurrentTransforms": 100, "MaxPayloadInMB": 0}),
    ("A12", {"ModelClientConfig": {"InvocationsTimeoutInSeconds": 3600, "InvocationsMaxRetries": 3}}),
    (
        "A17",
        {
            "TransformInput": {**SOURCE, "ContentType": "text/csv"},
            "DataProcessing": {"InputFilter": f"$[{','.join(['1'] * 30)}]"},
        },
    ),
    (
        "A24",
        {"TransformInput": {**SOURCE, "ContentType": "text/csv"}, "DataProcessing": {"InputFilter": "$[1:]"}},
    ),
    ("A26", {"BatchStrategy": "SingleRecord"}),
]


@pytest.mark.parametrize(
    ("name", "members"),
    [
        pytest.param(f"{name.lower()}--{n}", members, id=f"{name}-{n}", marks=pytest.mark.spec(f"B §9.1 {name}"))
        for n, (name, members) in enumerate(ACCEPTED)
    ],
)
def test_what_the_service_accepts_is_accepted(busy: Platform, name: str, members: dict[str, Any]) -> None:
    """Members at their bounds, odd but allowed combinations, and names with two hyphens."""
    found = create(busy, name, **members)
    assert found["TransformJobStatus"] == "InProgress"
    for member, value in members.items():
        if member != "TransformInput":
            assert {**value, **found[member]} == found[member] if isinstance(value, dict) else found[member] == value


@pytest.mark.spec("B §9.1 A30")
def test_a_list_without_arguments_is_ten_of_the_newest(busy: Platform) -> None:
    """Ten jobs, newest first, and a token for those before."""
    sagemaker = busy.client("sagemaker")
    names = [f"old-{number}" for number in range(12)]
    for name in names:
        create(busy, name)
    first = sagemaker.list_transform_jobs()
    assert [it["TransformJobName"] for it in first["TransformJobSummaries"]] == names[:1:-1]
    second = sagemaker.list_transform_jobs(NextToken=first["NextToken"])
    assert [it["TransformJobName"] for it in second["TransformJobSummaries"]][:2] == ["old-1", "old-0"]


@pytest.mark.spec("B §9.1 A31")
def test_a_page_has_one_to_a_hundred_jobs(busy: Platform) -> None:
    """boto3 refuses 0, the server 101."""
    sagemaker = busy.client("sagemaker")
    with pytest.raises(ParamValidationError):
        sagemaker.list_transform_jobs(MaxResults=0)
    with pytest.raises(ClientError, match=r"ValidationException.*less than or equal to 100"):
        sagemaker.list_transform_jobs(MaxResults=101)


@pytest.mark.spec("B §9.1 A32")
def test_names_contain_a_text(busy: Platform) -> None:
    """NameContains looks anywhere in a name."""
    for name in ("prefix-1", "pre-1"):
        create(busy, name)
    found = busy.client("sagemaker").list_transform_jobs(NameContains="fix")["TransformJobSummaries"]
    assert [it["TransformJobName"] for it in found] == ["prefix-1"]


@pytest.mark.spec("B §9.1 A27")
@pytest.mark.spec("B §9.1 A33")
def test_a_job_that_waits_is_stopped(busy: Platform) -> None:
    """It goes to Stopped without a start, and the waiter takes that for an end."""
    sagemaker = busy.client("sagemaker")
    create(busy, "waits")
    assert sagemaker.stop_transform_job(TransformJobName="waits")["ResponseMetadata"]["HTTPStatusCode"] == 200
    sagemaker.get_waiter("transform_job_completed_or_stopped").wait(TransformJobName="waits", WaiterConfig=ONCE)
    found = sagemaker.describe_transform_job(TransformJobName="waits")
    assert found["TransformJobStatus"] == "Stopped"
    assert "TransformEndTime" in found
    assert not {"TransformStartTime", "FailureReason"} & set(found)


@pytest.mark.spec("B §9.1 A28")
def test_an_ended_job_cannot_be_stopped(platform: Platform) -> None:
    """The error tells the status, Completed or Failed; the waiter fails for the latter."""
    sagemaker = platform.client("sagemaker")
    for status, mode in (("Completed", "echo"), ("Failed", "status")):
        name = f"ended-{status.lower()}"
        platform.transform(name, platform.model(name, MODE=mode, STATUS="400"), "s3://shop/in/a.csv")
        assert platform.ended_transform(name)["TransformJobStatus"] == status
        with pytest.raises(ClientError, match=f"ValidationException.*in status {status}"):
            sagemaker.stop_transform_job(TransformJobName=name)


@pytest.mark.spec("B §9.1 A33")
def test_the_waiter_tells_a_failed_job(platform: Platform) -> None:
    """boto3's waiter ends with an error."""
    platform.transform("w-failed", platform.model("w-failed", MODE="status", STATUS="400"), "s3://shop/in/a.csv")
    waiter = platform.client("sagemaker").get_waiter("transform_job_completed_or_stopped")
    with pytest.raises(WaiterError, match="terminal failure state"):
        waiter.wait(TransformJobName="w-failed", WaiterConfig=ONCE)
