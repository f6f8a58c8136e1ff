"""Models of several containers through boto3, on a real server with real containers."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from millrace.settings import as_environment
from tests.integration.platform import IMAGE, PROGRAM, ROLE, Platform, wait_until
from tests.integration.test_endpoints import ask, create, delete, settled, variant
from tests.sandbox_rig import needs_sandbox

GROUP = "/aws/sagemaker/TransformJobs"


def tag(who: str, **more: str) -> dict[str, str]:
    return {"MODE": "tag", "WHO": who, **more}


@pytest.fixture(scope="module")
def tagging(platform: Platform) -> str:
    """A model whose rows tell which containers they passed."""
    return platform.chain("tagging", tag("a"), tag("b"), tag("c"))


def definitions(*hostnames: str | None, **members: Any) -> dict[str, Any]:
    containers = [
        {"Image": IMAGE, "Environment": tag(str(number)), **({} if name is None else {"ContainerHostname": name})}
        for number, name in enumerate(hostnames)
    ]
    return {"ExecutionRoleArn": ROLE, "Containers": containers, **members}


# -- models


def test_a_model_of_several_containers_is_described(platform: Platform) -> None:
    """As it was said."""
    sagemaker = platform.client("sagemaker")
    said = definitions("first", "second", InferenceExecutionConfig={"Mode": "Serial"})
    sagemaker.create_model(ModelName="described", **said)
    found = sagemaker.describe_model(ModelName="described")
    assert {member: found[member] for member in said} == said
    assert "PrimaryContainer" not in found


@pytest.mark.parametrize(
    ("members", "text"),
    [
        (definitions("a", None), "must be given for all: containers.2.member has none"),
        (definitions("a", "b", "a"), "got 'a' for both containers.1.member and containers.3.member"),
        (definitions("a_b", "b"), "regular expression"),
        (definitions(*(None for _ in range(16))), "less than or equal to 15"),
        (definitions(None, InferenceExecutionConfig={"Mode": "Direct"}), "needs at least 2"),
        (definitions(None, None, InferenceExecutionConfig={"Mode": "Other"}), "enum value set"),
        (definitions(None, None, PrimaryContainer={"Image": IMAGE}), "not both"),
        ({"ExecutionRoleArn": ROLE, "Containers": [{"Image": IMAGE}, {}]}, "containers.2.member"),
    ],
)
def test_containers_that_make_no_model_are_refused(platform: Platform, members: dict[str, Any], text: str) -> None:
    """The error names the container."""
    with pytest.raises(ClientError) as raised:
        platform.client("sagemaker").create_model(ModelName="refused", **members)
    assert raised.value.response["Error"]["Code"] == "ValidationException"
    assert text in str(raised.value)


# -- transform jobs


@pytest.mark.spec("B §7")
def test_records_pass_all_containers_in_order(platform: Platform, tagging: str) -> None:
    """Each with its own variables and model folder; the last one's answers are the output."""
    platform.transform("p-order", tagging, "s3://shop/in/")
    found = platform.ended_transform("p-order")
    assert found["TransformJobStatus"] == "Completed", found
    assert platform.get("s3://shop/p-order/a.csv.out") == b"1,2,a,b,c\n3,4,a,b,c\n5,6,a,b,c\n\n"
    streams = platform.client("logs").describe_log_streams(logGroupName=GROUP, logStreamNamePrefix="p-order/")
    names = [it["logStreamName"].split("/", 2)[2] for it in streams["logStreams"]]
    assert sorted(names) == ["container-1", "container-2", "container-3", "data-log"]


@pytest.mark.spec("B §9.9 E10")
def test_only_the_last_answer_is_the_result(platform: Platform, tmp_path: Path) -> None:
    """Each container listens on a port that it was told; what the others answered is nowhere."""
    journals = [tmp_path / "first", tmp_path / "second"]
    echo, fixed = {"MODE": "echo"}, {"MODE": "who", "WHO": "z"}
    model = platform.chain(
        "fixed", *({**it, "JOURNAL": str(journal)} for it, journal in zip((echo, fixed), journals, strict=True))
    )
    platform.transform("p-fixed", model, "s3://shop/in/a.csv")
    assert platform.ended_transform("p-fixed")["TransformJobStatus"] == "Completed"
    assert platform.get("s3://shop/p-fixed/a.csv.out") == b"z\n"
    assert [len(journal.read_text().splitlines()) for journal in journals] == [2, 2]  # one request each, in and out


