"""Transform jobs through boto3, on a real server with real containers."""

import io
import json
import os
import signal
import tarfile
import threading
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ParamValidationError, WaiterError

from millrace.commands.environment import client_environment
from tests.integration.platform import ROLE, Platform, wait_until

GROUP = "/aws/sagemaker/TransformJobs"


@pytest.fixture(scope="module")
def rowsum(platform: Platform) -> str:
    return platform.model("rowsum", MODE="rowsum")


def refused(platform: Platform, *args: Any, **members: Any) -> ClientError:
    """Return the error of a transform job that is not created."""
    with pytest.raises(ClientError) as raised:
        platform.transform(*args, **members)
    return raised.value


def code(error: ClientError) -> str:
    return str(error.response["Error"]["Code"])


@pytest.mark.spec("B §9.1 A02")
def test_a_transform_job_runs_and_is_described(platform: Platform, rowsum: str) -> None:
    """Every object of the prefix gets its output; Describe tells what was said and the documented defaults."""
    platform.transform("t-runs", rowsum, "s3://shop/in/")
    found = platform.ended_transform("t-runs")
    assert found["TransformJobStatus"] == "Completed"
    assert platform.keys("s3://shop/t-runs/") == ["t-runs/a.csv.out", "t-runs/sub/b.csv.out"]
    assert platform.get("s3://shop/t-runs/a.csv.out") == b"3\n7\n11\n"
    assert found["TransformStartTime"] <= found["TransformEndTime"]
    assert found["DataProcessing"] == {"InputFilter": "$", "OutputFilter": "$", "JoinSource": "None"}
    assert found["TransformOutput"]["KmsKeyId"] == ""
    assert found["TransformInput"]["CompressionType"] == "None"
    absent = {"MaxPayloadInMB", "MaxConcurrentTransforms", "BatchStrategy", "ModelClientConfig", "FailureReason"}
    assert not absent & set(found)


def test_a_join_goes_through_the_whole_platform(platform: Platform, rowsum: str) -> None:
    """Filters and join of the API reach the data plane."""
    processing = {"InputFilter": "$[0]", "JoinSource": "Input", "OutputFilter": "$[0,-1]"}
    platform.transform("t-join", rowsum, "s3://shop/in/a.csv", DataProcessing=processing)
    assert platform.ended_transform("t-join")["TransformJobStatus"] == "Completed"
    assert platform.get("s3://shop/t-join/a.csv.out") == b"1,1\n3,3\n5,5\n"


@pytest.mark.spec("B §9.1 A34")
def test_tags_of_a_job_are_listed(platform: Platform, rowsum: str) -> None:
    """Tags given at creation are read by the job's ARN, and can be changed."""
    platform.transform("t-tags", rowsum, "s3://shop/in/", Tags=[{"Key": "k", "Value": "v"}])
    sagemaker = platform.client("sagemaker")
    arn = platform.ended_transform("t-tags")["TransformJobArn"]
    sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "l", "Value": "w"}])
    sagemaker.delete_tags(ResourceArn=arn, TagKeys=["k"])
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "l", "Value": "w"}]


@pytest.mark.spec("B §9.1 A06")
def test_a_name_is_used_once(platform: Platform, rowsum: str) -> None:
    """A second job of the same name is refused, also after the first one's end."""
    platform.transform("t-once", rowsum, "s3://shop/in/")
    platform.ended_transform("t-once")
    error = refused(platform, "t-once", rowsum, "s3://shop/in/")
    assert code(error) == "ResourceInUse"
    assert "already exists (arn:aws:sagemaker:us-east-1:000000000000:transform-job/t-once)" in str(error)


@pytest.mark.spec("B §9.1 A07")
def test_an_unknown_model_is_refused(platform: Platform) -> None:
    """The error names the model's ARN, as clients expect it."""
    error = refused(platform, "t-unknown", "x", "s3://shop/in/")
    assert code(error) == "ValidationException"
    expected = 'Could not find model "arn:aws:sagemaker:us-east-1:000000000000:model/x".'
    assert error.response["Error"]["Message"] == expected


