"""Decide once for all instances of a job who takes what of its input.

Theory. Shares follow from the listing of the input, and two listings may differ: an object that is written to meanwhile
might be taken by two instances, or by none, which nobody would notice. So the first instance lists, and tells every
instance its share: a draft for each, and an entry of its journal that tells what those are called, once they are on the
disk. The others wait for the entry, read their share and hold nothing of what others take. Whoever is taken up after a
crash finds the entry and has the same share again, also if that is the first instance.

What the drafts are to be called is told before they are written: so whoever finds that nobody goes on with them removes
them. An instance that has ended removes its own. If its server did not hear of the end, the next attempt lists the
input itself, and so it does where drafts can't be kept; its share must then be what it was, which a digest in the entry
tells.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import ExitStack, aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import orjson

from millrace.clock import Clock
from millrace.dataplane.input_file import InputFile
from millrace.errors import ClientFailure
from millrace.names import ObjectRef
from millrace.ports.jobs import InstanceRef
from millrace.ports.journal import Journal
from millrace.ports.objects import DraftHeld, DraftLost, NoSuchBucket, ObjectMeta, ObjectStore

__all__ = ["JobShares"]

KEY = "#shares"
"""Of the entry in the journal of the first instance; names of outputs begin with "s3:"."""

BEGUN_KEY = "#shares begun"
"""Of the entry beside it that names the drafts before they are written."""

POLL_SECONDS = 0.05
LONGEST_POLL_SECONDS = 1.0
"""Between two looks whether the first instance has listed the input: ever longer ones."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Told:
    """Where a share is kept (in no draft if `draft` is empty), and its digest."""

    draft: str
    size: int
    digest: str


class JobShares:
    """The shares of a job's instances, as one of them sees them.

    `decide` lists the input and returns the shares of all instances: the same for the same input. Drafts are kept in
    `bucket`, and the share of this instance in `folder`; `work` names the job. `is_over` tells that the instance is
    wanted to stop.
    """

    def __init__(
        self,
        ref: InstanceRef,
        *,
        decide: Callable[[], Awaitable[Sequence[InputFile]]],
        work: str,
        bucket: str,
        folder: Path,
        objects: ObjectStore,
        journal: Journal,
        clock: Clock,
        is_over: Callable[[], bool],
    ) -> None:
        self._ref = ref
        self._decide = decide
        self._work = work
        self._bucket = bucket
        self._folder = folder
        self._objects = objects
        self._journal = journal
        self._clock = clock
        self._is_over = is_over
        self._told: Sequence[_Told] | None = None

    async def take(self) -> InputFile:
        """Return this instance's share, which the caller closes; nothing if it is to stop before there is one.

        Raises:
            ClientFailure: The input cannot be listed, or it has changed since it was, and nobody has kept the share.
            LeaseLost: The work is another's.
        """
        told = self._told = await self._find()
        if told is None and self._ref.index == 0:
            return await self._publish(await self._decide())
        pause = POLL_SECONDS
        while told is None:
            if self._is_over():
                return InputFile(self._folder)
            await self._clock.sleep(pause)
            pause = min(2 * pause, LONGEST_POLL_SECONDS)
            told = self._told = await self._find()
        mine = told[self._ref.index]
        if mine.draft:
            with suppress(DraftLost, NoSuchBucket):
                return await self._read(mine)
        shares = await self._decide()
        with ExitStack() as rest:
            for share in shares:
                rest.enter_context(share)
            if await asyncio.to_thread(_digest, shares[self._ref.index]) != mine.digest:
                raise ClientFailure(
                    "objects of the input were written to or deleted since the job began, and who takes which of them "
                    "is no longer known. What is finished is kept for a job that resumes this one"
                )
            return self._keep_mine(shares, rest)

    def _keep_mine(self, shares: Sequence[InputFile], rest: ExitStack) -> InputFile:
        """Return the share of this instance, and close the others."""
        rest.pop_all()
        for share in shares:
            if share is not shares[self._ref.index]:
                share.close()
        return shares[self._ref.index]

    async def forget(self) -> None:
        """Remove what is kept of this instance's share, which has ended, whether it was taken or not."""
        told = self._told or await self._find() or ()
        for mine in told[self._ref.index : self._ref.index + 1]:
            if mine.draft:
                await self._discard(mine.draft)

    async def forget_begun(self, job_id: int) -> None:
        """Remove what is kept of another job's shares, or was of this one's before it was told."""
        text = (await self._journal.load_of(job_id)).get(0, {}).get(BEGUN_KEY)
        for draft in () if text is None else orjson.loads(text):
            await self._discard(draft)

    async def _discard(self, draft: str) -> None:
        with suppress(DraftHeld, NoSuchBucket):
            await self._objects.discard_draft(self._bucket, draft)

    async def _find(self) -> Sequence[_Told] | None:
        text = (await self._journal.load_of(self._ref.job_id)).get(0, {}).get(KEY)
        return None if text is None else [_Told(**told) for told in orjson.loads(text)]

    async def _publish(self, shares: Sequence[InputFile]) -> InputFile:
        with ExitStack() as rest:
            for share in shares:
                rest.enter_context(share)
            await self.forget_begun(self._ref.job_id)
            drafts = [_draft_name(self._work, self._ref.attempt, index) for index in range(len(shares))]
            await self._journal.save({BEGUN_KEY: orjson.dumps(drafts)})
            told = []
            for draft, share in zip(drafts, shares, strict=True):
                try:
                    told.append(await self._write(draft, share))
                except NoSuchBucket:  # each object's failure tells that
                    told.append(_Told(draft="", size=0, digest=await asyncio.to_thread(_digest, share)))
            self._told = told
            await self._journal.save({KEY: orjson.dumps(told)})
            return self._keep_mine(shares, rest)

    async def _write(self, draft: str, share: InputFile) -> _Told:
        # It never becomes an object, whatever it would be called.
        ref = ObjectRef(self._bucket, "share")
        writer = await self._objects.open_resumable(ref, ObjectMeta(), draft=draft, at=0)
        digest = hashlib.sha256()
        try:
            for lines in share.blocks():
                digest.update(lines)
                await writer.write(lines)
                await asyncio.sleep(0)  # else a long share keeps the loop for seconds
            size = await writer.checkpoint()
        except BaseException:
            await writer.abort()
            raise
        await writer.suspend()
        return _Told(draft=draft, size=size, digest=digest.hexdigest())

    async def _read(self, told: _Told) -> InputFile:
        """Return a share that was kept; raises DraftLost."""
        share = InputFile(self._folder)
        try:
            if not told.size:
                return share
            rest = b""
            stream = cast(
                "AsyncGenerator[bytes, None]", self._objects.read_draft(self._bucket, told.draft, length=told.size)
            )
            async with aclosing(stream) as chunks:
                async for chunk in chunks:
                    whole, newline, rest = (rest + chunk).rpartition(b"\n")
                    await asyncio.to_thread(share.add_lines, (whole + newline).splitlines(keepends=True))
        except BaseException:
            share.close()
            raise
        return share


def _draft_name(work: str, attempt: int, index: int) -> str:
    """Return a name that no earlier attempt writes to, which may not know yet that it has lost its work."""
    return hashlib.sha256(f"shares of {work}\n{attempt}\n{index}".encode()).hexdigest()[:40]


def _digest(share: InputFile) -> str:
    digest = hashlib.sha256()
    for lines in share.blocks():
        digest.update(lines)
    return digest.hexdigest()
