"""Tests of commits that end after their process has lost its work."""

import asyncio

from tests.acceptance.transform_rig import checkpoints_of, job, run_job

from millrace.dataplane import EffectiveSettings, Limits
from millrace.dataplane.checkpoints import Origin
from millrace.dataplane.counts import Counts
from millrace.jobs.transform import BatchStrategy, SplitType
from millrace.names import ObjectRef
from millrace.ports.objects import ObjectMeta
from millrace.testing.drafts import MemoryResumableWriter
from millrace.testing.journal import MemoryJournals
from millrace.testing.model_server import ModelReply, ModelRequest
from millrace.testing.objects import MemoryObjects

LINES = b"".join(b"%d\n" % number for number in range(100, 200))


class LateCommit(MemoryObjects):
    """A store where another process completes an output right before its draft is gone on with."""

    async def open_resumable(
        self, ref: ObjectRef, meta: ObjectMeta | None = None, *, draft: str, at: int
    ) -> MemoryResumableWriter:
        if at:
            version = (await self.get(ObjectRef("b", "in/a.csv"))).etag
            other = await super().open_resumable(ref, meta, draft=draft, at=at)
            await other.write(LINES[at:])
            await other.commit(origin=Origin(work="job 1", input_version=version, counts=Counts(ok=100)).encode())
        return await super().open_resumable(ref, meta, draft=draft, at=at)


async def test_an_output_that_is_made_meanwhile_is_not_made_again() -> None:
    """Who passed the guard before it lost its work may commit after that; nothing is asked for again then."""
    objects, journals, stop = LateCommit(), MemoryJournals(), asyncio.Event()
    asked = 0

    async def behave(request: ModelRequest) -> ModelReply:
        nonlocal asked
        if request.path != "/invocations":
            return ModelReply(status=404)
        asked += 1
        if asked == 20:
            stop.set()
        return ModelReply(request.body)

    for attempt in (1, 2):
        result = await run_job(
            job(split=SplitType.LINE, strategy=BatchStrategy.SINGLE_RECORD),
            behave,
            LINES if attempt == 1 else {},
            objects=objects,
            stop=stop,
            checkpoints=await checkpoints_of(journals, attempt, pause_seconds=0.0, share=1e9),
            effective=EffectiveSettings(strategy=BatchStrategy.SINGLE_RECORD),
            limits=Limits(chunk_bytes=64, write_bytes=1, tick_seconds=0.001),
        )
        stop = asyncio.Event()
    progress = result.outcome.progress
    assert (progress.objects_done, progress.records, progress.requests) == (1, 100, 0)
    assert result.output == LINES
    assert not objects.drafts.kept
