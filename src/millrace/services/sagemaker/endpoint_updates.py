"""What an update of an endpoint takes over from the endpoint as it is, and how it may be rolled out."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from millrace.errors import ValidationError
from millrace.jobs.endpoint import EndpointSpec, Variant

__all__ = ["check_deployment", "retained"]

_INSTANCE_COUNT, _WEIGHT, _CAPTURE = "DesiredInstanceCount", "DesiredWeight", "DataCaptureConfig"


def check_deployment(config: Mapping[str, Any] | None) -> None:
    """Refuse roll-outs that we don't do: an update moves all traffic at once.

    Raises:
        ValidationError: Canary, linear or rolling, or rolled back by alarms.
    """
    if not config:
        return
    for member in ("RollingUpdatePolicy", "AutoRollbackConfiguration"):
        if config.get(member):
            raise ValidationError(f"DeploymentConfig.{member} is not supported by Millrace yet")
    kind = ((config.get("BlueGreenUpdatePolicy") or {}).get("TrafficRoutingConfiguration") or {}).get("Type")
    if kind not in (None, "ALL_AT_ONCE"):
        raise ValidationError(
            "DeploymentConfig.BlueGreenUpdatePolicy.TrafficRoutingConfiguration.Type must be ALL_AT_ONCE in Millrace, "
            f"got {kind!r}"
        )


def retained(wanted: EndpointSpec, current: EndpointSpec, excluded: Sequence[Mapping[str, Any]]) -> EndpointSpec:
    """Return what is wanted with the properties of the variants and the data capture that are in effect now.

    Args:
        wanted: The new configuration.
        current: What is served.
        excluded: Properties to be taken from the new configuration all the same, as `VariantPropertyType`.

    Source:
        endpoints-triggers.md 5, RetainAllVariantProperties.
    """
    taken = {entry["VariantPropertyType"] for entry in excluded}
    return replace(
        wanted,
        variants=tuple(_retained(variant, current.variant(variant.name), taken) for variant in wanted.variants),
        capture=wanted.capture if _CAPTURE in taken else current.capture,
    )


def _retained(wanted: Variant, current: Variant | None, taken: set[str]) -> Variant:
    if current is None:
        return wanted
    return replace(
        wanted,
        instance_count=wanted.instance_count if _INSTANCE_COUNT in taken else current.instance_count,
        weight=wanted.weight if _WEIGHT in taken else current.weight,
    )