@pytest.mark.spec("B §7")
@pytest.mark.parametrize("strategy", ["MultiRecord", "SingleRecord"])
def test_a_join_is_with_the_original_record(platform: Platform, tagging: str, strategy: str) -> None:
    """Whatever the containers before the last one made of it, and however many records a request has."""
    name = f"p-join-{strategy}"
    processing = {"InputFilter": "$[1]", "JoinSource": "Input", "OutputFilter": "$"}
    platform.transform(name, tagging, "s3://shop/in/a.csv", DataProcessing=processing, BatchStrategy=strategy)
    assert platform.ended_transform(name)["TransformJobStatus"] == "Completed"
    assert platform.get(f"s3://shop/{name}/a.csv.out") == b"1,2,2,a,b,c\n3,4,4,a,b,c\n5,6,6,a,b,c\n"


@pytest.mark.spec("B §7", "B §8 25")
def test_the_container_that_refuses_a_record_is_named(platform: Platform) -> None:
    """In FailureReason and in the data log, with its words."""
    refusing = platform.chain("refusing", tag("a"), {"MODE": "status", "STATUS": "400"})
    platform.transform("p-refused", refusing, "s3://shop/in/a.csv")
    found = platform.ended_transform("p-refused")
    assert found["TransformJobStatus"] == "Failed"
    assert "container-2: the model says no" in found["FailureReason"]
    data_log = platform.log(GROUP, "p-refused/")
    assert any("container-2: the model says no" in line for line in data_log)


@pytest.mark.parametrize(
    ("mode", "words"), [("exit", "refusing to start: no licence"), ("die", "dying in mid-request")]
)
def test_a_container_that_ends_fails_the_job_by_name(platform: Platform, mode: str, words: str) -> None:
    """Its last log lines are told, and its host name."""
    containers = definitions("clean", "score")
    containers["Containers"][1]["Environment"] = {"MODE": mode}
    platform.client("sagemaker").create_model(ModelName=f"ends-{mode}", **containers)
    platform.transform(f"p-{mode}", f"ends-{mode}", "s3://shop/in/a.csv")
    reason = platform.ended_transform(f"p-{mode}")["FailureReason"]
    assert reason.startswith("AlgorithmError: score: Model container exited with status")
    assert words in reason


def test_data_of_each_container_are_its_own(platform: Platform) -> None:
    """A container whose data are not there is named; those of others change nothing."""
    containers = definitions("clean", "score")
    containers["Containers"][1]["ModelDataUrl"] = "s3://shop/nowhere/model.tar.gz"
    platform.client("sagemaker").create_model(ModelName="no-data", **containers)
    platform.transform("p-no-data", "no-data", "s3://shop/in/a.csv")
    reason = platform.ended_transform("p-no-data")["FailureReason"]
    assert reason == "ClientError: score: model data s3://shop/nowhere/model.tar.gz does not exist"


@pytest.mark.spec("B §1.2 X24")
def test_a_model_in_direct_mode_can_not_transform(platform: Platform) -> None:
    """Nothing says which container a record would be for."""
    direct = definitions("a", "b", InferenceExecutionConfig={"Mode": "Direct"})
    platform.client("sagemaker").create_model(ModelName="direct-batch", **direct)
    with pytest.raises(ClientError, match=r"ValidationException.*Mode 'Serial' for a transform job, got 'Direct'"):
        platform.transform("p-direct", "direct-batch", "s3://shop/in/a.csv")
    command = ["transform", "--model", "direct-batch", "--input", "s3://shop/in/a.csv", "--output", "s3://shop/o"]
    refused = millrace(platform, *command)
    assert refused.returncode == 2
    assert "must have InferenceExecutionConfig.Mode 'Serial', got 'Direct'" in refused.stderr


def millrace(platform: Platform, *words: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, **as_environment(platform.settings)}
    return subprocess.run(
        [sys.executable, "-m", "millrace", *words], env=environment, capture_output=True, text=True, check=False
    )


