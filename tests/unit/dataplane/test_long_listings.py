"""Tests of jobs with so many objects that an agent would be silent for long if it did one thing at a time."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import orjson
import pytest
from tests.acceptance.transform_rig import checkpoints_of, job, no_guard

from millrace.clock import SystemClock
from millrace.dataplane import EffectiveSettings, InputObject, list_inputs, run_transform
from millrace.dataplane.checkpoints import Origin
from millrace.dataplane.counts import Counts
from millrace.jobs.transform import SourceType, TransformSpec
from millrace.names import ObjectPrefix
from millrace.ports.objects import ListPage, ObjectMeta
from millrace.ports.runtime import Address
from millrace.testing.journal import MemoryJournals
from millrace.testing.objects import MemoryObjects

MANY = 20_000


class Listed(MemoryObjects):
    """A store that calls `at_the_end` with the last page of a listing."""

    def __init__(self, at_the_end: Callable[[], None]) -> None:
        super().__init__()
        self._at_the_end = at_the_end

    async def list_objects(
        self, bucket: str, *, prefix: str = "", after: str = "", delimiter: str = "", limit: int = 1000
    ) -> ListPage:
        page = await super().list_objects(bucket, prefix=prefix, after=after, delimiter=delimiter, limit=limit)
        if page.next_after is None:
            self._at_the_end()
        return page


class Turns:
    """Counts the turns of the loop."""

    def __init__(self) -> None:
        self.count = 0
        self.start = 0

    def begin(self) -> None:
        self.start = self.count

    @property
    def since(self) -> int:
        return self.count - self.start

    @asynccontextmanager
    async def counted(self) -> AsyncIterator[None]:
        counting = asyncio.create_task(self._count())
        try:
            yield
        finally:
            counting.cancel()

    async def _count(self) -> None:
        while True:
            self.count += 1
            await asyncio.sleep(0)


@pytest.mark.parametrize("source_type", [SourceType.PREFIX, SourceType.MANIFEST])
async def test_others_have_their_turn_while_outputs_are_named(source_type: SourceType) -> None:
    """A million objects take several seconds, in which heartbeats go on."""
    turns = Turns()
    objects = Listed(turns.begin)
    names = [f"{number}.csv" for number in range(MANY)]
    spec = job()
    if source_type is SourceType.MANIFEST:
        objects.add("s3://b/list.json", orjson.dumps([{"prefix": "s3://b/in/"}, *names]))
        spec = job(source=ObjectPrefix("b", "list.json"), source_type=source_type)
    else:
        for name in names:
            objects.add(f"s3://b/in/{name}", b"1")
    async with turns.counted():
        assert len(await list_inputs(objects, spec)) == MANY
    assert turns.since > 100


async def finished(objects: MemoryObjects, spec: TransformSpec, count: int) -> list[InputObject]:
    """Return inputs that all have the output that an earlier attempt made."""
    for number in range(count):
        objects.add(f"s3://b/in/{number}.csv", b"1")
    inputs = await list_inputs(objects, spec)
    for entry in inputs:
        origin = Origin(work="job 1", input_version=entry.version, counts=Counts(ok=1)).encode()
        writer = await objects.open_writer(entry.output, ObjectMeta(origin=origin))
        await writer.commit(origin=origin)
    return inputs


async def test_a_job_that_is_taken_up_is_stopped_among_what_is_done() -> None:
    """However many objects are done already, it hears of others while it passes over them."""
    objects, spec, stop = MemoryObjects(), job(), asyncio.Event()
    inputs = await finished(objects, spec, 2000)

    def stop_soon(_: InputObject) -> None:
        asyncio.get_running_loop().call_soon(stop.set)

    outcome = await run_transform(
        spec,
        inputs,
        objects=objects,
        address=Address(port=1),
        effective=EffectiveSettings(),
        data_log=lambda _: None,
        on_progress=lambda _: None,
        stop=stop,
        commit_guard=no_guard,
        clock=SystemClock(),
        checkpoints=await checkpoints_of(MemoryJournals(), 2),
        on_committed=stop_soon,
    )
    assert outcome.stopped
    assert 0 < outcome.progress.objects_done < 1000