@pytest.mark.spec("B §9.1 A08")
@pytest.mark.parametrize("source", ["s3://shop/none/", "s3://no-such-bucket-here/x"])
def test_an_empty_prefix_is_refused(platform: Platform, rowsum: str, source: str) -> None:
    """Nothing to transform is an error at once, and no job is listed."""
    error = refused(platform, "t-empty", rowsum, source)
    assert error.response["Error"]["Message"].startswith(f'No S3 objects found under S3 URL "{source}"')
    listed = platform.client("sagemaker").list_transform_jobs(NameContains="t-empty")
    assert listed["TransformJobSummaries"] == []


LONG = "x" * 64


def source(**members: Any) -> dict[str, Any]:
    """Return a TransformInput with members of S3DataSource or of its own."""
    where = {"S3DataType": members.pop("S3DataType", "S3Prefix"), "S3Uri": "s3://shop/in/"}
    return {"TransformInput": {"DataSource": {"S3DataSource": where}, **members}}


def output(**members: Any) -> dict[str, Any]:
    return {"TransformOutput": {"S3OutputPath": "s3://shop/never", **members}}


def instances(kind: str, count: int) -> dict[str, Any]:
    return {"TransformResources": {"InstanceType": kind, "InstanceCount": count}}


JSON_LINES = {
    **source(ContentType="application/jsonlines", SplitType="Line"),
    **output(Accept="application/jsonlines", AssembleWith="Line"),
}
PNG = {**source(ContentType="image/png", SplitType="Line"), **output(Accept="image/png", AssembleWith="Line")}
JOIN = {"JoinSource": "Input"}

REFUSED = [
    ("B §9.1 A03", {"TransformJobName": LONG}, "less than or equal to 63"),
    ("B §9.1 A04", {"TransformJobName": "a_b"}, "regular expression"),
    ("B §9.1 A04", {"TransformJobName": "-a"}, "regular expression"),
    ("B §9.1 A04", {"TransformJobName": "a-"}, "regular expression"),
    ("B §9.1 A09", {"MaxPayloadInMB": 101}, "MaxPayloadInMB"),
    ("B §9.1 A10", {"MaxPayloadInMB": 11, "MaxConcurrentTransforms": 10}, "must not exceed 100"),
    ("B §9.1 A10", {"MaxPayloadInMB": 2, "MaxConcurrentTransforms": 51}, "must not exceed 100"),
    ("B §9.1 A12", {"ModelClientConfig": {"InvocationsTimeoutInSeconds": 3601}}, "less than or equal to 3600"),
    ("B §9.1 A12", {"ModelClientConfig": {"InvocationsMaxRetries": 4}}, "less than or equal to 3"),
    ("B §9.1 A14", instances("ml.m5.large", 101), "less than or equal to 100"),
    ("B §9.1 A15", instances("ml.t2.medium", 1), "enum value set"),
    ("B §9.1 A16", {"Environment": {f"K{n}": "v" for n in range(17)}}, "16"),
    ("B §9.1 A16", {"Environment": {"1A": "v"}}, "regular expression"),
    ("B §9.1 A16", {"Environment": {"A": "v" * 10_241}}, "10240"),
    ("B §9.1 A17", {"DataProcessing": {"InputFilter": "$" + "[0]" * 21}}, "63"),
    (
        "B §9.1 A18",
        {**JSON_LINES, "DataProcessing": {**JOIN, "OutputFilter": "$['account_id','SageMakerOutput']"}},
        "Invalid OutputFilter: \"$['account_id','SageMakerOutput']\". Unexpected \"_\" in JsonPath. Supported "
        "operators for \"application/jsonlines\" are ['$', '[', ']', '*', '.', ' ', ',', ':', '-', ''']",
    ),
    ("B §9.1 A19", {"DataProcessing": {"InputFilter": "$.id"}}, "InputFilter"),
    ("B §9.1 A20", {"DataProcessing": {"OutputFilter": "$[0:2,246:]"}}, "only single range filters"),
    ("B §9.1 A21", {**output(Accept="application/json", AssembleWith="Line"), "DataProcessing": JOIN}, "to be equal"),
    ("B §9.1 A22", {**output(Accept="text/csv"), "DataProcessing": JOIN}, "SplitType to equal AssembleWith"),
    ("B §9.1 A23", {**PNG, "DataProcessing": JOIN}, "one of [text/csv, application/json, application/jsonlines]"),
    ("B §9.1 A25", source(S3DataType="AugmentedManifestFile"), "Supported: [ManifestFile, S3Prefix]"),
    ("B §1.1 BatchStrategy", {"BatchStrategy": "Sometimes"}, "enum value set"),
    (
        "B §1.2 X12",
        {**source(SplitType="RecordIO", ContentType="text/csv"), "DataProcessing": {"InputFilter": "$[1:]"}},
        'InputFilter other than "$" requires TransformInput.SplitType to be "None" or "Line". '
        'Got InputFilter "$[1:]" and SplitType "RecordIO" instead.',
    ),
]