def test_the_command_line_runs_a_model_of_several_containers(platform: Platform, tagging: str, tmp_path: Path) -> None:
    """Without the server, by the model's name."""
    (tmp_path / "rows.csv").write_text("1\n2\n")
    places = ["--input", str(tmp_path / "rows.csv"), "--output", str(tmp_path / "out")]
    done = millrace(platform, "transform", "--model", tagging, *places, "--split-type", "Line")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "rows.csv.out").read_text() == "1,a,b,c\n2,a,b,c\n"


@pytest.mark.parametrize("victim", ["container", "agent", "agent and server"])
def test_a_job_survives_kills(own_platform: Platform, tmp_path: Path, victim: str) -> None:
    """A killed container fails it by name; killed agents and servers are replaced, and the output is the same."""
    gate, journal = tmp_path / "gate", tmp_path / "journal"
    containers = (tag("a", JOURNAL=str(journal)), tag("b", WAIT_FOR=str(gate)))
    model = own_platform.chain("gated", *containers)
    own_platform.transform("p-killed", model, "s3://shop/in/a.csv")
    wait_until("the first request", lambda: journal.exists())
    [agent] = own_platform.agents()
    if victim == "container":
        os.kill(int(journal.read_text().split()[0]), signal.SIGKILL)
        reason = own_platform.ended_transform("p-killed")["FailureReason"]
        assert "container-1: Model container exited with status 137 (killed) after 0 of 1 objects" in reason
        return
    if victim != "agent":
        own_platform.kill()
    os.kill(agent, signal.SIGKILL)
    gate.touch()
    if victim != "agent":
        own_platform.start()
    assert own_platform.ended_transform("p-killed")["TransformJobStatus"] == "Completed"
    assert own_platform.get("s3://shop/p-killed/a.csv.out") == b"1,2,a,b\n3,4,a,b\n5,6,a,b\n\n"
    assert not own_platform.processes("brought_program")


DOCKERFILE = """\
FROM python:3.11-slim
LABEL com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true
ENV SAGEMAKER_BASE_DIR=/
COPY brought_program.py /srv/
ENTRYPOINT ["python", "/srv/brought_program.py"]
"""


@needs_sandbox
@pytest.mark.spec("B §7")
def test_containers_of_brought_images_are_chained(platform: Platform, tmp_path: Path) -> None:
    """Each listens on port 8080 of a network of its own, as its image's label has it told; a host image goes along."""
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    shutil.copy(PROGRAM, tmp_path)
    built = millrace(platform, "image", "build", "--tag", "chained:1", str(tmp_path))
    assert built.returncode == 0, built.stderr
    containers = [{"Image": image, "Environment": tag(image[:1])} for image in ("chained:1", IMAGE, "chained:1")]
    sagemaker = platform.client("sagemaker")
    sagemaker.create_model(ModelName="boxes", ExecutionRoleArn=ROLE, Containers=containers)
    platform.transform("p-boxes", "boxes", "s3://shop/in/a.csv")
    found = platform.ended_transform("p-boxes")
    assert found["TransformJobStatus"] == "Completed", found
    assert platform.get("s3://shop/p-boxes/a.csv.out").splitlines()[0] == b"1,2,c,0,c"


# -- endpoints


def test_an_invocation_passes_all_containers(platform: Platform, tagging: str) -> None:
    """Whole and streamed ones; every container has a log stream."""
    found = create(platform, "p-serial", variant("v", tagging))
    assert found["EndpointStatus"] == "InService", found
    assert len(found["ProductionVariants"][0]["DeployedImages"]) == 3
    body, answer = ask(platform, "p-serial", b"1\n2\n", ContentType="text/csv", Accept="text/csv")
    assert body == b"1,a,b,c\n2,a,b,c\n"
    assert answer["ContentType"] == "text/csv"
    stream = platform.client("sagemaker-runtime").invoke_endpoint_with_response_stream(
        EndpointName="p-serial", Body=b"3\n"
    )
    assert b"".join(event["PayloadPart"]["Bytes"] for event in stream["Body"]) == b"3,a,b,c\n"
    blob = b"x" * 5_000_000 + b"\n"
    assert ask(platform, "p-serial", blob)[0] == blob[:-1] + b",a,b,c\n"
    with pytest.raises(ClientError, match=r"ValidationError.*is not in direct mode.*got 'container-2'"):
        ask(platform, "p-serial", TargetContainerHostname="container-2")
    group = "/aws/sagemaker/Endpoints/p-serial"
    streams = platform.client("logs").describe_log_streams(logGroupName=group)["logStreams"]
    assert [it["logStreamName"].split("/")[2] for it in streams] == ["container-1", "container-2", "container-3"]
    delete(platform, "p-serial")


