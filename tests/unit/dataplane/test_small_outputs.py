"""Small objects, read together and written in groups."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest
from tests.acceptance.transform_rig import ECHO, HEX, Result, job, run_job, status

from millrace.dataplane.checkpoints import Checkpoints, Origin
from millrace.dataplane.limits import Budget, Limits
from millrace.dataplane.small_outputs import LEAST_GROUP
from millrace.errors import LeaseLost
from millrace.jobs.transform import AssembleWith, Compression, SplitType
from millrace.names import ObjectRef
from millrace.ports.jobs import InstanceRef
from millrace.ports.objects import ObjectMeta, SmallObjects, SmallOutput
from millrace.testing.journal import MemoryJournals
from millrace.testing.model_server import Behaviour, ModelReply, ModelRequest
from millrace.testing.objects import MemoryObjects
from millrace.testing.small_objects import QuickObjects

MANY = {f"in/{number:03d}.bin": b"object %d" % number for number in range(200)}


def outputs(result: Result) -> dict[str, bytes]:
    """Return all outputs by key."""
    return {key: result.objects.data(f"s3://b/{key}") for key in result.objects.keys("b", "out/")}


async def run_quickly(
    behaviour: Behaviour, *, objects: MemoryObjects | None = None, limits: Limits | None = None, **settings: object
) -> Result:
    """Run a job of many small objects."""
    spec = job(max_concurrent_transforms=4, **settings)
    budget = Budget(64 * 1024)
    result = await run_job(spec, behaviour, MANY, objects=objects or QuickObjects(), limits=limits, budget=budget)
    assert budget.held == 0
    return result


@pytest.mark.parametrize("assemble_with", list(AssembleWith))
async def test_the_quick_way_writes_what_the_usual_one_does(assemble_with: AssembleWith) -> None:
    """Outputs, what is told of them, and counters are the same whether objects are written in groups or alone."""
    quick = await run_quickly(HEX, assemble_with=assemble_with)
    usual = await run_quickly(HEX, assemble_with=assemble_with, objects=MemoryObjects())
    assert outputs(quick) == outputs(usual)
    assert len(outputs(quick)) == 200
    assert isinstance(quick.objects, QuickObjects)
    assert max(map(len, quick.objects.groups)) >= LEAST_GROUP
    for left, right in zip((quick, usual), (usual, quick), strict=True):
        assert {entry.ref for entry in left.committed} == {entry.ref for entry in right.committed}
    told = [
        (it.outcome.progress.objects_done, it.outcome.progress.records, it.outcome.progress.bytes_out)
        for it in (quick, usual)
    ]
    assert told[0] == told[1]
    assert quick.outcome.progress.bytes_in == usual.outcome.progress.bytes_in == sum(map(len, MANY.values()))


class _InPairs:
    """A quick way on which no group is written before a second one waits beside it."""

    def __init__(self, quick: SmallObjects) -> None:
        self.read = quick.read
        self._quick = quick
        self._pair = asyncio.Event()
        self._waiting = 0
        self.most = 0

    async def write(self, outputs: Sequence[SmallOutput], meta: ObjectMeta) -> Sequence[int]:
        self._waiting += 1
        self.most = max(self.most, self._waiting)
        if self._waiting == 2:
            self._pair.set()
        await self._pair.wait()
        try:
            return await self._quick.write(outputs, meta)
        finally:
            self._waiting -= 1


class PairedObjects(QuickObjects):
    """A store whose first group is only written beside the second one."""

    def __init__(self) -> None:
        super().__init__()
        quick = super().small_objects()
        assert quick is not None
        self.pairs = _InPairs(quick)

    def small_objects(self) -> SmallObjects:
        return self.pairs


async def test_a_group_is_written_while_another_one_waits_for_the_disk() -> None:
    """Where objects come quickly, groups are written side by side, up to a bound."""
    objects = PairedObjects()
    many = {f"in/{number:04d}.bin": b"object %d" % number for number in range(1500)}
    result = await run_job(job(max_concurrent_transforms=4), ECHO, many, objects=objects, limits=Limits(small_groups=2))
    assert outputs(result) == {f"out/{key[3:]}.out": body for key, body in many.items()}
    assert objects.pairs.most == 2


async def test_an_object_that_fails_keeps_no_other_from_its_output() -> None:
    """One object of a group fails, with its own message, and all others have their outputs."""
    result = await run_quickly(status(400, "bad pixels", only=b"object 77"))
    assert [failure.answer for failure in result.outcome.failures] == ["bad pixels"]
    assert set(outputs(result)) == {f"out/{key[3:]}.out" for key in MANY} - {"out/077.bin.out"}


async def test_what_the_store_leaves_is_written_in_the_usual_way() -> None:
    """Objects that the store does not read or write quickly are transformed like all others."""
    left = QuickObjects(leaves=lambda ref: "3" in ref.key)
    result = await run_quickly(ECHO, objects=left)
    assert outputs(result) == {f"out/{key[3:]}.out": body for key, body in MANY.items()}
    assert not any("3" in key for group in left.groups for key in group)


async def test_few_objects_are_written_alone() -> None:
    """Less than a group is not worth a sync of everything, and is not kept waiting for more."""
    objects = QuickObjects()
    few = {key: MANY[key] for key in sorted(MANY)[: LEAST_GROUP - 1]}
    result = await run_job(job(), ECHO, few, objects=objects)
    assert len(outputs(result)) == len(few)
    assert objects.groups == []


async def test_objects_of_all_kinds_stand_side_by_side() -> None:
    """Large, empty and compressed objects among small ones have the outputs that they have elsewhere."""
    inputs = {**MANY, "in/0.bin": b"", "in/1.bin": b"x" * 100_000, "in/2.bin": b"y" * 64 * 1024}
    result = await run_job(job(), ECHO, inputs, objects=QuickObjects())
    assert outputs(result) == {f"out/{key[3:]}.out": body for key, body in inputs.items()}


async def test_compressed_objects_are_read_in_the_usual_way() -> None:
    """An object whose bytes are not what is sent is none that is read quickly."""
    result = await run_job(job(compression=Compression.GZIP), ECHO, {"in/a.bin": b"no gzip"}, objects=QuickObjects())
    assert result.failed


async def test_large_answers_are_written_alone() -> None:
    """An answer may be larger than what is written in groups."""

    async def inflate(request: ModelRequest) -> ModelReply:
        if request.path != "/invocations":
            return ModelReply(status=404)
        return ModelReply(request.body * 100_000 if request.body.endswith(b"0") else request.body)

    result = await run_quickly(inflate, limits=Limits(inflight_bytes=1024 * 1024))
    for key, body in MANY.items():
        assert outputs(result)[f"out/{key[3:]}.out"] == (body * 100_000 if body.endswith(b"0") else body)


async def test_a_lost_lease_ends_the_run() -> None:
    """The guard is asked before each group; if the work was taken over, nothing more is written."""
    objects = QuickObjects()
    asked = 0

    async def guard() -> None:
        nonlocal asked
        asked += 1
        if asked > 1:
            raise LeaseLost("another agent has it")

    with pytest.raises(LeaseLost):
        await run_job(job(max_concurrent_transforms=4), ECHO, MANY, guard=guard, objects=objects)
    assert len(objects.keys("b", "out/")) == sum(map(len, objects.groups)) < 200
    assert objects.open_writers == 0


async def test_a_stop_commits_nothing_more() -> None:
    """A stop that comes while the guard is asked still holds for the group."""
    stop = asyncio.Event()

    async def guard() -> None:
        stop.set()

    result = await run_job(job(max_concurrent_transforms=4), ECHO, MANY, guard=guard, objects=QuickObjects(), stop=stop)
    assert result.outcome.stopped
    assert outputs(result) == {}


async def test_outputs_say_who_made_them() -> None:
    """A job that goes on with another makes no output again, whichever way it was written."""
    journals = MemoryJournals()
    journal = journals.open(InstanceRef(job_id=1, index=0, attempt=1))
    objects = QuickObjects()
    first = Checkpoints(journal=journal, work="w")
    await run_job(job(max_concurrent_transforms=4), ECHO, MANY, objects=objects, checkpoints=first)
    info = await objects.get(ObjectRef("b", "out/000.bin.out"))
    origin = Origin.decode(info.meta.origin)
    assert origin is not None
    assert origin.counts.ok == 1
    again = Checkpoints(journal=journal, work="w", resumes=True)
    result = await run_job(job(), ECHO, MANY, objects=objects, checkpoints=again)
    assert result.outcome.progress.requests == 0
    assert result.outcome.progress.objects_done == 200


async def test_split_objects_are_not_read_at_once() -> None:
    """Small objects with many records have outputs as they have without a quick way."""
    lines = dict.fromkeys(MANY, b"a\nb\n")
    objects = QuickObjects()
    result = await run_job(job(split=SplitType.LINE), ECHO, lines, objects=objects)
    assert set(outputs(result).values()) == {b"a\nb\n"}
    assert objects.groups == []


async def test_slow_models_outputs_are_seen_soon() -> None:
    """An output does not wait for a group to fill up: what is ready is written at the next tick."""
    objects = QuickObjects()
    waiting = asyncio.Event()

    async def behave(request: ModelRequest) -> ModelReply:
        if request.path != "/invocations":
            return ModelReply(status=404)
        if request.body == b"object 5":
            await waiting.wait()
        return ModelReply(request.body)

    async def look(_: object) -> None:
        while len(objects.keys("b", "out/")) < 5:
            await asyncio.sleep(0)
        waiting.set()

    limits = Limits(tick_seconds=timedelta(milliseconds=1).total_seconds())
    few = {key: MANY[key] for key in sorted(MANY)[:10]}
    result = await run_job(job(), behave, few, objects=objects, driver=look, limits=limits)
    assert len(outputs(result)) == 10


async def test_little_room_is_enough() -> None:
    """Objects that hold all the room, or more of them than may be open, are waited for, whichever way they are read."""
    inputs = {f"in/{number:03d}.bin": b"%d" % number * 5_000 for number in range(100)}
    objects = QuickObjects(leaves=lambda ref: "3" in ref.key)
    limits = Limits(small_objects_open=1, objects_open=1)
    result = await run_job(job(), ECHO, inputs, objects=objects, budget=Budget(20_000), limits=limits)
    assert outputs(result) == {f"out/{key[3:]}.out": body for key, body in inputs.items()}