@pytest.mark.parametrize(
    ("members", "text"),
    [pytest.param(*row, id=f"{name}-{n}", marks=pytest.mark.spec(name)) for n, (name, *row) in enumerate(REFUSED)],
)
def test_a_bad_request_is_refused(platform: Platform, rowsum: str, members: dict[str, Any], text: str) -> None:
    """Each rule of the API has an error that names the member and the rule."""
    error = refused(platform, "t-bad", rowsum, "s3://shop/in/", **members)
    assert code(error) == "ValidationException"
    assert text in str(error)


@pytest.mark.spec("B §9.1 A13")
def test_the_server_checks_what_clients_check_too(platform: Platform, rowsum: str) -> None:
    """A count of 0 is refused by boto3 itself, and by the server if a client sends it."""
    server = unchecked(platform)
    for members in (instances("ml.m5.large", 0), {"ModelClientConfig": {"InvocationsTimeoutInSeconds": 0}}):
        with pytest.raises(ParamValidationError):
            platform.transform("t-zero", rowsum, "s3://shop/in/", **members)
        with pytest.raises(ClientError, match="greater than or equal to 1"):
            server.create_transform_job(
                **{
                    "TransformJobName": "t-zero",
                    "ModelName": rowsum,
                    **source(),
                    **output(),
                    **instances("ml.m5.large", 1),
                    **members,
                }
            )


def unchecked(platform: Platform) -> Any:
    """Return a client that sends what it is told, without looking at it."""
    environment = client_environment(platform.settings, platform.address, proxy=False)
    return boto3.Session(
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name="us-east-1",
    ).client("sagemaker", endpoint_url=platform.address.url, config=Config(parameter_validation=False))


@pytest.mark.spec("B §9.8 F12")
def test_a_failing_object_leaves_the_others_their_output(platform: Platform) -> None:
    """FailureReason names object, record, offset and the container's answer; the data log has the details."""
    platform.put("s3://shop/mixed/a.csv", b"1,2\nx,y\n")
    platform.put("s3://shop/mixed/b.csv", b"1,2\n")
    model = platform.model("fragile", MODE="rowsum")
    retries = {"InvocationsMaxRetries": 0}
    platform.transform("t-mixed", model, "s3://shop/mixed/", BatchStrategy="SingleRecord", ModelClientConfig=retries)
    found = platform.ended_transform("t-mixed")
    assert found["TransformJobStatus"] == "Failed"
    assert found["FailureReason"].startswith("AlgorithmError: See job logs for more information")
    assert "1 of 2 objects failed; first: mixed/a.csv, record 2 at byte 4" in found["FailureReason"]
    assert platform.keys("s3://shop/t-mixed/") == ["t-mixed/b.csv.out"]
    assert any("shop/mixed/a.csv: " in line for line in platform.log(GROUP, "t-mixed/"))


