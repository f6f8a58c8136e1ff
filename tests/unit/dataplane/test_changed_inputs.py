"""Tests of inputs that are written to between two attempts at them."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.acceptance.transform_rig import checkpoints_of, job, run_job

from millrace.dataplane import EffectiveSettings, Limits
from millrace.jobs.transform import BatchStrategy, SplitType
from millrace.names import ObjectRef
from millrace.testing.journal import MemoryJournals
from millrace.testing.model_server import ModelReply, ModelRequest
from millrace.testing.objects import MemoryObjects

LINES = {"split": SplitType.LINE, "strategy": BatchStrategy.SINGLE_RECORD}
OLD = b"".join(b"old %d\n" % number for number in range(100, 200))
NEW = OLD.replace(b"old", b"new")


class LateReplacement(MemoryObjects):
    """A store where an input is replaced right before it is opened, once it is told with what."""

    replacement: bytes | None = None

    async def read(self, ref: ObjectRef, *, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        if self.replacement is not None:
            self.add(str(ref), self.replacement)
        async for chunk in super().read(ref, start=start, length=length):
            yield chunk


@pytest.mark.parametrize("replacement", [NEW, OLD[:8]])
async def test_parts_of_two_versions_do_not_become_one_output(replacement: bytes) -> None:
    """An input that is replaced after it was looked whether it is the one of the parts fails, whatever its length.

    Another attempt begins it anew.
    """
    objects, journals, stop = LateReplacement(), MemoryJournals(), asyncio.Event()
    asked: list[bytes] = []

    async def behave(request: ModelRequest) -> ModelReply:
        if request.path != "/invocations":
            return ModelReply(status=404)
        asked.append(request.body)
        if len(asked) == 20:
            stop.set()
        return ModelReply(request.body)

    for attempt in (1, 2, 3):
        if attempt == 2:
            stop, objects.replacement = asyncio.Event(), replacement
        result = await run_job(
            job(**LINES),
            behave,
            OLD if attempt == 1 else {},
            objects=objects,
            stop=stop,
            checkpoints=await checkpoints_of(journals, attempt, pause_seconds=0.0, share=1e9),
            effective=EffectiveSettings(strategy=BatchStrategy.SINGLE_RECORD),
            limits=Limits(chunk_bytes=64, write_bytes=1, tick_seconds=0.001),
        )
        if attempt == 2:
            assert "in/a.csv" in result.reason
            assert "s3://b/in/a.csv was written to while it was transformed" in result.reason
            assert objects.keys("b", "out/") == []
    assert result.output == replacement
