"""Models, endpoint configurations and endpoints through boto3, on a real server with real containers."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.integration.platform import ROLE, Platform, wait_until


def variant(name: str, model: str, **members: Any) -> dict[str, Any]:
    return {
        "VariantName": name,
        "ModelName": model,
        "InitialInstanceCount": 1,
        "InstanceType": "ml.m5.large",
        "InitialVariantWeight": 1.0,
        **members,
    }


@pytest.fixture(scope="module")
def models(platform: Platform) -> dict[str, str]:
    return {who: platform.model(f"who-{who}", MODE="who", WHO=who) for who in ("red", "blue", "green")}


@pytest.fixture(scope="module")
def endpoint(platform: Platform, models: dict[str, str]) -> Iterator[str]:
    """An endpoint with two variants of weights 3 and 1."""
    create(
        platform,
        "colours",
        variant("red", models["red"], InitialVariantWeight=3.0),
        variant("blue", models["blue"]),
    )
    yield "colours"
    delete(platform, "colours")


def create(platform: Platform, name: str, *variants: dict[str, Any]) -> dict[str, Any]:
    """Create configuration and endpoint and wait until the endpoint is no longer Creating."""
    sagemaker = platform.client("sagemaker")
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=list(variants))
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    return settled(platform, name)


def settled(platform: Platform, name: str) -> dict[str, Any]:
    sagemaker = platform.client("sagemaker")

    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = sagemaker.describe_endpoint(EndpointName=name)
        return found if found["EndpointStatus"] in ("InService", "Failed") else None

    return wait_until(f"{name} settled", look)


def delete(platform: Platform, name: str) -> None:
    sagemaker = platform.client("sagemaker")
    sagemaker.delete_endpoint_config(EndpointConfigName=name)
    sagemaker.delete_endpoint(EndpointName=name)
    wait_until(f"{name} deleted", lambda: not exists(platform, name))


def exists(platform: Platform, name: str) -> bool:
    try:
        platform.client("sagemaker").describe_endpoint(EndpointName=name)
    except ClientError as error:
        assert "Could not find endpoint" in str(error)
        return False
    return True


def ask(platform: Platform, name: str, body: bytes = b"x", **members: Any) -> tuple[bytes, dict[str, Any]]:
    answer = platform.client("sagemaker-runtime").invoke_endpoint(EndpointName=name, Body=body, **members)
    return answer["Body"].read(), answer


def test_an_endpoint_describes_its_variants(platform: Platform, endpoint: str) -> None:
    """Weights and counts are told once it is in service."""
    found = platform.client("sagemaker").describe_endpoint(EndpointName=endpoint)
    assert found["EndpointStatus"] == "InService"
    told = {it["VariantName"]: (it["CurrentWeight"], it["CurrentInstanceCount"]) for it in found["ProductionVariants"]}
    assert told == {"red": (3.0, 1), "blue": (1.0, 1)}


def test_traffic_follows_the_weights(platform: Platform, endpoint: str) -> None:
    """Both variants answer, the heavier one more often; the answer names its variant."""
    answers = [ask(platform, endpoint) for _ in range(80)]
    assert all(body.decode() == answer["InvokedProductionVariant"] for body, answer in answers)
    count = sum(body == b"red" for body, _ in answers)
    assert 40 < count < 80


def test_a_variant_can_be_named(platform: Platform, endpoint: str) -> None:
    """TargetVariant overrides the weights; an unknown one is a validation error."""
    assert {ask(platform, endpoint, TargetVariant="blue")[0] for _ in range(10)} == {b"blue"}
    with pytest.raises(ClientError, match=r"ValidationError.*pink"):
        ask(platform, endpoint, TargetVariant="pink")


def test_bytes_arrive_unchanged(platform: Platform, models: dict[str, str]) -> None:
    """Five megabytes of any bytes go through to the container and back."""
    model = platform.model("echo", MODE="echo")
    create(platform, "echoing", variant("AllTraffic", model))
    blob = bytes(range(256)) * 20_000
    body, answer = ask(platform, "echoing", blob, ContentType="application/x-test")
    assert body == blob
    assert answer["ContentType"] == "text/csv"
    delete(platform, "echoing")


def test_a_container_s_error_is_a_model_error(platform: Platform) -> None:
    """Status and text of the container are told."""
    model = platform.model("teapot", MODE="status", STATUS="418")
    create(platform, "teapots", variant("AllTraffic", model))
    runtime = platform.client("sagemaker-runtime")
    with pytest.raises(runtime.exceptions.ModelError) as raised:
        ask(platform, "teapots")
    response = raised.value.response
    assert response["OriginalStatusCode"] == 418
    assert response["OriginalMessage"] == "the model says no"
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 424
    delete(platform, "teapots")


def test_an_unknown_endpoint_is_told(platform: Platform) -> None:
    """The runtime calls it a ValidationError."""
    with pytest.raises(ClientError, match=r"ValidationError.*Endpoint nobody of account 000000000000 not found\."):
        ask(platform, "nobody")


def test_an_update_loses_no_request(platform: Platform, models: dict[str, str]) -> None:
    """While the model is swapped every request is answered, by the old or the new one."""
    sagemaker = platform.client("sagemaker")
    create(platform, "swapped", variant("AllTraffic", models["red"]))
    sagemaker.create_endpoint_config(
        EndpointConfigName="swapped-2", ProductionVariants=[variant("AllTraffic", models["green"])]
    )
    seen: list[bytes] = []
    stop = threading.Event()

    def hammer() -> None:
        while not stop.is_set():
            seen.append(ask(platform, "swapped")[0])

    thread = threading.Thread(target=hammer)
    thread.start()
    sagemaker.update_endpoint(EndpointName="swapped", EndpointConfigName="swapped-2")
    wait_until("the new model", lambda: b"green" in seen)
    stop.set()
    thread.join()
    assert set(seen) == {b"red", b"green"}
    assert settled(platform, "swapped")["EndpointConfigName"] == "swapped-2"
    sagemaker.delete_endpoint_config(EndpointConfigName="swapped-2")
    delete(platform, "swapped")


def test_weights_and_counts_change_at_run_time(platform: Platform, models: dict[str, str]) -> None:
    """Weight 0 gets no traffic; another count is reached."""
    sagemaker = platform.client("sagemaker")
    create(platform, "shifted", variant("red", models["red"]), variant("blue", models["blue"]))
    wanted = [
        {"VariantName": "red", "DesiredWeight": 0},
        {"VariantName": "blue", "DesiredWeight": 1, "DesiredInstanceCount": 2},
    ]
    sagemaker.update_endpoint_weights_and_capacities(EndpointName="shifted", DesiredWeightsAndCapacities=wanted)
    found = settled(platform, "shifted")
    assert {it["VariantName"]: it["CurrentInstanceCount"] for it in found["ProductionVariants"]} == {
        "red": 1,
        "blue": 2,
    }
    assert {ask(platform, "shifted")[0] for _ in range(20)} == {b"blue"}
    with pytest.raises(ClientError, match="no production variant 'pink'"):
        sagemaker.update_endpoint_weights_and_capacities(
            EndpointName="shifted", DesiredWeightsAndCapacities=[{"VariantName": "pink", "DesiredWeight": 1}]
        )
    delete(platform, "shifted")


def test_a_container_that_dies_fails_the_endpoint(platform: Platform) -> None:
    """The reason speaks of the ping health check, and why it was not passed."""
    model = platform.model("unlicensed", MODE="exit")
    found = create(platform, "unlicensed", variant("AllTraffic", model))
    assert found["EndpointStatus"] == "Failed"
    assert "did not pass the ping health check" in found["FailureReason"]
    assert "status 9" in found["FailureReason"]
    assert "no licence" in found["FailureReason"]
    delete(platform, "unlicensed")


def test_endpoints_are_served_again_after_a_restart(own_platform: Platform) -> None:
    """A clean stop leaves no model server behind; the next server starts them again. A kill leaves them serving."""
    model = own_platform.model("who", MODE="who", WHO="me")
    create(own_platform, "kept", variant("AllTraffic", model))
    assert own_platform.stop() == 0
    own_platform.start()
    assert wait_until("service", lambda: answered(own_platform, "kept")) == b"me"
    own_platform.kill()
    own_platform.start()
    assert wait_until("service", lambda: answered(own_platform, "kept")) == b"me"


def answered(platform: Platform, name: str) -> bytes | None:
    try:
        return ask(platform, name)[0]
    except ClientError as error:
        assert error.response["Error"]["Code"] in ("ServiceUnavailable", "ModelError")
        return None


@pytest.mark.parametrize(
    ("call", "members", "text"),
    [
        ("describe_model", {"ModelName": "nobody"}, 'Could not find model "arn:'),
        ("delete_model", {"ModelName": "nobody"}, "Could not find model"),
        ("describe_endpoint_config", {"EndpointConfigName": "nobody"}, "Could not find endpoint configuration"),
        ("delete_endpoint_config", {"EndpointConfigName": "nobody"}, "Could not find endpoint configuration"),
        ("describe_endpoint", {"EndpointName": "nobody"}, "Could not find endpoint"),
        ("delete_endpoint", {"EndpointName": "nobody"}, "Could not find endpoint"),
        (
            "create_endpoint",
            {"EndpointName": "e", "EndpointConfigName": "nobody"},
            "Could not find endpoint configuration",
        ),
        (
            "create_endpoint_config",
            {"EndpointConfigName": "c", "ProductionVariants": [variant("v", "nobody")]},
            "Could not find model",
        ),
        ("create_model", {"ModelName": "m", "ExecutionRoleArn": ROLE}, "PrimaryContainer"),
        (
            "create_model",
            {
                "ModelName": "m",
                "ExecutionRoleArn": ROLE,
                "PrimaryContainer": {"Image": "knn:1"},
                "Containers": [{"Image": "knn:1"}],
            },
            "not both",
        ),
    ],
)
def test_bad_requests_are_refused(platform: Platform, call: str, members: dict[str, Any], text: str) -> None:
    """The codes and texts are those that clients match."""
    with pytest.raises(ClientError) as raised:
        getattr(platform.client("sagemaker"), call)(**members)
    assert raised.value.response["Error"]["Code"] == "ValidationException"
    assert text in str(raised.value)


def test_taken_names_are_refused(platform: Platform, models: dict[str, str], endpoint: str) -> None:
    """The SDK swallows exactly this text and reuses what is there."""
    sagemaker = platform.client("sagemaker")
    config = {"EndpointConfigName": endpoint, "ProductionVariants": [variant("v", models["red"])]}
    model = {"ModelName": models["red"], "ExecutionRoleArn": ROLE, "PrimaryContainer": {"Image": "knn:1"}}
    for call, members in (
        ("create_model", model),
        ("create_endpoint_config", config),
        ("create_endpoint", {"EndpointName": endpoint, "EndpointConfigName": endpoint}),
    ):
        with pytest.raises(ClientError, match=r"ValidationException.*Cannot create already existing"):
            getattr(sagemaker, call)(**members)


def test_models_are_listed_in_pages(platform: Platform) -> None:
    """Sorting, filters and tokens work as for jobs."""
    names = [platform.model(f"many-{number}") for number in range(5)]
    sagemaker = platform.client("sagemaker")
    pages = sagemaker.get_paginator("list_models").paginate(
        NameContains="many-", SortBy="Name", SortOrder="Ascending", PaginationConfig={"PageSize": 2}
    )
    assert [it["ModelName"] for page in pages for it in page["Models"]] == names
    newest = sagemaker.list_models(NameContains="many-", MaxResults=2)["Models"]
    assert [it["ModelName"] for it in newest] == ["many-4", "many-3"]
    found = sagemaker.describe_model(ModelName="many-0")
    assert found["PrimaryContainer"]["Image"].endswith("brought:latest")
    sagemaker.delete_model(ModelName="many-0")
    assert "many-0" not in [it["ModelName"] for it in sagemaker.list_models(NameContains="many-")["Models"]]


def test_endpoints_are_listed_by_name_and_status(platform: Platform, endpoint: str) -> None:
    """Both filters hold."""
    sagemaker = platform.client("sagemaker")
    found = sagemaker.list_endpoints(NameContains="colour", StatusEquals="InService")["Endpoints"]
    assert [it["EndpointName"] for it in found] == [endpoint]
    assert sagemaker.list_endpoints(NameContains="colour", StatusEquals="Failed")["Endpoints"] == []
    configs = sagemaker.list_endpoint_configs(NameContains="colour")["EndpointConfigs"]
    assert [it["EndpointConfigName"] for it in configs] == [endpoint]


def test_the_containers_log_is_the_endpoint_s(platform: Platform, endpoint: str) -> None:
    """Lines are under the endpoint's group, a stream for each instance of a variant."""
    lines = wait_until("log", lambda: platform.log(f"/aws/sagemaker/Endpoints/{endpoint}", "red/"))
    assert lines[0].startswith("serving who")