@pytest.mark.spec("B §9.8 F01")
def test_a_client_error_of_the_container_is_told(platform: Platform) -> None:
    """A 4xx answer is not retried and its text is in the reason."""
    model = platform.model("says-no", MODE="status", STATUS="400")
    platform.transform("t-says-no", model, "s3://shop/in/a.csv")
    reason = platform.ended_transform("t-says-no")["FailureReason"]
    assert reason.startswith("ClientError: See job logs for more information")
    assert "the model says no" in reason
    lines = platform.log(GROUP, "t-says-no/")
    assert sum("POST /invocations" in line for line in lines) == 1


def test_a_container_that_dies_ends_the_job(platform: Platform) -> None:
    """The reason tells the exit status and the last log lines."""
    model = platform.model("dies", MODE="die")
    platform.transform("t-dies", model, "s3://shop/in/")
    found = platform.ended_transform("t-dies")
    assert found["TransformJobStatus"] == "Failed"
    assert found["FailureReason"].startswith("AlgorithmError: Model container exited with status 7")
    assert "dying in mid-request" in found["FailureReason"]


def test_a_container_that_dies_leaves_a_report_of_what_was_done(platform: Platform) -> None:
    """The report of a job whose container died counts the objects and records before that, and the requests."""
    platform.put("s3://shop/dies-late/a.csv", b"1\n2\n")
    platform.put("s3://shop/dies-late/b.csv", b"3\nBAD\n")
    model = platform.model("dies-late", MODE="die", DIE_ON="BAD")
    platform.transform(
        "t-dies-late",
        model,
        "s3://shop/dies-late/",
        BatchStrategy="SingleRecord",
        ModelClientConfig={"InvocationsMaxRetries": 0},
        Environment={"MILLRACE_REPORT": "true"},
    )
    reason = platform.ended_transform("t-dies-late")["FailureReason"]
    assert reason.startswith("AlgorithmError: Model container exited with status 7 after 1 of 2 objects")
    report = json.loads(platform.get("s3://shop/t-dies-late/_millrace/t-dies-late/report.json"))
    assert report["failure_reason"] == reason
    objects = report["objects"]
    assert (objects["in"], objects["out"], objects["failed"] + objects["not_done"]) == (2, 1, 1)
    assert report["records"] == {"in": 3, "out": 3, "failed": 0, "filtered": 0}
    assert report["requests"]["sent"] >= 3
    assert [instance["index"] for instance in report["instances"]] == [0]


def test_a_container_that_refuses_to_start_ends_the_job_at_once(platform: Platform) -> None:
    """Nobody waits half an hour for a ping of a container that has ended."""
    model = platform.model("refuses", MODE="exit")
    platform.transform("t-refuses", model, "s3://shop/in/")
    reason = platform.ended_transform("t-refuses")["FailureReason"]
    assert "exited with status 9 before it answered /ping" in reason
    assert "no licence" in reason


@pytest.mark.spec("B §9.8 F13")
def test_model_data_that_is_no_archive_fails_the_job(platform: Platform) -> None:
    """The container is never started."""
    platform.put("s3://shop/models/broken.tar.gz", b"this is no archive")
    platform.client("sagemaker").create_model(
        ModelName="broken",
        ExecutionRoleArn=ROLE,
        PrimaryContainer={
            "Image": "brought:latest",
            "ModelDataUrl": "s3://shop/models/broken.tar.gz",
        },
    )
    platform.transform("t-broken", "broken", "s3://shop/in/")
    reason = platform.ended_transform("t-broken")["FailureReason"]
    assert reason.startswith("ClientError: model data s3://shop/models/broken.tar.gz is not a valid .tar.gz archive")


