"""What an endpoint serves: variants of resolved models."""

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["EndpointSpec", "ModelContainer", "ModelData", "Variant"]


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """A share of an endpoint's traffic and the instances that serve it."""

    name: str
    model: str
    containers: tuple[ModelContainer, ...]
    instance_count: int = 1
    weight: float = 1.0
    instance_type: str | None = None
    startup_timeout_seconds: float = 480.0
    serverless: Mapping[str, int] | None = None
    """MemorySizeInMB and MaxConcurrency of a serverless variant."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EndpointSpec:
    """An endpoint configuration with its models resolved: it keeps working when those are deleted."""

    config: str
    variants: tuple[Variant, ...]

    def variant(self, name: str) -> Variant | None:
        """Return the variant of that name, or None."""
        return next((variant for variant in self.variants if variant.name == name), None)
