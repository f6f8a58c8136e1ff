"""Jobs that are taken up after a crash: nothing that was committed is invoked again, the output is the same."""

import asyncio
import gzip
import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from tests.acceptance.transform_rig import ECHO, checkpoints_of, job, run_job
from tests.framed import recordio, tfrecord

from millrace.dataplane import EffectiveSettings, Limits
from millrace.jobs.transform import (
    AssembleWith,
    BatchStrategy,
    Compression,
    DataProcessing,
    JoinSource,
    SplitType,
    TransformSpec,
)
from millrace.names import ObjectRef
from millrace.ports.jobs import InstanceRef
from millrace.ports.objects import ObjectMeta
from millrace.testing.drafts import MemoryResumableWriter
from millrace.testing.journal import MemoryJournal, MemoryJournals
from millrace.testing.model_server import ModelReply, ModelRequest
from millrace.testing.objects import MemoryObjects

SMALL = Limits(chunk_bytes=64, write_bytes=32, tick_seconds=0.001)
CSV = {"content_type": "text/csv", "accept": "text/csv"}
SETTINGS: dict[str, dict[str, Any]] = {
    "single": {"strategy": BatchStrategy.SINGLE_RECORD},
    "many": {"strategy": BatchStrategy.MULTI_RECORD},
    "lines": {"strategy": BatchStrategy.SINGLE_RECORD, "assemble_with": AssembleWith.LINE},
    "joined": {
        "strategy": BatchStrategy.MULTI_RECORD,
        "assemble_with": AssembleWith.LINE,
        "processing": DataProcessing(join_source=JoinSource.INPUT),
        **CSV,
    },
    "filtered": {
        "strategy": BatchStrategy.SINGLE_RECORD,
        "processing": DataProcessing(input_filter="$[0]"),
        **CSV,
    },
    "gzip": {"strategy": BatchStrategy.MULTI_RECORD, "compression": Compression.GZIP},
    "quarantine": {"strategy": BatchStrategy.MULTI_RECORD, "environment": {"MILLRACE_ON_ERROR": "quarantine"}},
    "skip": {"strategy": BatchStrategy.SINGLE_RECORD, "environment": {"MILLRACE_ON_ERROR": "skip"}},
    "recordio": {"strategy": BatchStrategy.SINGLE_RECORD, "split": SplitType.RECORDIO},
    "tfrecord": {"strategy": BatchStrategy.MULTI_RECORD, "split": SplitType.TFRECORD},
}


class Life:
    """How many requests are left to an attempt, and what ends it then."""

    def __init__(self) -> None:
        self.left = 0
        self.stop = asyncio.Event()


def inputs(spec: TransformSpec) -> dict[str, bytes]:
    """Return three objects of numbered rows, as the spec has them stored."""
    rows = [b"%d,%s\n" % (n, b"y" * (n % 11)) for n in range(150)]
    rows[5::37] = [b"BAD%d,b\n" % n for n in range(5, 150, 37)]
    rows[3::29] = [b"\n"] * len(rows[3::29])
    if "MILLRACE_ON_ERROR" in spec.environment:
        rows[60:62] = [b"longer than a payload,%s\n" % (b"z" * 300)] * 2
    frame = {SplitType.RECORDIO: recordio, SplitType.TFRECORD: tfrecord}.get(spec.split)
    data = b"".join(rows if frame is None else map(frame, rows))
    if spec.compression is Compression.GZIP:
        data = gzip.compress(data, mtime=0)
    return {"in/a.csv": data, "in/b.csv": data, "in/c.csv": data}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("seed", range(6))