@pytest.mark.parametrize(
    ("uri", "kind", "compression"),
    [
        ("s3://shop/plain-model/weights.txt", "S3Object", "None"),
        ("s3://shop/plain-model/", "S3Prefix", "None"),
        ("s3://shop/models/packed.tar.gz", "S3Object", "Gzip"),
    ],
)
def test_model_data_sources_are_served(platform: Platform, uri: str, kind: str, compression: str) -> None:
    """Unlike SageMaker's, our batch transform takes ModelDataSource: the SDK sends it for every model."""
    platform.put("s3://shop/plain-model/weights.txt", b"1")
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        member = tarfile.TarInfo("weights.txt")
        member.size = 1
        archive.addfile(member, io.BytesIO(b"1"))
    platform.put("s3://shop/models/packed.tar.gz", stream.getvalue())
    name = f"source-{kind}-{compression}"
    source = {"S3DataSource": {"S3Uri": uri, "S3DataType": kind, "CompressionType": compression}}
    platform.client("sagemaker").create_model(
        ModelName=name,
        ExecutionRoleArn=ROLE,
        PrimaryContainer={"Image": "brought:latest", "ModelDataSource": source, "Environment": {"MODE": "rowsum"}},
    )
    platform.transform(name, name, "s3://shop/in/a.csv")
    assert platform.ended_transform(name)["TransformJobStatus"] == "Completed"
    assert "serving rowsum ['weights.txt']" in platform.log(GROUP, f"{name}/")


@pytest.mark.spec("B §9.1 A35")
def test_a_strict_server_refuses_model_data_sources_as_sagemaker_does(tmp_path: Path) -> None:
    """Only for transform jobs, and only where it is asked to."""
    strict = Platform(tmp_path, strict="on").start()
    strict.put("s3://shop/in/a.csv", b"1,2\n")
    sagemaker = strict.client("sagemaker")
    source = {"S3DataSource": {"S3Uri": "s3://shop/plain/", "S3DataType": "S3Prefix", "CompressionType": "None"}}
    container = {"Image": "brought:latest", "ModelDataSource": source}
    sagemaker.create_model(ModelName="source", ExecutionRoleArn=ROLE, PrimaryContainer=container)
    with pytest.raises(ClientError) as caught:
        strict.transform("refused", "source", "s3://shop/in/")
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    assert caught.value.response["Error"]["Message"].startswith(
        "SageMaker Batch currently doesn't support Model entity with container definitions which use ModelDataSource "
        "attribute"
    )
    model = strict.model("plain", MODE="rowsum")
    strict.transform("taken", model, "s3://shop/in/")
    assert strict.ended_transform("taken")["TransformJobStatus"] == "Completed"
    assert strict.stop() == 0


@pytest.mark.spec("B §9.1 A27")
@pytest.mark.spec("B §9.1 A28")
@pytest.mark.spec("B §9.1 A33")
def test_a_stopped_job_stores_nothing_of_the_object_in_flight(platform: Platform, tmp_path: Path) -> None:
    """Stopping goes through Stopping to Stopped; a second stop is refused; the waiter accepts the end."""
    sagemaker = platform.client("sagemaker")
    model = platform.model("slow", MODE="rowsum", WAIT_FOR=str(tmp_path / "never"))
    platform.transform("t-stop", model, "s3://shop/in/")
    wait_until("start", lambda: "TransformStartTime" in sagemaker.describe_transform_job(TransformJobName="t-stop"))
    sagemaker.stop_transform_job(TransformJobName="t-stop")
    assert sagemaker.describe_transform_job(TransformJobName="t-stop")["TransformJobStatus"] in ("Stopping", "Stopped")
    found = platform.ended_transform("t-stop")
    assert found["TransformJobStatus"] == "Stopped"
    assert "FailureReason" not in found
    assert platform.keys("s3://shop/t-stop/") == []
    with pytest.raises(ClientError, match="in status Stopped"):
        sagemaker.stop_transform_job(TransformJobName="t-stop")
    sagemaker.get_waiter("transform_job_completed_or_stopped").wait(TransformJobName="t-stop")
    with pytest.raises(WaiterError):
        sagemaker.get_waiter("transform_job_completed_or_stopped").wait(TransformJobName="no-such-job")


