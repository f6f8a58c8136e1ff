"""What an endpoint serves: variants of resolved models."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = [
    "CaptureMode",
    "DataCapture",
    "EndpointSpec",
    "ExecutionMode",
    "ModelContainer",
    "ModelData",
    "RoutingStrategy",
    "Variant",
]


class RoutingStrategy(StrEnum):
    """How an instance of a variant is chosen; the values are the wire's."""

    LEAST_OUTSTANDING_REQUESTS = "LEAST_OUTSTANDING_REQUESTS"
    RANDOM = "RANDOM"


class ExecutionMode(StrEnum):
    """How the several containers of a model are asked; the values are the wire's."""

    SERIAL = "Serial"
    """One after the other, each with the answer of the one before."""
    DIRECT = "Direct"
    """Each by itself: a request names its container."""


class CaptureMode(StrEnum):
    """Which side of a call is captured; the values are those in captured records."""

    INPUT = "INPUT"
    OUTPUT = "OUTPUT"


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelData:
    """Where a model's files are: an archive, one file, or all objects below a prefix."""

    uri: str
    is_prefix: bool = False
    is_gzip: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelContainer:
    """One container of a model."""

    image: str
    data: ModelData | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    hostname: str | None = None
    """What it is called among several."""
    resolved_image: str | None = None
    """The image by its digest, if it has one: what endpoints and transform jobs run stays when its tag moves on."""
    network_isolation: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """A share of an endpoint's traffic and the instances that serve it."""

    name: str
    model: str
    containers: tuple[ModelContainer, ...]
    execution: ExecutionMode = ExecutionMode.SERIAL
    instance_count: int = 1
    weight: float = 1.0
    instance_type: str | None = None
    startup_timeout_seconds: float = 480.0
    download_timeout_seconds: float = 3600.0
    """For bringing the model data."""
    routing: RoutingStrategy = RoutingStrategy.LEAST_OUTSTANDING_REQUESTS
    serverless: Mapping[str, int] | None = None
    """MemorySizeInMB and MaxConcurrency of a serverless variant."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataCapture:
    """Which calls are written down, and where."""

    destination: str
    sampling_percentage: int
    modes: tuple[CaptureMode, ...]
    enabled: bool = True
    csv_types: tuple[str, ...] = ()
    """Content types captured as text that is CSV; what is in neither list is captured in base64."""
    json_types: tuple[str, ...] = ()
    kms_key: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class EndpointSpec:
    """An endpoint configuration with its models resolved: it keeps working when those are deleted."""

    config: str
    variants: tuple[Variant, ...]
    capture: DataCapture | None = None

    def variant(self, name: str) -> Variant | None:
        """Return the variant of that name, or None."""
        return next((variant for variant in self.variants if variant.name == name), None)
