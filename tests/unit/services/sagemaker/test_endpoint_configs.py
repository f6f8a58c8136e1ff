"""What an endpoint configuration says, in our own values."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from millrace.clock import SystemClock
from millrace.errors import ApiError
from millrace.jobs.captured_calls import CapturedCall, capture_key
from millrace.jobs.endpoint import CaptureMode, DataCapture, EndpointSpec, RoutingStrategy
from millrace.ports.runtime import Image
from millrace.protocol.bodies import MemoryBody
from millrace.protocol.message import Context, Request
from millrace.services.sagemaker.backends import Backends
from millrace.services.sagemaker.endpoint_configs import handlers, resolve_endpoint_config
from millrace.services.sagemaker.models import handlers as model_handlers
from millrace.testing.documents import MemoryDocumentStore

REPOSITORY = "000000000000.dkr.ecr.us-east-1.amazonaws.com/echo"
DIGEST = "sha256:" + "ab" * 32


class Tags:
    """Resolves every name to an image of one digest, or of none."""

    def __init__(self, digest: str | None) -> None:
        self._digest = digest

    def resolve(self, uri: str) -> Image:
        return Image(uri=uri, name="n", command=("serve",), digest=self._digest)


def context() -> Context:
    return Context(
        request_id="r",
        service="sagemaker",
        operation="CreateEndpointConfig",
        region="us-east-1",
        account="000000000000",
        principal=None,
        base_url="http://localhost",
        request=Request(method="POST", path=b"/", query=b"", headers=(), body=MemoryBody()),
    )


def backends(digest: str | None = None) -> Backends:
    unused: Any = None
    clock = SystemClock()
    return Backends(
        jobs=unused,
        documents=MemoryDocumentStore(clock=clock),
        objects=unused,
        images=Tags(digest),
        clock=clock,
        built_in_metrics=unused,
        pump=unused,
        wait_for_end=unused,
    )


async def resolved(
    ports: Backends, image: str = f"{REPOSITORY}:latest", capture: Mapping[str, Any] | None = None, **members: Any
) -> EndpointSpec:
    """Create a model and a configuration of it; return what an endpoint of them would serve."""
    role = "arn:aws:iam::000000000000:role/R"
    model = {"ModelName": "m", "ExecutionRoleArn": role, "PrimaryContainer": {"Image": image}}
    await model_handlers(ports)["CreateModel"](context(), model)
    variant = {"VariantName": "v", "ModelName": "m", "InitialInstanceCount": 1, "InstanceType": "ml.m5.large"}
    config: dict[str, Any] = {"EndpointConfigName": "c", "ProductionVariants": [{**variant, **members}]}
    if capture is not None:
        config["DataCaptureConfig"] = capture
    await handlers(ports)["CreateEndpointConfig"](context(), config)
    return await resolve_endpoint_config(ports, context(), "c")


@pytest.mark.parametrize(
    ("image", "digest", "pinned"),
    [
        (f"{REPOSITORY}:latest", DIGEST, f"{REPOSITORY}@{DIGEST}"),
        (REPOSITORY, DIGEST, f"{REPOSITORY}@{DIGEST}"),
        (f"{REPOSITORY}:1@{DIGEST}", DIGEST, f"{REPOSITORY}@{DIGEST}"),
        ("localhost:5000/echo", DIGEST, f"localhost:5000/echo@{DIGEST}"),
        ("echo:2", DIGEST, f"echo@{DIGEST}"),
        ("echo:2", None, None),
    ],
)
@pytest.mark.spec("containers 10.1")
async def test_an_image_is_what_its_tag_stands_for_now(image: str, digest: str | None, pinned: str | None) -> None:
    """Pushing the tag again changes no endpoint; host images have no digest."""
    [variant] = (await resolved(backends(digest), image)).variants
    [container] = variant.containers
    assert (container.image, container.resolved_image) == (image, pinned)


async def test_timeouts_and_routing_are_the_variant_s() -> None:
    """What is not said has the service's default."""
    [plain] = (await resolved(backends())).variants
    assert (plain.startup_timeout_seconds, plain.download_timeout_seconds) == (480.0, 3600.0)
    assert plain.routing is RoutingStrategy.LEAST_OUTSTANDING_REQUESTS
    [said] = (
        await resolved(
            backends(),
            ContainerStartupHealthCheckTimeoutInSeconds=60,
            ModelDataDownloadTimeoutInSeconds=90,
            RoutingConfig={"RoutingStrategy": "RANDOM"},
        )
    ).variants
    assert (said.startup_timeout_seconds, said.download_timeout_seconds) == (60.0, 90.0)
    assert said.routing is RoutingStrategy.RANDOM


async def test_data_capture_is_read_with_its_defaults() -> None:
    """Enabled unless told otherwise, without lists of types nothing is text."""
    least = {
        "InitialSamplingPercentage": 20,
        "DestinationS3Uri": "s3://shop/captured",
        "CaptureOptions": [{"CaptureMode": "Output"}, {"CaptureMode": "Input"}],
    }
    assert (await resolved(backends())).capture is None
    expected = DataCapture(
        destination="s3://shop/captured", sampling_percentage=20, modes=(CaptureMode.INPUT, CaptureMode.OUTPUT)
    )
    assert (await resolved(backends(), capture=least)).capture == expected
    more = {
        **least,
        "EnableCapture": False,
        "CaptureOptions": [{"CaptureMode": "InputAndOutput"}],
        "KmsKeyId": "k",
        "CaptureContentTypeHeader": {"CsvContentTypes": ["text/csv"], "JsonContentTypes": ["application/json"]},
    }
    capture = (await resolved(backends(), capture=more)).capture
    assert capture is not None
    assert (capture.enabled, capture.kms_key) == (False, "k")
    assert (capture.csv_types, capture.json_types) == (("text/csv",), ("application/json",))
    assert capture.modes == expected.modes


async def test_a_destination_that_is_no_s3_uri_is_refused() -> None:
    """The error names the member and the value."""
    capture = {
        "InitialSamplingPercentage": 20,
        "DestinationS3Uri": "https://shop/captured",
        "CaptureOptions": [{"CaptureMode": "Output"}],
    }
    with pytest.raises(ApiError, match=r"dataCaptureConfig\.destinationS3Uri: .* got 'https://shop/captured'"):
        await resolved(backends(), capture=capture)


async def test_a_destination_leaves_room_for_the_keys_of_calls() -> None:
    """Its bytes count: what is written below it is an object with a key of at most 1,024 bytes."""
    capture = {"InitialSamplingPercentage": 20, "CaptureOptions": [{"CaptureMode": "Output"}]}
    call = CapturedCall(
        endpoint="e" * 63, variant="v" * 63, input_type=None, input_body=b"", output_type=None, output_body=b""
    )
    longest = capture_key(call, datetime(2026, 1, 31, tzinfo=UTC), "i" * 36)
    room = 1024 - len(f"/{longest}")
    fitting = await resolved(backends(), capture={**capture, "DestinationS3Uri": f"s3://shop/{'x' * room}"})
    assert fitting.capture is not None
    with pytest.raises(ApiError, match=rf"destinationS3Uri: .* at most {room} bytes .* got 1000 bytes"):
        await resolved(backends(), capture={**capture, "DestinationS3Uri": "s3://shop/" + "é" * 500})
