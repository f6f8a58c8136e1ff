"""Response streaming and data capture of endpoints through boto3, on a real server with a real container."""

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import EventStreamError

from tests.integration.platform import ROLE, Platform, wait_until

PROGRAM = Path(__file__).parents[1] / "programs" / "streaming_program.py"
IMAGE = "000000000000.dkr.ecr.us-east-1.amazonaws.com/streaming:latest"
CAPTURE = {
    "EnableCapture": True,
    "InitialSamplingPercentage": 100,
    "DestinationS3Uri": "s3://shop/captured",
    "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
    "CaptureContentTypeHeader": {"CsvContentTypes": ["text/csv"], "JsonContentTypes": ["application/jsonlines"]},
}


@pytest.fixture(scope="module")
def streaming(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A server with an endpoint `commands` that captures its calls."""
    platform = Platform(tmp_path_factory.mktemp("streaming"), capture_flush_seconds=0.05)
    with (platform.settings.data_dir / "host-images.toml").open("a") as images:
        images.write(f'\n[[image]]\nmatch = "streaming:*"\ncommand = {json.dumps([sys.executable, str(PROGRAM)])}\n')
    platform.start()
    platform.put("s3://shop/in/a.csv", b"")
    sagemaker = platform.client("sagemaker")
    sagemaker.create_model(ModelName="m", ExecutionRoleArn=ROLE, PrimaryContainer={"Image": IMAGE})
    configure(platform, "captured", DataCaptureConfig=CAPTURE)
    sagemaker.create_endpoint(EndpointName="commands", EndpointConfigName="captured")
    in_service(platform)
    yield platform
    assert platform.stop() == 0


def configure(platform: Platform, name: str, **members: Any) -> None:
    variant = {"VariantName": "v", "ModelName": "m", "InitialInstanceCount": 1, "InstanceType": "ml.m5.large"}
    platform.client("sagemaker").create_endpoint_config(
        EndpointConfigName=name, ProductionVariants=[variant], **members
    )


def in_service(platform: Platform) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = platform.client("sagemaker").describe_endpoint(EndpointName="commands")
        return found if found["EndpointStatus"] == "InService" else None

    return wait_until("service", look)


def stream(platform: Platform, *commands: str, **members: Any) -> Any:
    return platform.client("sagemaker-runtime").invoke_endpoint_with_response_stream(
        EndpointName="commands", Body="\n".join(commands).encode(), **members
    )


@pytest.mark.spec("endpoints E-30")
def test_the_first_chunk_is_here_before_the_second_is_written(streaming: Platform, tmp_path: Path) -> None:
    """The container waits for what the client does on receiving the first."""
    gate = tmp_path / "seen"
    answer = stream(streaming, "send one", f"wait {gate}", "send two", Accept="application/jsonlines")
    assert (answer["ContentType"], answer["InvokedProductionVariant"]) == ("application/jsonlines", "v")
    assert answer["CustomAttributes"] == "streamed"
    with closing(answer["Body"]) as body:
        events = iter(body)
        assert next(events) == {"PayloadPart": {"Bytes": b"one"}}
        gate.touch()
        assert list(events) == [{"PayloadPart": {"Bytes": b"two"}}]


@pytest.mark.spec("endpoints E-31")
@pytest.mark.parametrize("end", ["break", "exit 3"])
def test_a_container_that_dies_midway_ends_the_stream_with_an_error(streaming: Platform, end: str) -> None:
    """What was sent before arrives; then comes ModelStreamError."""
    wait_until("an instance", lambda: answered(streaming))
    with closing(stream(streaming, "send begun", end)["Body"]) as body:
        events = iter(body)
        assert next(events) == {"PayloadPart": {"Bytes": b"begun"}}
        with pytest.raises(EventStreamError, match="ModelStreamError"):
            next(events)


def answered(platform: Platform) -> bool:
    runtime = platform.client("sagemaker-runtime")
    try:
        runtime.invoke_endpoint(EndpointName="commands", Body=b"send x")
    except (runtime.exceptions.ServiceUnavailable, runtime.exceptions.ModelError):
        return False
    return True


def test_an_error_of_the_container_is_a_model_error_not_a_stream(streaming: Platform) -> None:
    """Its status is known before anything is sent."""
    wait_until("an instance", lambda: answered(streaming))
    runtime = streaming.client("sagemaker-runtime")
    with pytest.raises(runtime.exceptions.ModelError) as raised:
        stream(streaming, "status 418")
    assert raised.value.response["OriginalStatusCode"] == 418


def test_a_client_that_goes_away_ends_the_request_to_the_container(streaming: Platform) -> None:
    """Also in the middle of more than fits into memory: nobody holds it for nobody."""
    wait_until("an instance", lambda: answered(streaming))
    answer = stream(streaming, "flood 100000")
    next(iter(answer["Body"]))
    answer["Body"].close()
    wait_until("the end", lambda: "the reader is gone" in streaming.log("/aws/sagemaker/Endpoints/commands", "v/"))


def records(platform: Platform) -> dict[str, Any]:
    """Return what was captured, by inference id."""
    found = {}
    for key in platform.keys("s3://shop/captured/"):
        for line in platform.get(f"s3://shop/{key}").splitlines():
            entry = json.loads(line)
            found[entry["eventMetadata"].get("inferenceId")] = entry
    return found


@pytest.mark.spec("endpoints E-51")
def test_captured_calls_are_objects_named_for_the_hour(streaming: Platform) -> None:
    """Plain and streamed calls alike; the endpoint's description says that capture is on."""
    wait_until("an instance", lambda: answered(streaming))
    runtime = streaming.client("sagemaker-runtime")
    runtime.invoke_endpoint(
        EndpointName="commands", Body=b"send 0.5", ContentType="text/csv", InferenceId="plain", CustomAttributes="t"
    )
    with closing(stream(streaming, "send 1", "send 2", InferenceId="streamed")["Body"]) as body:
        assert list(body)
    found = wait_until("records", lambda: captured if len(captured := records(streaming)) >= 3 else None)
    plain = found["plain"]
    assert plain["captureData"]["endpointInput"] == {
        "observedContentType": "text/csv",
        "mode": "INPUT",
        "data": "send 0.5",
        "encoding": "CSV",
    }
    assert plain["captureData"]["endpointOutput"]["data"] == "0.5"
    assert plain["eventMetadata"]["customAttributes"] == ["t"]
    assert found["streamed"]["captureData"]["endpointInput"]["encoding"] == "BASE64"
    assert found["streamed"]["captureData"]["endpointOutput"]["data"] == "12"
    hour = plain["eventMetadata"]["inferenceTime"][:13].replace("-", "/").replace("T", "/")
    assert any(key.startswith(f"captured/commands/v/{hour}/") for key in streaming.keys("s3://shop/captured/"))
    summary = streaming.client("sagemaker").describe_endpoint(EndpointName="commands")["DataCaptureConfig"]
    assert summary == {
        "EnableCapture": True,
        "CaptureStatus": "Started",
        "CurrentSamplingPercentage": 100,
        "DestinationS3Uri": "s3://shop/captured",
        "KmsKeyId": "",
    }


def test_capture_is_switched_off_by_an_update_and_a_request_under_way_survives_it(
    streaming: Platform, tmp_path: Path
) -> None:
    """The old instance is not stopped before it has answered."""
    wait_until("an instance", lambda: answered(streaming))
    begun, gate = tmp_path / "begun", tmp_path / "gate"
    parts: list[bytes] = []

    def ask() -> None:
        answer = stream(streaming, f"touch {begun}", f"wait {gate}", "send survived", InferenceId="survivor")
        with closing(answer["Body"]) as body:
            parts.extend(event["PayloadPart"]["Bytes"] for event in body)

    asking = threading.Thread(target=ask)
    asking.start()
    wait_until("the request", begun.exists)
    configure(streaming, "silent", DataCaptureConfig={**CAPTURE, "EnableCapture": False})
    sagemaker = streaming.client("sagemaker")
    sagemaker.update_endpoint(EndpointName="commands", EndpointConfigName="silent")
    found = in_service(streaming)
    assert found["EndpointConfigName"] == "silent"
    assert found["DataCaptureConfig"]["CaptureStatus"] == "Stopped"
    gate.touch()
    asking.join()
    assert parts == [b"survived"]
    runtime = streaming.client("sagemaker-runtime")
    runtime.invoke_endpoint(EndpointName="commands", Body=b"send x", InferenceId="unseen")
    wait_until("the survivor", lambda: "survivor" in records(streaming))
    assert "unseen" not in records(streaming)
