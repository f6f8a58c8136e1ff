"""What a training job was asked to do, with every default filled in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from millrace.jobs.channel import Channel
from millrace.jobs.hosts import InstanceGroup, host_names
from millrace.names import ObjectPrefix

__all__ = [
    "CheckpointConfig",
    "MetricDefinition",
    "MetricValue",
    "TrainingOutcome",
    "TrainingSpec",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricDefinition:
    """A metric's name and the expression whose first group is its value in a log line."""

    name: str
    regex: str


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricValue:
    """The last value of a metric, and when it was logged."""

    name: str
    value: float
    at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointConfig:
    """Where checkpoints live in the store, and in the container."""

    target: ObjectPrefix
    local_path: str = "/opt/ml/checkpoints"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingSpec:
    """What the client asked for."""

    image: str
    output: ObjectPrefix
    groups: tuple[InstanceGroup, ...]
    role: str = ""
    entrypoint: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    hyperparameters: Mapping[str, str] = field(default_factory=dict)
    channels: tuple[Channel, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    metrics: tuple[MetricDefinition, ...] = ()
    checkpoints: CheckpointConfig | None = None
    debug_hook: Mapping[str, Any] | None = None
    """Configuration of the debugger's hook, for libraries in the image; handed on as it came."""
    compress_output: bool = True
    network_isolation: bool = False
    max_runtime_seconds: int = 86_400

    @property
    def hosts(self) -> tuple[str, ...]:
        """Names of all hosts, algo-1 first."""
        return host_names(self.groups)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingOutcome:
    """How a training job's containers ended.

    `failure_reason` is the whole FailureReason, or None. `model` is the URI of the model artifact if one was uploaded.
    """

    failure_reason: str | None = None
    stopped: bool = False
    time_limit_reached: bool = False
    model: str | None = None
    metrics: tuple[MetricValue, ...] = ()
    training_seconds: int = 0
