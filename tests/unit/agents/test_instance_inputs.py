"""Tests of what an instance of a transform job takes, and of what it holds meanwhile."""

import asyncio
import gc
import tracemalloc
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from millrace.agents.instance_inputs import InstanceInputs
from millrace.agents.session import DetachedSession
from millrace.clock import SystemClock
from millrace.dataplane.inputs import Inputs
from millrace.dataplane.plan import InputObject
from millrace.jobs.job import ResumedJob
from millrace.jobs.transform import SplitType, TransformSpec
from millrace.names import ObjectPrefix, ObjectRef, sagemaker_arn
from millrace.ports.jobs import InstanceRef
from millrace.ports.objects import ListPage, ObjectInfo
from millrace.store.filesystem import FilesystemObjects
from millrace.testing.journal import MemoryJournals

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ARN = sagemaker_arn("transform-job", "j", region="us-east-1")


class ManyObjects(FilesystemObjects):
    """A store that says it has many objects of different sizes, and holds none of them."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, durable=False, chunk_bytes=64 * 1024)
        self.count = 0
        self.size = 1

    async def list_objects(
        self, bucket: str, *, prefix: str = "", after: str = "", delimiter: str = "", limit: int = 1000
    ) -> ListPage:
        """Return a page of numbers."""
        await asyncio.sleep(0)  # as stores do, whose listings others need not wait for
        if prefix != "in/" or limit == 1:
            return ListPage(objects=[])
        start = int(after[3:]) + 1 if after else 0
        end = min(start + limit, self.count)
        found = [
            ObjectInfo(
                ref=ObjectRef(bucket, f"in/{number:09}"),
                size=number * 7919 % 1009 * self.size,
                etag=f"{number:032x}",
                modified_at=NOW,
            )
            for number in range(start, end)
        ]
        return ListPage(objects=found, next_after=found[-1].ref.key if end < self.count else None)


class Job:
    """A job over a store; each instance has a folder of its own. `objects_of` says how many objects there are."""

    def __init__(self, folder: Path, **changed: Any) -> None:
        self._folder = folder
        self.objects = ManyObjects(folder / "objects")
        self.journals = MemoryJournals()
        self.resumed: Sequence[ResumedJob] = ()
        self.spec = TransformSpec(
            **{"model": "m", "source": ObjectPrefix("shop", "in/"), "output": ObjectPrefix("shop", "out"), **changed}
        )

    async def objects_of(self, count: int, size: int = 1) -> None:
        """Have so many objects."""
        if not self.objects.count:
            await self.objects.create_bucket("shop", region="us-east-1", owner="someone")
        self.objects.count, self.objects.size = count, size

    def inputs(self, index: int, *, has_journal: bool = True) -> InstanceInputs:
        """Return what finds out what an instance takes."""
        session = DetachedSession(SystemClock(), index)
        session.ref = InstanceRef(job_id=9, index=index, attempt=1)
        return InstanceInputs(
            self.spec,
            ARN,
            NOW,
            self._folder / f"{index}",
            objects=self.objects,
            journal=self.journals.open(session.ref) if has_journal else None,
            session=session,
            resumed=self.resumed,
            report=lambda text: None,
        )

    async def take(self, index: int, *, has_journal: bool = True) -> list[InputObject]:
        """Return what an instance takes; nothing is left of it."""
        inputs = self.inputs(index, has_journal=has_journal)
        async with await inputs.plan() as planned:
            taken = await all_of(planned)
        await inputs.forget()
        folder = self._folder / f"{index}"
        assert not folder.exists() or not list(folder.iterdir())
        return taken


async def all_of(inputs: Inputs) -> list[InputObject]:
    """Return all objects, as somebody takes them."""
    taken: list[InputObject] = []
    while entries := await inputs.take():
        taken += entries
    return taken


def keys(entries: Sequence[InputObject]) -> list[str]:
    """Return the names of objects."""
    return [entry.ref.key for entry in entries]


@pytest.mark.parametrize("has_journal", [True, False])
@pytest.mark.parametrize("count", [1, 2, 3])
async def test_each_object_is_taken_by_one_instance(tmp_path: Path, count: int, has_journal: bool) -> None:
    """In key order, whether anybody keeps a journal or not."""
    job = Job(tmp_path, instance_count=count)
    await job.objects_of(1700)
    shares = [keys(await job.take(index, has_journal=has_journal)) for index in range(count)]
    assert all(share == sorted(share) for share in shares)
    assert sorted(key for share in shares for key in share) == [f"in/{number:09}" for number in range(1700)]


async def test_a_resumed_job_of_one_instance_begins_with_the_first_page(tmp_path: Path) -> None:
    """As one that resumes nothing: the rest is listed while the first objects are in work."""
    job = Job(tmp_path)
    job.resumed = [ResumedJob(id=7, work="job 7")]
    await job.objects_of(3000)
    async with await job.inputs(0).plan() as inputs:
        assert inputs.known is None
        assert await inputs.has_any()
        assert not inputs.is_complete
        assert len(await all_of(inputs)) == 3000


@pytest.mark.parametrize("has_journal", [True, False])
async def test_ranges_need_a_journal(tmp_path: Path, has_journal: bool) -> None:
    """Else nobody could tell when all of them are done, and objects stay whole."""
    job = Job(tmp_path, split=SplitType.LINE, environment={"MILLRACE_RANGE_SPLIT": "1"})
    await job.objects_of(3, size=3000)
    taken = await job.take(0, has_journal=has_journal)
    assert len(set(keys(taken))) == 3
    assert len(taken) == (7 if has_journal else 3)


@pytest.mark.parametrize(
    ("count", "index", "output", "resumes"),
    [(1, 0, "out", False), (1, 0, "out", True), (1, 0, "in", False), (2, 0, "out", False), (3, 2, "out", True)],
)
async def test_what_is_held_does_not_grow_with_the_input(
    tmp_path: Path, count: int, index: int, output: str, resumes: bool
) -> None:
    """Not while an instance finds out what it takes, nor while it does: but for a few numbers of an object.

    An object of the interpreter's takes more than 400 bytes, and a line of a file 130.
    """
    peaks = []
    for number in (16_500, 24_500):
        job = Job(tmp_path / f"{number}", instance_count=count, output=ObjectPrefix("shop", output))
        job.resumed = [ResumedJob(id=7, work="job 7")] if resumes else []
        await job.objects_of(number)
        if index:
            async with await job.inputs(0).plan():
                pass
        gc.collect()
        tracemalloc.start()
        try:
            async with await job.inputs(index).plan() as inputs:
                while await inputs.take():
                    pass
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert (peaks[1] - peaks[0]) / 8_000 < 60, peaks
