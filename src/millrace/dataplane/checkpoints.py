"""Commit the outputs of an instance in parts: whoever takes its work up invokes nothing again that is committed.

Theory. While an object's output is written, every now and then all of it that is written is made durable, and then the
journal is told up to which byte of the input it reaches: that is a committed part. Who goes on after a crash cuts the
draft of the output to that length, reads the input on from that byte, and forms the same payloads as if nothing had
happened, for where a payload ends depends only on where it begins. An output that is complete carries a note of who
made it, out of what, and how many records that were: it is not made again.

A part costs a sync of the disk and a transaction. The pause between two parts is a multiple of what the last one took,
so that all of them cost at most a given share of the job, however slow the disk is.
"""

import asyncio
import hashlib
from binascii import b2a_base64
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import lru_cache

import orjson

from millrace.dataplane.counts import Counts
from millrace.dataplane.plan import InputObject
from millrace.ports.journal import Journal

__all__ = ["JOINT_KEY", "Checkpoints", "Origin", "Position", "RangesDone"]

JOINT_KEY = "#joint "
"""Of entries in the journal about a draft that ranges are joined in, before the output; others begin with "s3:"."""


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
    began_at: int = 0
    """Of a range of an object: its first byte in the object."""
    ended_at: int | None = None
    """Of a range that is done: where the next one begins; None before, and of whole objects."""
    answer_columns: int | None = None
    """How many columns answers have, where rows of bad records are to have as many; None if nobody knows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RangesDone:
    """What is done of the ranges of an object: `parts` are those from the first one on that are."""

    parts: Sequence[Position]
    is_all: bool
    joined: int
    """Of them, so many are in the joint draft, in its first `joined_bytes`."""
    joined_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """What a finished output tells of itself: which work made it, of which version of the input.

    It tells both by digests where it can, for what is told of a small object may take more room than the object: so of
    an origin that was found, `work` and `input_version` are for `Checkpoints.made_by_us` only. `joined_by` is the
    instance that put it together, where it is of ranges; see `Checkpoints.me`.
    """

    work: str
    input_version: str
    counts: Counts
    joined_by: str = ""

    def encode(self) -> str:
        if self.joined_by:
            return orjson.dumps(self).decode()  # it knows dataclasses; `asdict` copies deeply
        counts = self.counts
        more = ""
        if counts.failed or counts.filtered:
            more = f" {counts.failed} {counts.filtered} {counts.failed_by_algorithm}"
        return f"{_told_work(self.work)} {_told(self.input_version)} {counts.ok}{more}"

    @classmethod
    def decode(cls, text: str) -> "Origin | None":
        """Return what an output tells of itself; None if it tells nothing that can be read."""
        try:
            if not text.startswith("{"):
                work, version, *numbers = text.split(" ")
                return cls(work=work, input_version=version, counts=_counts(*map(int, numbers)))
            members = orjson.loads(text)
            return cls(**{**members, "counts": Counts(**members["counts"])})
        except (ValueError, TypeError, KeyError):
            return None


def _counts(ok: int, failed: int = 0, filtered: int = 0, failed_by_algorithm: int = 0) -> Counts:
    return Counts(ok=ok, failed=failed, filtered=filtered, failed_by_algorithm=failed_by_algorithm)


def _told(name: str) -> str:
    """Return a digest of 8 bytes, in 11 characters."""
    return b2a_base64(hashlib.blake2b(name.encode(), digest_size=8).digest(), newline=False)[:11].decode()


_told_work = lru_cache(maxsize=16)(_told)


@dataclass(kw_only=True, slots=True)
class Checkpoints:
    """The journal of one instance's share of a job.

    `work` names the job. `earlier` are the names of the job that this one resumes, and of those that that one resumed,
    the latest first. `share` is the part of the time that committing parts may take, `pause_seconds` the
    shortest time between two of one object. `resumes` tells whether anything may have been done before. `job_id` and
    `instance` say whose journal it is.
    """

    journal: Journal
    work: str
    earlier: Sequence[str] = ()
    resumes: bool = False
    share: float = 0.02
    pause_seconds: float = 0.2
    found: Mapping[str, bytes] = field(default_factory=dict)
    """Entries of the journal as they were when the work began."""
    job_id: int = 0
    instance: int = 0

    async def take_up(self, inputs: Iterable[InputObject] | None, resumed: Sequence[int]) -> None:
        """Find what was done before; what other jobs' journals tell of these objects is taken over. Raises LeaseLost.

        Args:
            inputs: The objects of this instance; None for whatever those jobs had, of which it has all.
            resumed: The jobs that this one goes on with, the latest first.
        """
        told = await self._told_by(resumed)
        if told and inputs is not None:
            told = await asyncio.to_thread(_among, told, inputs)
        if told:
            await self.journal.take_over(resumed, told)
        self.found = await self.journal.load()

    async def _told_by(self, jobs: Sequence[int]) -> set[str]:
        """Return the keys of entries about outputs in the journals of other jobs: few, for most are complete."""
        journals = [await self.journal.load_of(job) for job in jobs]
        return {key for held in journals for entries in held.values() for key in entries if key.startswith("s3:")}

    @property
    def family(self) -> str:
        """What outputs tell of who made them: the first of the jobs that go on with each other's work.

        So a job knows the outputs of all others that resume the same one, not only of those before it.
        """
        return self.earlier[-1] if self.earlier else self.work

    @property
    def me(self) -> str:
        """The name of this instance among those of all jobs that go on with each other's work."""
        return f"{self.instance} of {self.work}"

    def draft(self, entry: InputObject) -> str:
        """Return the name of the draft of an object's output."""
        return _draft(self.work, entry)

    def joint_draft(self, entry: InputObject) -> str:
        """Return the name of the draft that the ranges of an object are joined in."""
        return _draft(self.work, replace(entry, range=None))

    def joint_lock(self, entry: InputObject) -> str:
        """Return the name of the draft that whoever joins them holds: the same for all jobs that may."""
        return f"{_draft(self.family, replace(entry, range=None))}-lock"

    def earlier_joint_drafts(self, entry: InputObject) -> list[str]:
        """Return the names of drafts that earlier jobs may have begun to join in."""
        return [_draft(work, replace(entry, range=None)) for work in self.earlier]

    def earlier_drafts(self, entry: InputObject) -> list[str]:
        """Return the names that drafts of an object's output may have that earlier jobs have left."""
        return [_draft(work, entry) for work in self.earlier]

    def position(self, entry: InputObject) -> Position | None:
        """Return how far an object was done, None if it was not begun or has changed since."""
        position = _decoded(self.found.get(_key(entry)))
        return position if position and position.input_version == entry.version and entry.version else None

    async def ranges_done(self, entry: InputObject) -> "RangesDone":
        """Return what the instances of this job have committed of the ranges of an object.

        Who saves that a range is done and asks then is told of all ranges if it is the last one, whatever the order.
        """
        assert entry.range is not None, "asked of ranges"
        saved = await self.journal.load_of(self.job_id)
        done: list[Position] = []
        for index in range(entry.range.count):
            key = _key(replace(entry, range=replace(entry.range, index=index)))
            found = [position for held in saved.values() if (position := _decoded(held.get(key))) is not None]
            complete = [position for position in found if position.ended_at is not None]
            if not complete:
                break
            done.append(max(complete, key=lambda position: position.input_version == entry.version))
        joint = [orjson.loads(text) for held in saved.values() if (text := held.get(_joint_key(entry))) is not None]
        parts, size = max(((told["parts"], told["bytes"]) for told in joint), default=(0, 0))
        return RangesDone(parts=done, is_all=len(done) == entry.range.count, joined=parts, joined_bytes=size)

    async def save_joined(self, entry: InputObject, parts: int, size: int) -> None:
        """Tell how many ranges, from the first, the joint draft holds durably, and in how many bytes; raises LeaseLost.

        Only whoever holds the joint lock says so: thus it is never of more than there is.
        """
        told = {"draft": self.joint_draft(entry), "parts": parts, "bytes": size}
        await self.journal.save({_joint_key(entry): orjson.dumps(told)})

    async def save(self, entry: InputObject, position: Position) -> None:
        """Commit a part; raises LeaseLost."""
        await self.journal.save({_key(entry): orjson.dumps(position)})

    async def forget(self, entry: InputObject) -> None:
        """Forget the parts of an object whose output is complete or thrown away; raises LeaseLost."""
        await self.journal.save({_key(entry): None})

    def made_by_us(self, origin: Origin | None, entry: InputObject) -> bool:
        """Return whether an output is that of this object as it is, made by this work."""
        if origin is None or not entry.version:
            return False
        family, version = self.family, entry.version
        return origin.work in (_told_work(family), family) and origin.input_version in (_told(version), version)


def _decoded(text: bytes | None) -> Position | None:
    """Return what an entry tells, None if it is not there or can't be read."""
    if text is None:
        return None
    try:
        members = orjson.loads(text)
        return Position(**{**members, "counts": Counts(**members["counts"])})
    except (ValueError, TypeError, KeyError):
        return None


def _among(keys: Set[str], inputs: Iterable[InputObject]) -> set[str]:
    """Return those keys that are of these objects; of a million it takes seconds to find that."""
    return {key for key in map(_key, inputs) if key in keys}


def _draft(work: str, entry: InputObject) -> str:
    return hashlib.sha256(f"{work}\n{_key(entry)}".encode()).hexdigest()[:40]


def _joint_key(entry: InputObject) -> str:
    return f"{JOINT_KEY}{entry.output}"


def _key(entry: InputObject) -> str:
    if entry.range is None:
        return str(entry.output)
    return f"{entry.output}#{entry.range.index}/{entry.range.count}"  # no output ends like this, but with .out
