"""Run the instances of a job that cuts objects into ranges, over one store and one journal."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tests.acceptance.transform_rig import ECHO, Result, job, run_job

from millrace.dataplane import EffectiveSettings, Limits
from millrace.dataplane.checkpoints import Checkpoints
from millrace.errors import LeaseLost
from millrace.jobs.transform import BatchStrategy, SplitType, TransformSpec
from millrace.jobs.transform_options import JobOptions
from millrace.ports.jobs import InstanceRef
from millrace.ports.journal import Journal
from millrace.testing.journal import MemoryJournals
from millrace.testing.model_server import Behaviour, ModelReply, ModelRequest
from millrace.testing.objects import MemoryObjects

__all__ = ["OUTPUT", "Deaths", "Rig", "lines", "refuse_bad", "totals"]

SMALL = Limits(chunk_bytes=64, write_bytes=32, tick_seconds=0.001)
OUTPUT = "s3://b/out/a.csv.out"


class Deaths:
    """A guard that lets commits pass until one of them is the last thing that its process does."""

    def __init__(self, left: int) -> None:
        self.left = left

    async def __call__(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise LeaseLost("killed")


class Rig:
    """A job of several instances over one store and one journal; `options` have ranges of 100 bytes."""

    def __init__(
        self,
        *,
        objects: MemoryObjects | None = None,
        count: int = 3,
        strategy: BatchStrategy = BatchStrategy.SINGLE_RECORD,
        options: JobOptions | None = None,
        work: str = "job 1",
        job_id: int = 1,
        resumed: Sequence[tuple[int, str]] = (),
        journals: MemoryJournals | None = None,
        max_payload_bytes: int = 60,
        **spec: Any,
    ) -> None:
        self.spec: TransformSpec = job(
            **{
                "split": SplitType.LINE,
                "strategy": strategy,
                "instance_count": count,
                "invocation_max_retries": 0,
                **spec,
            }
        )
        self.effective = EffectiveSettings(
            max_concurrent_transforms=3, max_payload_bytes=max_payload_bytes, strategy=strategy
        )
        self.options = options or JobOptions(range_bytes=100)
        self.objects = objects or MemoryObjects()
        self.journals = journals or MemoryJournals()
        self.work = work
        self.job_id = job_id
        self.resumed = resumed
        self.attempts: Counter[int] = Counter()

    def resuming(self, *, count: int = 3) -> "Rig":
        """Return a job that resumes this one, which is job 1."""
        return Rig(
            objects=self.objects,
            journals=self.journals,
            count=count,
            options=self.options,
            work="job 2",
            job_id=2,
            resumed=[(self.job_id, self.work)],
        )

    async def run(
        self,
        index: int,
        behaviour: Behaviour = ECHO,
        *,
        stop: asyncio.Event | None = None,
        guard: Any = None,
        saves: int | None = None,
    ) -> Result:
        """Run an attempt of one instance; behind so many `saves` of its journal it has lost its work."""
        self.attempts[index] += 1
        attempt = self.attempts[index]
        journal: Journal = self.journals.open(InstanceRef(job_id=self.job_id, index=index, attempt=attempt))
        if saves is not None:
            journal = _Dying(journal, saves)
        checkpoints = Checkpoints(
            journal=journal,
            work=self.work,
            earlier=[work for _, work in self.resumed],
            resumes=attempt > 1 or bool(self.resumed),
            pause_seconds=0.0,
            share=1e9,
            job_id=self.job_id,
            instance=index,
        )
        return await run_job(
            self.spec,
            behaviour,
            {},
            before={},
            limits=SMALL,
            effective=self.effective,
            objects=self.objects,
            options=self.options,
            checkpoints=checkpoints,
            resumed=[job_id for job_id, _ in self.resumed],
            instance=index,
            stop=stop,
            **({} if guard is None else {"guard": guard}),
        )


class _Dying:
    """A journal that takes so many entries and no more."""

    def __init__(self, journal: Journal, saves: int) -> None:
        self._journal = journal
        self._saves = saves
        self.load, self.take_over, self.load_of = journal.load, journal.take_over, journal.load_of

    async def save(self, entries: Mapping[str, bytes | None]) -> None:
        """Save, or be lost."""
        self._saves -= 1
        if self._saves < 0:
            raise LeaseLost("killed")
        await self._journal.save(entries)


def lines(count: int, *, bad: Sequence[int] = (), blank: Sequence[int] = ()) -> bytes:
    """Return numbered rows of many lengths."""
    rows = [b"%d,%s\n" % (n, b"y" * (n * 7 % 23)) for n in range(count)]
    for n in bad:
        rows[n] = b"BAD%d\n" % n
    for n in blank:
        rows[n] = b"\n"
    return b"".join(rows)


async def refuse_bad(request: ModelRequest) -> ModelReply:
    """Behave as a model that echoes, but for what holds a bad record."""
    if request.path == "/invocations" and b"BAD" in request.body:
        return ModelReply(b"no", status=400)
    return await ECHO(request)


def totals(results: Sequence[Result]) -> tuple[int, ...]:
    """Return the objects and records of all instances."""
    parts = [result.outcome.progress for result in results]
    return (
        sum(part.objects_total for part in parts),
        sum(part.objects_done for part in parts),
        sum(part.objects_failed for part in parts),
        sum(part.records for part in parts),
        sum(part.records_failed for part in parts),
        sum(part.records_filtered for part in parts),
    )