@pytest.mark.spec("C §12 C-52")
def test_the_container_that_refuses_an_invocation_is_named(platform: Platform) -> None:
    """In the place of "primary", with its status."""
    containers = definitions("clean", "score")
    containers["Containers"][1]["Environment"] = {"MODE": "status", "STATUS": "400"}
    platform.client("sagemaker").create_model(ModelName="refusing-score", **containers)
    create(platform, "p-refusing", variant("v", "refusing-score"))
    runtime = platform.client("sagemaker-runtime")
    with pytest.raises(runtime.exceptions.ModelError) as raised:
        ask(platform, "p-refusing")
    response = raised.value.response
    assert response["OriginalStatusCode"] == 400
    assert response["OriginalMessage"] == "the model says no"
    assert 'Received client error (400) from score with message "the model says no"' in str(raised.value)
    delete(platform, "p-refusing")


@pytest.mark.spec("C §5.7", "endpoints E-32")
def test_direct_mode_asks_the_container_that_is_named(platform: Platform) -> None:
    """It alone; without a name, or with a wrong one, nobody is asked."""
    direct = definitions("zero", "one", InferenceExecutionConfig={"Mode": "Direct"})
    platform.client("sagemaker").create_model(ModelName="direct", **direct)
    create(platform, "p-direct", variant("v", "direct"))
    assert ask(platform, "p-direct", b"x", TargetContainerHostname="zero")[0] == b"x,0\n"
    assert ask(platform, "p-direct", b"x", TargetContainerHostname="one")[0] == b"x,1\n"
    with pytest.raises(ClientError, match=r"ValidationError.*must be one of zero, one for variant v, got none"):
        ask(platform, "p-direct")
    with pytest.raises(ClientError, match=r"ValidationError.*must be one of zero, one for variant v, got 'two'"):
        ask(platform, "p-direct", TargetContainerHostname="two")
    delete(platform, "p-direct")


def test_a_container_that_does_not_start_fails_the_endpoint_by_name(platform: Platform) -> None:
    """The others are stopped."""
    containers = definitions("clean", "score")
    containers["Containers"][1]["Environment"] = {"MODE": "exit"}
    platform.client("sagemaker").create_model(ModelName="unlicensed-score", **containers)
    found = create(platform, "p-unlicensed", variant("v", "unlicensed-score"))
    assert found["EndpointStatus"] == "Failed"
    assert found["FailureReason"].startswith("The score container for production variant v did not pass the ping")
    assert "no licence" in found["FailureReason"]
    delete(platform, "p-unlicensed")


def test_an_instance_with_a_killed_container_is_replaced(own_platform: Platform, tmp_path: Path) -> None:
    """As a whole: all containers of the instance start again, and answer."""
    journal = tmp_path / "journal"
    model = own_platform.chain("journaled", tag("a"), tag("b", JOURNAL=str(journal)))
    create(own_platform, "p-replaced", variant("v", model))
    assert ask(own_platform, "p-replaced", b"x")[0] == b"x,a,b\n"
    before = int(journal.read_text().split()[0])
    os.kill(before, signal.SIGKILL)

    def answered() -> bytes | None:
        try:
            return ask(own_platform, "p-replaced", b"x")[0]
        except ClientError as error:
            assert error.response["Error"]["Code"] in ("ServiceUnavailable", "ModelError")
            return None

    assert wait_until("an answer", answered) == b"x,a,b\n"
    assert int(journal.read_text().split()[-1]) != before
    assert settled(own_platform, "p-replaced")["EndpointStatus"] == "InService"
    assert len(own_platform.processes("brought_program")) == 2