def test_a_body_over_the_limit_is_refused_without_repeating_it(platform: Platform, endpoint: str) -> None:
    """Six megabytes are the service's limit; the error tells the size, not the bytes."""
    with pytest.raises(ClientError, match=r"ValidationError.*Value of 6291457 bytes at 'body'") as raised:
        ask(platform, endpoint, b"x" * 6291457)
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413


def test_bad_targets_and_roll_outs_are_refused(platform: Platform, endpoint: str) -> None:
    """Rather than done in another way than asked for."""
    for member in ("TargetModel", "TargetContainerHostname", "InferenceComponentName"):
        with pytest.raises(ClientError, match=f"ValidationError.*{member} must not be given"):
            ask(platform, endpoint, b"x", **{member: "x"})
    canary = {"TrafficRoutingConfiguration": {"Type": "CANARY", "WaitIntervalInSeconds": 1}}
    with pytest.raises(ClientError, match=r"ValidationException.*must be ALL_AT_ONCE"):
        platform.client("sagemaker").update_endpoint(
            EndpointName=endpoint,
            EndpointConfigName=endpoint,
            DeploymentConfig={"BlueGreenUpdatePolicy": canary},
        )


def test_a_request_without_any_weight_names_a_variant(platform: Platform, models: dict[str, str]) -> None:
    """All weights 0: nobody can be drawn, but a variant can be named."""
    create(platform, "weightless", variant("v", models["red"], InitialVariantWeight=0.0))
    with pytest.raises(ClientError, match=r"ValidationError.*weight 0"):
        ask(platform, "weightless")
    assert ask(platform, "weightless", TargetVariant="v")[0] == b"red"
    delete(platform, "weightless")


