"""A named input of a job: which objects, and how they reach the containers."""

from dataclasses import dataclass
from enum import StrEnum

from millrace.names import ObjectPrefix

__all__ = ["Channel", "ChannelSource", "Distribution", "InputMode", "RecordWrapper"]


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
    groups: tuple[str, ...] = ()
    """Names of the instance groups whose hosts get it; empty for all."""
