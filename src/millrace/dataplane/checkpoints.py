"""Commit the outputs of an instance in parts: whoever takes its work up invokes nothing again that is committed.

Theory. While an object's output is written, every now and then all of it that is written is made durable, and then the
journal is told up to which byte of the input it reaches: that is a committed part. Who goes on after a crash cuts the
draft of the output to that length, reads the input on from that byte, and forms the same payloads as if nothing had
happened, for where a payload ends depends only on where it begins. An output that is complete carries a note of who
made it, out of what, and how many records that were: it is not made again.

A part costs a sync of the disk and a transaction. The pause between two parts is a multiple of what the last one took,
so that all of them cost at most a given share of the job, however slow the disk is.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import orjson

from millrace.dataplane.counts import Counts
from millrace.dataplane.plan import InputObject
from millrace.ports.journal import Journal

__all__ = ["Checkpoints", "Origin", "Position"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """How far an object's output is committed."""

    input_version: str
    draft: str
    """The name of the draft that holds the output."""
    offset: int
    """Bytes of the (decompressed) input whose results are in the output."""
    output_bytes: int
    error_bytes: int
    """Of the object that tells of bad records; 0 while there is none."""
    counts: Counts


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """What a finished output tells of itself: which work made it, of which version of the input."""

    work: str
    input_version: str
    counts: Counts

    def encode(self) -> str:
        return orjson.dumps(asdict(self)).decode()

    @classmethod
    def decode(cls, text: str) -> "Origin | None":
        """Return what an output tells of itself; None if it tells nothing that can be read."""
        try:
            members = orjson.loads(text)
            return cls(**{**members, "counts": Counts(**members["counts"])})
        except (ValueError, TypeError, KeyError):
            return None


@dataclass(kw_only=True, slots=True)
class Checkpoints:
    """The journal of one instance's share of a job.

    `work` names the job. `earlier` are the names of the job that this one resumes, and of those that that one resumed,
    the latest first. `share` is the part of the time that committing parts may take, `pause_seconds` the
    shortest time between two of one object. `resumes` tells whether anything may have been done before.
    """

    journal: Journal
    work: str
    earlier: Sequence[str] = ()
    resumes: bool = False
    share: float = 0.02
    pause_seconds: float = 0.2
    found: Mapping[str, bytes] = field(default_factory=dict)
    """Entries of the journal as they were when the work began."""

    async def take_up(self, inputs: Iterable[InputObject], resumed: Sequence[int]) -> None:
        """Find what was done before; what other jobs' journals tell of these objects is taken over. Raises LeaseLost.

        Args:
            inputs: The objects of this instance.
            resumed: The jobs that this one goes on with, the latest first.
        """
        if resumed:
            await self.journal.take_over(resumed, [_key(entry) for entry in inputs])
        self.found = await self.journal.load()

    @property
    def family(self) -> str:
        """What outputs tell of who made them: the first of the jobs that go on with each other's work.

        So a job knows the outputs of all others that resume the same one, not only of those before it.
        """
        return self.earlier[-1] if self.earlier else self.work

    def draft(self, entry: InputObject) -> str:
        """Return the name of the draft of an object's output."""
        return _draft(self.work, entry)

    def earlier_drafts(self, entry: InputObject) -> list[str]:
        """Return the names that drafts of an object's output may have that earlier jobs have left."""
        return [_draft(work, entry) for work in self.earlier]

    def position(self, entry: InputObject) -> Position | None:
        """Return how far an object was done, None if it was not begun or has changed since."""
        text = self.found.get(_key(entry))
        if text is None:
            return None
        try:
            members = orjson.loads(text)
            position = Position(**{**members, "counts": Counts(**members["counts"])})
        except (ValueError, TypeError, KeyError):
            return None
        return position if position.input_version == entry.version and entry.version else None

    async def save(self, entry: InputObject, position: Position) -> None:
        """Commit a part; raises LeaseLost."""
        await self.journal.save({_key(entry): orjson.dumps(asdict(position))})

    async def forget(self, entry: InputObject) -> None:
        """Forget the parts of an object whose output is complete or thrown away; raises LeaseLost."""
        await self.journal.save({_key(entry): None})

    def made_by_us(self, origin: Origin | None, entry: InputObject) -> bool:
        """Return whether an output is that of this object as it is, made by this work."""
        return origin is not None and origin.work == self.family and origin.input_version == entry.version != ""


def _draft(work: str, entry: InputObject) -> str:
    return hashlib.sha256(f"{work}\n{entry.output}".encode()).hexdigest()[:40]


def _key(entry: InputObject) -> str:
    return str(entry.output)
