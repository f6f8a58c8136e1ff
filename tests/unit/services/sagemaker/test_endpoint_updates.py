"""What an update takes over, and which roll-outs are refused."""

from typing import Any

import pytest

from millrace.errors import ValidationError
from millrace.jobs.endpoint import CaptureMode, DataCapture, EndpointSpec, ModelContainer, Variant
from millrace.services.sagemaker.endpoint_updates import check_deployment, retained

CAPTURE = DataCapture(destination="s3://shop/captured", sampling_percentage=5, modes=(CaptureMode.INPUT,))


def spec(*variants: tuple[str, int, float], model: str = "m", capture: DataCapture | None = None) -> EndpointSpec:
    containers = (ModelContainer(image="knn:1"),)
    return EndpointSpec(
        config=model,
        variants=tuple(
            Variant(name=name, model=model, containers=containers, instance_count=count, weight=weight)
            for name, count, weight in variants
        ),
        capture=capture,
    )


@pytest.mark.parametrize(
    ("excluded", "counts", "weights", "capture"),
    [
        ([], [3, 1], [7.0, 1.0], CAPTURE),
        (["DesiredWeight"], [3, 1], [1.0, 1.0], CAPTURE),
        (["DesiredInstanceCount"], [1, 1], [7.0, 1.0], CAPTURE),
        (["DataCaptureConfig", "DesiredWeight", "DesiredInstanceCount"], [1, 1], [1.0, 1.0], None),
    ],
)
@pytest.mark.spec("endpoints E-22")
def test_properties_are_retained_unless_excluded(
    excluded: list[str], counts: list[int], weights: list[float], capture: DataCapture | None
) -> None:
    """Counts, weights and data capture as they are now; the models are the new ones, and so are new variants."""
    current = spec(("a", 3, 7.0), ("gone", 9, 9.0), model="old", capture=CAPTURE)
    wanted = spec(("a", 1, 1.0), ("b", 1, 1.0), model="new")
    found = retained(wanted, current, [{"VariantPropertyType": name} for name in excluded])
    assert [variant.instance_count for variant in found.variants] == counts
    assert [variant.weight for variant in found.variants] == weights
    assert {variant.model for variant in found.variants} == {"new"}
    assert found.capture == capture


@pytest.mark.parametrize(
    "config",
    [
        None,
        {},
        {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}}},
    ],
)
def test_all_traffic_at_once_is_what_we_do(config: Any) -> None:
    """With or without saying so."""
    check_deployment(config)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (
            {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": {"Type": "CANARY", "WaitIntervalInSeconds": 0}}},
            "Type must be ALL_AT_ONCE in Millrace, got 'CANARY'",
        ),
        ({"RollingUpdatePolicy": {"MaximumBatchSize": {}}}, r"DeploymentConfig\.RollingUpdatePolicy is not supported"),
        ({"AutoRollbackConfiguration": {"Alarms": [{}]}}, "AutoRollbackConfiguration is not supported"),
    ],
)
def test_other_roll_outs_are_refused_by_name(config: Any, text: str) -> None:
    """Rather than done in another way than asked for."""
    with pytest.raises(ValidationError, match=text):
        check_deployment(config)
