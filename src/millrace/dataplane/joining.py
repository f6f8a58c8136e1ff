"""Put the output of an object together that was transformed in ranges.

Theory. What a range gave is a draft of its own, and an entry of the journal tells once it is done. Whoever has saved
that entry looks at those of all ranges. Saving comes before looking: so the last one to save finds all of them, and as
an instance that is taken up looks again, somebody does, whoever is killed when. Two may; one at a time holds the lock,
and whoever gets it looks once more whether the output is there. The output becomes visible by one rename, with an
origin that tells that it is done. The parts are removed after that; those that a crash leaves are removed by whoever
takes the work up, or when they are old.

Not all copying waits for the last range: whoever finds the next parts done appends them to the joint draft, syncs it,
and tells in an entry how far it reaches, all with the lock. Who goes on cuts the draft to that length first.
"""

import math
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from secrets import token_hex
from typing import Protocol, cast

from millrace.clock import Clock
from millrace.dataplane.bad_records import quarantine_key
from millrace.dataplane.checkpoints import Checkpoints, Origin, Position, RangesDone
from millrace.dataplane.counts import Counts
from millrace.dataplane.draft_names import drafts_beside, errors_draft
from millrace.dataplane.inputs import KnownInputs
from millrace.dataplane.lane import Lane
from millrace.dataplane.plan import InputObject
from millrace.dataplane.reading import ObjectChanged
from millrace.dataplane.rules import Rules
from millrace.dataplane.told_records import ERRORS_META
from millrace.errors import InternalFailure
from millrace.names import ObjectRef
from millrace.ports.objects import (
    DraftHeld,
    DraftLost,
    NoSuchBucket,
    NoSuchKey,
    ObjectMeta,
    ObjectStore,
    ResumableWriter,
)
from millrace.told import shortened

__all__ = ["Joining", "Unjoinable"]

POLL_SECONDS = 0.1
"""Between two looks whether another instance has made the output that it is joining."""

LOOK_TICKS = 4
"""Ticks between two looks which ranges can be copied already: each reads what is told of all ranges."""

PATIENCE_SECONDS = 300.0
"""How long another instance is left to join; one that takes longer may be stuck, and two of the same do no harm."""


class Unjoinable(Exception):
    """The ranges of an object are done, and yet they can't become its output; `label` says whose fault that is."""

    def __init__(self, label: str, message: str) -> None:
        super().__init__(message)
        self.label = label


class Committing(Protocol):
    """What makes outputs visible, behind the guard."""

    async def keep(self, commit: Callable[[], Awaitable[object]]) -> bool:
        """Commit; False if the run was over before. Raises LeaseLost."""
        ...

    def count(self, entry: InputObject) -> None:
        """Count and tell of an input that has its output."""
        ...


