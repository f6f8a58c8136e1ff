"""What a training job was asked to do, with every default filled in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from millrace.names import ObjectPrefix

__all__ = [
    "Channel",
    "ChannelSource",
    "CheckpointConfig",
    "Distribution",
    "InputMode",
    "InstanceGroup",
    "MetricDefinition",
    "MetricValue",
    "RecordWrapper",
    "TrainingOutcome",
    "TrainingSpec",
]


class InputMode(StrEnum):
    """How a channel's data reach the container."""

    FILE = "File"
    PIPE = "Pipe"
    FAST_FILE = "FastFile"


class ChannelSource(StrEnum):
    """What a channel's URI names."""

    PREFIX = "S3Prefix"
    MANIFEST = "ManifestFile"


class Distribution(StrEnum):
    """Which hosts get an object."""

    FULLY_REPLICATED = "FullyReplicated"
    SHARDED = "ShardedByS3Key"


class RecordWrapper(StrEnum):
    """Whether Pipe mode frames each object as a RecordIO record."""

    NONE = "None"
    RECORDIO = "RecordIO"


@dataclass(frozen=True, kw_only=True, slots=True)
class Channel:
    """One named input."""

    name: str
    source: ObjectPrefix
    source_type: ChannelSource = ChannelSource.PREFIX
    mode: InputMode = InputMode.FILE
    distribution: Distribution = Distribution.FULLY_REPLICATED
    content_type: str | None = None
    gzip: bool = False
    record_wrapper: RecordWrapper = RecordWrapper.NONE
    shuffle_seed: int | None = None


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
class InstanceGroup:
    """Hosts of one instance type."""

    name: str
    instance_type: str
    count: int


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
    compress_output: bool = True
    max_runtime_seconds: int = 86_400

    @property
    def hosts(self) -> tuple[str, ...]:
        """Names of all hosts, algo-1 first; sort them as text where the contract asks for that."""
        return tuple(f"algo-{number}" for number in range(1, sum(group.count for group in self.groups) + 1))


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