def test_a_stop_does_not_wait_for_the_container_s_settings(platform: Platform) -> None:
    """A container that does not answer /execution-parameters is not waited for: the job never has settings."""
    model = platform.model("mute", MODE="no-settings")
    platform.transform("t-mute", model, "s3://shop/in/")
    wait_until("question", lambda: "asked for settings" in platform.log(GROUP, "t-mute/"))
    platform.client("sagemaker").stop_transform_job(TransformJobName="t-mute")
    assert platform.ended_transform("t-mute")["TransformJobStatus"] == "Stopped"
    assert not any("MaxConcurrentTransforms=" in line for line in platform.log(GROUP, "t-mute/"))


@pytest.mark.spec("B §9.1 A29")
def test_an_unknown_job_is_told_as_the_service_does(platform: Platform) -> None:
    """Describe and Stop of an unknown job are validation errors."""
    sagemaker = platform.client("sagemaker")
    with pytest.raises(ClientError, match="Could not find transform job"):
        sagemaker.describe_transform_job(TransformJobName="nobody")
    with pytest.raises(ClientError, match="ValidationException"):
        sagemaker.stop_transform_job(TransformJobName="nobody")


@pytest.mark.spec("B §9.1 A30")
@pytest.mark.spec("B §9.1 A31")
def test_jobs_are_listed_in_pages(platform: Platform, rowsum: str, tmp_path: Path) -> None:
    """Ten newest first, then the rest; filters combine; tokens belong to their filters."""
    sagemaker = platform.client("sagemaker")
    names = [f"page-{number:02}" for number in range(12)]
    for name in names:
        platform.transform(name, rowsum, "s3://shop/in/a.csv")
    first = sagemaker.list_transform_jobs(NameContains="PAGE-")
    assert [it["TransformJobName"] for it in first["TransformJobSummaries"]] == names[:1:-1]
    second = sagemaker.list_transform_jobs(NameContains="PAGE-", NextToken=first["NextToken"])
    assert [it["TransformJobName"] for it in second["TransformJobSummaries"]] == ["page-01", "page-00"]
    assert "NextToken" not in second
    with pytest.raises(ClientError, match="other filters"):
        sagemaker.list_transform_jobs(NameContains="x", NextToken=first["NextToken"])
    ascending = sagemaker.list_transform_jobs(NameContains="page", SortBy="Name", SortOrder="Ascending", MaxResults=3)
    assert [it["TransformJobName"] for it in ascending["TransformJobSummaries"]] == names[:3]
    with pytest.raises(ClientError, match="less than or equal to 100"):
        sagemaker.list_transform_jobs(MaxResults=101)
    for name in names:
        assert platform.ended_transform(name)["TransformJobStatus"] == "Completed"
    by_status = sagemaker.list_transform_jobs(NameContains="page-", StatusEquals="Failed")
    assert by_status["TransformJobSummaries"] == []
    pages = sagemaker.get_paginator("list_transform_jobs").paginate(NameContains="page-")
    summaries = [it for page in pages for it in page["TransformJobSummaries"]]
    assert len(summaries) == 12
    assert all(it["CreationTime"] <= it["TransformEndTime"] for it in summaries)


@pytest.mark.spec("B §9.3 S21")
def test_several_instances_share_the_objects(platform: Platform, rowsum: str) -> None:
    """Each object is done by one instance; instances without objects end normally."""
    resources = {"InstanceType": "ml.m5.large", "InstanceCount": 4}
    platform.transform("t-four", rowsum, "s3://shop/in/", TransformResources=resources)
    assert platform.ended_transform("t-four")["TransformJobStatus"] == "Completed"
    assert platform.keys("s3://shop/t-four/") == ["t-four/a.csv.out", "t-four/sub/b.csv.out"]
    streams = platform.client("logs").describe_log_streams(logGroupName=GROUP, logStreamNamePrefix="t-four/")
    assert "nextToken" not in streams


def first_agent(platform: Platform) -> int | None:
    """Return the process id of the agent at work on the platform's only instance."""
    agents = platform.agents()
    return agents[0] if agents else None