class Joining:
    """Joins the ranges of objects, for one instance."""

    def __init__(
        self,
        rules: Rules,
        *,
        objects: ObjectStore,
        checkpoints: Checkpoints | None,
        commits: Committing,
        clock: Clock,
        inputs: KnownInputs | None,
    ) -> None:
        self._rules = rules
        self._objects = objects
        self._checkpoints = checkpoints
        self._commits = commits
        self._clock = clock
        self._pending = Counter(inputs.ranges if inputs is not None else ())
        """Ranges of this instance that are not done, by output: before they are, it can't be the last one."""
        self._unlocked: set[ObjectRef] = set()
        """Outputs that were made before, and of which no lock is left."""
        self._next_look = -math.inf
        self._counted: set[ObjectRef] = set()
        """Outputs that were made before, and counted by one of the ranges that this instance has of their objects."""

    async def join(self, lane: Lane) -> None:
        """Copy what can be joined of an object; make its output if all can, and nobody else has made it.

        Raises:
            Unjoinable: The object has changed meanwhile, or what a range gave has gone.
            LeaseLost: The work is another's.
        """
        entry, checkpoints = lane.input, self._checkpoints
        assert checkpoints is not None, "ranges have a journal"
        self._pending[entry.output] -= 1
        now = self._clock.monotonic()
        if self._pending[entry.output] and now < self._next_look:
            return
        self._next_look = now + LOOK_TICKS * self._rules.limits.tick_seconds
        done = await checkpoints.ranges_done(entry)
        if done.is_all and not self._pending[entry.output]:
            await self._finish(entry, done, checkpoints)
        elif len(done.parts) > done.joined:
            with suppress(DraftLost, NoSuchBucket):  # held by another, or lost: who makes the output will see
                await self._advance(entry, checkpoints)

    async def _finish(self, entry: InputObject, done: RangesDone, checkpoints: Checkpoints) -> None:
        _check(entry, done.parts)
        try:
            if await self._join(entry, checkpoints):
                await self._discard(entry, done.parts, checkpoints)  # ours were in use when theirs were removed
        except DraftLost as exc:
            if await self._find_made(entry, checkpoints) is None:
                raise Unjoinable(
                    "InternalServerError",
                    f"what a range of {shortened(str(entry.ref))} gave is no longer there ({exc}); a job that resumes "
                    "this one transforms that range again",
                ) from exc

    async def _advance(self, entry: InputObject, checkpoints: Checkpoints) -> None:
        """Append the parts that come next to the joint draft, unless somebody else is at it; raises DraftLost."""
        async with self._locked(entry, checkpoints.joint_lock(entry)):
            done = await checkpoints.ranges_done(entry)
            if done.is_all or len(done.parts) <= done.joined or await self._find_made(entry, checkpoints):
                return
            if any(part.input_version != entry.version for part in done.parts):
                return
            writer, joined = await self._open_joint(entry, done, checkpoints.joint_draft(entry))
            try:
                for part in done.parts[joined:]:
                    await self._append(writer, entry.output.bucket, part.draft, part.output_bytes)
                await checkpoints.save_joined(entry, len(done.parts), await writer.checkpoint())
                joined = len(done.parts)
            finally:
                await _leave(writer, joined)

    async def take_up(self, entry: InputObject) -> Counts | None:
        """Return what became of a range's records, if the output of its object is there; None if it is not.

        The instance that made it counts the object, and removes what a crash has left of its ranges. One that an
        earlier job made is the first range's to count, and so are its records if nobody knows them range by range.
        """
        checkpoints = self._checkpoints
        assert checkpoints is not None and entry.range is not None, "ranges have a journal"
        origin = await self._find_made(entry, checkpoints)
        if origin is None:
            return None
        if entry.output not in self._unlocked:
            self._unlocked.add(entry.output)
            await self._discard_alone(entry, checkpoints.joint_lock(entry))  # whoever had it may have been killed
        is_first, is_earlier = entry.range.index == 0, not origin.joined_by.endswith(f" of {checkpoints.work}")
        counts_it = origin.joined_by == checkpoints.me or (is_earlier and is_first)
        if counts_it and entry.output not in self._counted:
            self._counted.add(entry.output)
            self._commits.count(entry)
            await self._discard(entry, (await checkpoints.ranges_done(entry)).parts, checkpoints)
        position = checkpoints.position(entry)
        if position is not None:  # whoever counts the object may not have been told of what this one took over
            for draft in drafts_beside(position.draft):
                await self._discard_alone(entry, draft)
            if position.ended_at is not None:
                return position.counts
        return origin.counts if is_earlier and is_first else Counts()

    async def _join(self, entry: InputObject, checkpoints: Checkpoints) -> bool:
        """See that the output is made, unless the run is over before; return whether another has made it."""
        lock, draft = checkpoints.joint_lock(entry), checkpoints.joint_draft(entry)
        patience = self._clock.monotonic() + PATIENCE_SECONDS
        while await self._find_made(entry, checkpoints) is None:
            try:
                async with self._locked(entry, lock):
                    if await self._find_made(entry, checkpoints) is None:  # now nobody else makes it
                        await self._make(entry, checkpoints, draft)
                        return False
            except DraftHeld:
                if self._clock.monotonic() > patience:
                    token = token_hex(4)
                    lock, draft = f"{lock[:45]}-{token}", f"{draft[:40]}-{token}"
                await self._clock.sleep(POLL_SECONDS)
        return True

    @asynccontextmanager
    async def _locked(self, entry: InputObject, lock: str) -> AsyncIterator[None]:
        """Hold a lock, which is a draft that stays empty; raises DraftHeld."""
        held = await self._open(entry.output, self._rules.meta, lock)
        try:
            yield
        finally:
            await held.abort()

    async def _open_joint(self, entry: InputObject, done: RangesDone, draft: str) -> tuple[ResumableWriter, int]:
        """Open the joint draft behind the parts that it holds, and return how many those are."""
        if done.joined and draft == self._joint_name(entry):
            with suppress(DraftLost):
                return await self._open(entry.output, self._rules.meta, draft, done.joined_bytes), done.joined
        return await self._open(entry.output, self._rules.meta, draft), 0

    def _joint_name(self, entry: InputObject) -> str:
        assert self._checkpoints is not None, "ranges have a journal"
        return self._checkpoints.joint_draft(entry)

    async def _make(self, entry: InputObject, checkpoints: Checkpoints, draft: str) -> None:
        done = await checkpoints.ranges_done(entry)
        parts = done.parts
        origin = Origin(
            work=checkpoints.family,
            input_version=entry.version,
            counts=Counts(
                ok=sum(part.counts.ok for part in parts),
                failed=sum(part.counts.failed for part in parts),
                filtered=sum(part.counts.filtered for part in parts),
                failed_by_algorithm=sum(part.counts.failed_by_algorithm for part in parts),
            ),
            joined_by=checkpoints.me,
        ).encode()
        if self._rules.isolates and not await self._tell(entry, parts, draft, origin):
            return
        writer, joined = await self._open_joint(entry, done, draft)
        try:
            for part in parts[joined:]:
                await self._append(writer, entry.output.bucket, part.draft, part.output_bytes)
            if not await self._commits.keep(partial(writer.commit, origin=origin)):
                return
        finally:
            await _leave(writer, joined)
        self._commits.count(entry)
        await self._discard(entry, parts, checkpoints)

    async def _tell(self, entry: InputObject, parts: Sequence[Position], draft: str, origin: str) -> bool:
        """Make what tells of the bad records of all ranges, or see that there is nothing; False if the run is over."""
        ref = ObjectRef(entry.output.bucket, quarantine_key(entry.output.key))
        if not any(part.error_bytes for part in parts):  # of an earlier run of the same input
            return await self._commits.keep(partial(self._objects.delete, ref))
        writer = await self._open(ref, ERRORS_META, errors_draft(draft))
        try:
            for part in parts:
                await self._append(writer, ref.bucket, errors_draft(part.draft), part.error_bytes)
            return await self._commits.keep(partial(writer.commit, origin=origin))
        finally:
            await writer.abort()

    async def _open(self, ref: ObjectRef, meta: ObjectMeta, draft: str, at: int = 0) -> ResumableWriter:
        return await self._objects.open_resumable(ref, meta, draft=draft, at=at)

    async def _append(self, writer: ResumableWriter, bucket: str, draft: str, length: int) -> None:
        if not length:
            return
        stream = cast("AsyncGenerator[bytes, None]", self._objects.read_draft(bucket, draft, length=length))
        async with aclosing(stream) as chunks:
            async for chunk in chunks:
                await writer.write(chunk)

    async def _discard(self, entry: InputObject, parts: Sequence[Position], checkpoints: Checkpoints) -> None:
        """Remove what the ranges gave; what somebody has open is left to that one, who can't know yet."""
        drafts = [draft for part in parts for draft in drafts_beside(part.draft)]
        for draft in (*drafts, checkpoints.joint_draft(entry), *checkpoints.earlier_joint_drafts(entry)):
            await self._discard_alone(entry, draft)

    async def _discard_alone(self, entry: InputObject, draft: str) -> None:
        with suppress(DraftHeld, NoSuchBucket):
            await self._objects.discard_draft(entry.output.bucket, draft)

    async def _find_made(self, entry: InputObject, checkpoints: Checkpoints) -> Origin | None:
        """Return the origin of the output, if it is there and of this work."""
        try:
            origin = Origin.decode((await self._objects.get(entry.output)).meta.origin)
        except (NoSuchKey, NoSuchBucket):
            return None
        return origin if checkpoints.made_by_us(origin, entry) else None


async def _leave(writer: ResumableWriter, joined: int) -> None:
    """Close a joint draft that is not the output as yet; what no entry tells of is of use to nobody."""
    await (writer.suspend() if joined else writer.abort())


def _check(entry: InputObject, parts: Sequence[Position]) -> None:
    """See that the ranges are of one version of the object, and that each byte of it is in one of them."""
    assert entry.range is not None, "it is cut"
    if any(part.input_version != entry.version for part in parts):
        raise Unjoinable("ClientError", str(ObjectChanged(entry.ref)))
    begins = [part.began_at for part in parts]
    ends = [part.ended_at for part in parts]
    if begins[0] != 0 or begins[1:] != ends[:-1] or ends[-1] != entry.range.object_size:
        raise InternalFailure(
            f"We encountered an internal error.  Please try again. (the ranges of {entry.ref} do not add up: "
            f"they begin at {begins} and end at {ends} of {entry.range.object_size} bytes)"
        )