def test_variants_keep_their_counts_over_an_update_if_asked(platform: Platform, models: dict[str, str]) -> None:
    """RetainAllVariantProperties takes the weights and counts of now, not those of the new configuration."""
    sagemaker = platform.client("sagemaker")
    create(platform, "retained", variant("v", models["red"], InitialInstanceCount=2))
    sagemaker.create_endpoint_config(
        EndpointConfigName="retained-2", ProductionVariants=[variant("v", models["green"], InitialInstanceCount=1)]
    )
    sagemaker.update_endpoint(EndpointName="retained", EndpointConfigName="retained-2", RetainAllVariantProperties=True)
    assert settled(platform, "retained")["ProductionVariants"][0]["CurrentInstanceCount"] == 2
    assert {ask(platform, "retained")[0] for _ in range(4)} == {b"green"}
    sagemaker.delete_endpoint_config(EndpointConfigName="retained-2")
    delete(platform, "retained")


def test_a_container_that_dies_in_service_is_started_again_and_its_log_says_why(platform: Platform) -> None:
    """Meanwhile calls are refused in a way that clients repeat."""
    model = platform.model("mortal", MODE="die")
    create(platform, "mortal", variant("v", model))
    runtime = platform.client("sagemaker-runtime")
    with pytest.raises(runtime.exceptions.ModelError, match="dropped the connection"):
        ask(platform, "mortal")
    group = "/aws/sagemaker/Endpoints/mortal"
    wait_until(
        "the log", lambda: any("exited with status 7 while it was in service" in it for it in platform.log(group, "v/"))
    )
    wait_until("the next one", lambda: sum("serving die" in it for it in platform.log(group, "v/")) == 2)
    assert settled(platform, "mortal")["EndpointStatus"] == "InService"
    delete(platform, "mortal")


