"""Bound what one instance holds in memory."""

from dataclasses import dataclass

from millrace.jobs.transform import MIB

__all__ = ["Budget", "Limits"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Every bound of the transform loop. One payload and its answer are always let through, however big."""

    chunk_bytes: int = MIB
    """Bytes of an object that are read, and decompressed, at a time; room for as much is awaited first."""
    inflight_bytes: int = 48 * MIB
    """Bytes of payloads and answers held, from reading until the result is written."""
    answer_bytes: int = 256 * MIB
    """Longest answer to one request; it fails its object."""
    answers_held: int = 16_384
    """Payloads sent whose results are not written yet, when an early one keeps later ones waiting."""
    objects_open: int = 64
    """Objects in work at a time, each with at most one writer; small ones have none, and count for themselves."""
    small_object_bytes: int = 64 * 1024
    """Objects of up to this size that are one payload are read, and their outputs written, many at a time."""
    small_objects_open: int = 2000
    """Such objects in work at a time, where the store can do that."""
    small_groups: int = 3
    """Groups of their outputs that are written at a time: while one waits for the disk, another one is written."""
    read_ahead_chunks: int = 2
    """Chunks of an object that are read before a request can use them, on top of one payload."""
    write_bytes: int = 256 * 1024
    """Answers are written in batches of about this size."""
    failures_kept: int = 100
    """Failed objects that the outcome tells about in full."""
    answer_snippet_chars: int = 500
    """Characters of a failing answer that are kept for messages."""
    curve_points: int = 256
    """Measurements of the autotuner that the outcome tells."""
    recovery_seconds: float = 30.0
    """How long a container that gave no answer is waited for, before the record that it was asked for counts as bad."""
    losses_to_blame: int = 2
    """How often a record must have been sent by itself, and had no answer, for it to be bad: once may be chance."""
    ends_in_vain: int = 100
    """How often containers of a job that leaves bad records out may end without an answer between, before it fails."""
    payloads_resting: int = 64
    """Payloads of a tuned job that back off without a slot; with more, no new ones are sent."""
    tick_seconds: float = 0.25
    """Time between two looks at request deadlines, and between two progress reports."""


class Budget:
    """Counts held bytes against a limit. Pure: whoever may not take waits elsewhere."""

    __slots__ = ("awaited", "held", "limit", "results")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self.results = 0
        """Payloads that were formed and whose results are not written."""
        self.awaited = False
        """Somebody waits for room."""

    def has_room(self, size: int, *, forming: int = 0) -> bool:
        """Return whether `size` more bytes may be read.

        They may if they fit, or if nothing is held but the `forming` bytes of the very payload they belong to:
        waiting could then never end.
        """
        return self.held + size <= self.limit or self.held <= forming

    def take(self, size: int) -> None:
        """Count bytes as held."""
        self.held += size

    def give_back(self, size: int) -> None:
        """Count bytes as written or dropped."""
        self.held -= size
