"""LogStore: lines of jobs and endpoints, by group and stream, as CloudWatch Logs names them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["LogEvent", "LogGroup", "LogPage", "LogStore", "LogStream", "NoSuchLogStream"]


class NoSuchLogStream(Exception):
    """The group or stream does not exist."""


@dataclass(frozen=True, slots=True)
class LogEvent:
    """One line: epoch milliseconds and text without its line end."""

    timestamp_ms: int
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LogGroup:
    """One group, such as /aws/sagemaker/TrainingJobs."""

    name: str
    created_ms: int
    stored_bytes: int
    retention_days: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class LogStream:
    """One stream of a group, such as my-job/algo-1-1700000000."""

    name: str
    created_ms: int
    first_event_ms: int | None
    last_event_ms: int | None
    stored_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LogPage:
    """Events of one stream and the byte offsets between which they stand; `offsets` has that of each event."""

    events: Sequence[LogEvent]
    start_offset: int
    end_offset: int
    offsets: Sequence[int] = ()


class LogStore(Protocol):
    """Append-only streams of lines. One writer per stream at a time; any number of readers, also while it grows."""

    def append(self, group: str, stream: str, events: Sequence[LogEvent]) -> None:
        """Add events in the order given; they are readable when this returns. Makes group and stream as needed."""
        ...

    def create(self, group: str, stream: str | None = None) -> bool:
        """Make a group, or a stream in it; return False if it was there."""
        ...

    def configure(
        self, group: str, *, retention_days: int | None = None, tags: Mapping[str, str] | None = None
    ) -> None:
        """Keep what users say about a group (None: nothing said); raises NoSuchLogStream if the group is missing."""
        ...

    def list_groups(self, prefix: str = "") -> list[LogGroup]:
        """Return groups by name."""
        ...

    def list_streams(self, group: str, prefix: str = "") -> list[LogStream]:
        """Return streams by name; raises NoSuchLogStream if the group is missing."""
        ...

    def read(
        self,
        group: str,
        stream: str,
        *,
        offset: int = 0,
        limit: int = 10_000,
        start_ms: int | None = None,
        end_ms: int | None = None,
    ) -> LogPage:
        """Return at most `limit` events (and about 1 MB) from a byte offset on; times are [start, end)."""
        ...

    def read_back(
        self,
        group: str,
        stream: str,
        *,
        offset: int | None = None,
        limit: int = 10_000,
        start_ms: int | None = None,
        end_ms: int | None = None,
    ) -> LogPage:
        """Return the last at most `limit` events before a byte offset (None: the end), in order."""
        ...

    def delete(self, group: str, stream: str | None = None) -> None:
        """Remove a stream, or a whole group."""
        ...