def test_weights_of_a_failed_endpoint_are_refused(platform: Platform) -> None:
    """There is nothing that could serve them."""
    model = platform.model("unlicensed-too", MODE="exit")
    assert create(platform, "failed-weights", variant("v", model))["EndpointStatus"] == "Failed"
    with pytest.raises(ClientError, match="in status Failed"):
        platform.client("sagemaker").update_endpoint_weights_and_capacities(
            EndpointName="failed-weights", DesiredWeightsAndCapacities=[{"VariantName": "v", "DesiredWeight": 2}]
        )
    delete(platform, "failed-weights")


def test_waiters_learn_at_once_that_an_endpoint_is_there_or_gone(platform: Platform, models: dict[str, str]) -> None:
    """boto3's waiters would look again after half a minute; their first look is held."""
    sagemaker = platform.client("sagemaker")
    once = {"Delay": 3600, "MaxAttempts": 1}
    sagemaker.create_endpoint_config(EndpointConfigName="awaited", ProductionVariants=[variant("v", models["red"])])
    sagemaker.create_endpoint(EndpointName="awaited", EndpointConfigName="awaited")
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="awaited", WaiterConfig=once)
    assert ask(platform, "awaited")[0] == b"red"
    sagemaker.delete_endpoint(EndpointName="awaited")
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName="awaited", WaiterConfig=once)
    assert not exists(platform, "awaited")