async def test_a_crash_at_any_request_changes_no_byte(name: str, seed: int) -> None:
    """Whenever and however often the work breaks off, in the end there is what an undisturbed run leaves."""
    chance = random.Random(f"{name} {seed}")
    spec = job(
        **{"split": SplitType.LINE, "max_concurrent_transforms": 4, "invocation_max_retries": 0, **SETTINGS[name]}
    )
    effective = EffectiveSettings(
        max_concurrent_transforms=4, max_payload_bytes=100, strategy=spec.strategy or BatchStrategy.MULTI_RECORD
    )
    seen: Counter[bytes] = Counter()
    refuses = "MILLRACE_ON_ERROR" in spec.environment

    async def answer(request: ModelRequest) -> ModelReply:
        if request.path == "/invocations" and refuses and b"BAD" in request.body:
            return ModelReply(b"no", status=400)
        return await ECHO(request)

    undisturbed = await run_job(spec, answer, inputs(spec), limits=SMALL, effective=effective)
    expected = {key: undisturbed.objects.data(f"s3://b/{key}") for key in undisturbed.objects.keys("b", "out/")}

    journals, objects = MemoryJournals(), MemoryObjects()
    went_on = 0
    life = Life()

    async def dying(request: ModelRequest) -> ModelReply:
        if request.path == "/invocations":
            life.left -= 1
            if life.left <= 0:
                life.stop.set()
                await asyncio.Event().wait()
            seen[request.body] += 1
        return await answer(request)

    for attempt in range(1, 50):
        life.left = chance.randrange(1, max(3, undisturbed.outcome.progress.requests // 2))

        life.stop = asyncio.Event()
        checkpoints = await checkpoints_of(journals, attempt, pause_seconds=0.0, share=1e9)
        result = await run_job(
            spec,
            dying,
            inputs(spec) if attempt == 1 else {},
            limits=SMALL,
            effective=effective,
            objects=objects,
            checkpoints=checkpoints,
            stop=life.stop,
        )
        went_on += sum("going on at byte" in line for line in result.log)
        if not result.outcome.stopped:
            break
    assert {key: objects.data(f"s3://b/{key}") for key in objects.keys("b", "out/")} == expected
    progress = result.outcome.progress
    undone = undisturbed.outcome.progress
    assert (progress.records, progress.records_failed, progress.records_filtered) == (
        undone.records,
        undone.records_failed,
        undone.records_filtered,
    )
    assert progress.objects_done == 3
    assert went_on or attempt < 6, "the work was taken up in the midst of objects"
    assert sum(seen.values()) < undone.requests + 40 * attempt, "what was committed is not invoked again"


class SlowlyOpened(MemoryObjects):
    """A store in which opening an output takes until the container was asked a number of times."""

    def __init__(self, asked: asyncio.Event) -> None:
        super().__init__()
        self._asked = asked

    async def open_resumable(
        self, ref: ObjectRef, meta: ObjectMeta | None = None, *, draft: str, at: int
    ) -> MemoryResumableWriter:
        writer = await super().open_resumable(ref, meta, draft=draft, at=at)
        if not at:
            await self._asked.wait()
        return writer


class ToldJournals(MemoryJournals):
    """Journals that tell once anything was saved."""

    def __init__(self) -> None:
        super().__init__()
        self.saved = asyncio.Event()

    def open(self, ref: InstanceRef) -> MemoryJournal:
        super().open(ref)  # closes the earlier attempt's
        return _ToldJournal(self, ref)


class _ToldJournal(MemoryJournal):
    def __init__(self, journals: ToldJournals, ref: InstanceRef) -> None:
        super().__init__(journals, ref)
        self._saved = journals.saved

    async def save(self, entries: Mapping[str, bytes | None]) -> None:
        await super().save(entries)
        self._saved.set()


async def test_answers_that_come_while_the_output_is_opened_are_counted() -> None:
    """A part reaches as far as the results in it, however many have come since the first was there."""
    spec = job(split=SplitType.LINE, strategy=BatchStrategy.SINGLE_RECORD)
    effective = EffectiveSettings(
        max_concurrent_transforms=1, max_payload_bytes=100, strategy=BatchStrategy.SINGLE_RECORD
    )
    rows = b"".join(b"%d\n" % n for n in range(100))
    asked, stop = asyncio.Event(), asyncio.Event()
    objects, journals = SlowlyOpened(asked), ToldJournals()
    seen: list[bytes] = []

    async def answer(request: ModelRequest) -> ModelReply:
        if request.path == "/invocations":
            seen.append(request.body)
            if len(seen) == 60:
                asked.set()
            if len(seen) == 61:  # in the first attempt: the second has less to do
                await journals.saved.wait()
                stop.set()
                await asyncio.Event().wait()
        return await ECHO(request)

    for attempt in (1, 2):
        checkpoints = await checkpoints_of(journals, attempt, pause_seconds=0.0, share=1e9)
        await run_job(
            spec,
            answer,
            rows if attempt == 1 else {},
            limits=SMALL,
            effective=effective,
            objects=objects,
            checkpoints=checkpoints,
            stop=stop if attempt == 1 else None,
        )
    assert objects.data("s3://b/out/a.csv.out") == rows