def test_a_killed_server_is_replaced_and_the_job_ends(own_platform: Platform, tmp_path: Path) -> None:
    """The agent goes on without the server; the next server sees the job to its end."""
    gate = tmp_path / "gate"
    model = own_platform.model("gated", MODE="rowsum", WAIT_FOR=str(gate))
    own_platform.transform("t-survives", model, "s3://shop/in/")
    sagemaker = own_platform.client("sagemaker")
    wait_until("start", lambda: "TransformStartTime" in sagemaker.describe_transform_job(TransformJobName="t-survives"))
    own_platform.kill()
    gate.touch()
    own_platform.start()
    assert own_platform.ended_transform("t-survives")["TransformJobStatus"] == "Completed"
    assert own_platform.get("s3://shop/t-survives/a.csv.out") == b"3\n7\n11\n"


def test_a_killed_agent_is_replaced_and_the_job_ends(own_platform: Platform, tmp_path: Path) -> None:
    """Another attempt takes the work up; its container does not outlive the agent."""
    gate = tmp_path / "gate"
    model = own_platform.model("gated", MODE="rowsum", WAIT_FOR=str(gate))
    own_platform.transform("t-again", model, "s3://shop/in/")
    pid = wait_until("agent", lambda: first_agent(own_platform))
    os.kill(pid, signal.SIGKILL)
    wait_until("another agent", lambda: first_agent(own_platform) not in (None, pid))
    gate.touch()
    assert own_platform.ended_transform("t-again")["TransformJobStatus"] == "Completed"
    assert own_platform.get("s3://shop/t-again/a.csv.out") == b"3\n7\n11\n"


def test_server_and_agent_killed_together(own_platform: Platform, tmp_path: Path) -> None:
    """Nobody is left; the next server starts the work anew, right away."""
    gate = tmp_path / "gate"
    model = own_platform.model("gated", MODE="rowsum", WAIT_FOR=str(gate))
    own_platform.transform("t-both", model, "s3://shop/in/")
    pid = wait_until("agent", lambda: first_agent(own_platform))
    own_platform.kill()
    os.kill(pid, signal.SIGKILL)
    gate.touch()
    own_platform.start()
    assert own_platform.ended_transform("t-both")["TransformJobStatus"] == "Completed"
    assert own_platform.get("s3://shop/t-both/a.csv.out") == b"3\n7\n11\n"


def test_a_waiter_learns_of_the_end_at_once(platform: Platform, rowsum: str) -> None:
    """boto3's waiter would look again after a minute; its first look is held until the job has ended."""
    sagemaker = platform.client("sagemaker")
    platform.transform("t-waited", rowsum, "s3://shop/in/")
    once = {"Delay": 3600, "MaxAttempts": 1}
    sagemaker.get_waiter("transform_job_completed_or_stopped").wait(TransformJobName="t-waited", WaiterConfig=once)
    found = sagemaker.describe_transform_job(TransformJobName="t-waited")
    assert found["TransformJobStatus"] == "Completed"


def test_a_held_answer_does_not_hold_the_server_s_end(own_platform: Platform, tmp_path: Path) -> None:
    """A stop answers who waits, instead of waiting for them."""
    sagemaker = own_platform.client("sagemaker")
    model = own_platform.model("slow", MODE="rowsum", WAIT_FOR=str(tmp_path / "never"))
    own_platform.transform("t-held", model, "s3://shop/in/")
    ended: list[Exception] = []

    def wait() -> None:
        once = {"Delay": 3600, "MaxAttempts": 1}
        waiter = sagemaker.get_waiter("transform_job_completed_or_stopped")
        try:
            waiter.wait(TransformJobName="t-held", WaiterConfig=once)
        except WaiterError as error:
            ended.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    wait_until("start", lambda: "TransformStartTime" in sagemaker.describe_transform_job(TransformJobName="t-held"))
    assert own_platform.stop() == 0
    waiting.join()
    assert "Max attempts exceeded" in str(ended[0])
    own_platform.start()
    own_platform.client("sagemaker").stop_transform_job(TransformJobName="t-held")
    assert own_platform.ended_transform("t-held")["TransformJobStatus"] == "Stopped"
