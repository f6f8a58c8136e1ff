"""Objects that fail, and jobs that are stopped: what was answered before is committed, and never asked for again."""

import asyncio
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.acceptance.transform_rig import ECHO, Result, checkpoints_of, job, run_job
from tests.framed import recordio, tfrecord

from millrace.dataplane import EffectiveSettings, Limits
from millrace.jobs.transform import BatchStrategy, DataProcessing, SplitType, TransformSpec
from millrace.testing.journal import MemoryJournals
from millrace.testing.model_server import ModelReply, ModelRequest
from millrace.testing.objects import MemoryObjects

SMALL = Limits(chunk_bytes=64, write_bytes=32, tick_seconds=0.001)
CSV = {"content_type": "text/csv", "accept": "text/csv"}
NUMBER = re.compile(rb"n(\d+)")
MANY = {"strategy": BatchStrategy.MULTI_RECORD}
QUARANTINE = {"environment": {"MILLRACE_ON_ERROR": "quarantine"}}
SETTINGS: dict[str, dict[str, Any]] = {
    "refused": {},
    "refused among many": MANY,
    "refused and filtered": {"processing": DataProcessing(input_filter="$[0]"), **CSV},
    "unfit for the filter": {"processing": DataProcessing(input_filter="$[1]"), **CSV},
    "too large": {},
    "too large among many": MANY,
    "too large in a frame": {"split": SplitType.RECORDIO},
    "damaged frame": {"split": SplitType.TFRECORD},
    "damaged among many": {"split": SplitType.TFRECORD, **MANY},
    "one bad record too many": {"environment": {"MILLRACE_ON_ERROR": "quarantine", "MILLRACE_MAX_FAILED_RECORDS": "0"}},
}
FRAMES = {SplitType.RECORDIO: recordio, SplitType.TFRECORD: tfrecord}


@dataclass
class Work:
    """A job of one object that is attempted several times; no part is committed but at the end of an attempt."""

    spec: TransformSpec
    chance: random.Random
    refuses: bool = True
    dies_at: int = -1
    """With which request the job is stopped."""
    asked: list[bytes] = field(default_factory=list)
    """Requests of the attempt."""
    objects: MemoryObjects = field(default_factory=MemoryObjects)
    journals: MemoryJournals = field(default_factory=MemoryJournals)
    attempts: int = 0
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def attempt(self, data: Mapping[str, bytes]) -> Result:
        self.attempts += 1
        self.asked.clear()
        self.stop = asyncio.Event()
        checkpoints = await checkpoints_of(self.journals, self.attempts, pause_seconds=1e9, share=1e-9)
        return await run_job(
            self.spec,
            self.answer,
            data,
            limits=SMALL,
            effective=EffectiveSettings(
                max_concurrent_transforms=4,
                max_payload_bytes=60,
                strategy=self.spec.strategy or BatchStrategy.MULTI_RECORD,
            ),
            objects=self.objects,
            checkpoints=checkpoints,
            stop=self.stop,
        )

    async def answer(self, request: ModelRequest) -> ModelReply:
        """Echo, after a while; in any order."""
        if request.path != "/invocations":
            return ModelReply(status=404)
        self.asked.append(request.body)
        if len(self.asked) == self.dies_at:
            self.stop.set()
            await asyncio.Event().wait()
        for _ in range(self.chance.randrange(40) if len(self.asked) > 1 else 0):
            await asyncio.sleep(0)
        if self.refuses and b"BAD" in request.body:
            return ModelReply(b"no", status=400)
        return ModelReply(request.body)

    def reached(self) -> tuple[int, int]:
        """Return the records and bytes that the journal tells to be committed."""
        entries = self.journals.entries.get(1, {}).get(0, {})
        if not entries:
            return 0, 0
        (text,) = entries.values()
        position = orjson.loads(text)
        return sum(position["counts"].values()), position["offset"]


def spec_of(settings: Mapping[str, Any]) -> TransformSpec:
    defaults = {"split": SplitType.LINE, "strategy": BatchStrategy.SINGLE_RECORD, "invocation_max_retries": 1}
    return job(**{**defaults, **settings})


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("seed", range(4))
async def test_who_resumes_begins_with_the_payload_that_failed(name: str, seed: int) -> None:
    """All that is answered before the failing payload is committed in a last part, whatever order answers come in."""
    chance = random.Random(f"{name} {seed}")
    work = Work(spec_of(SETTINGS[name]), chance)
    place = chance.randrange(10, 60)
    frame = FRAMES.get(work.spec.split, bytes)
    records = [frame(b"n%d,x\n" % n) for n in range(80)]
    if name.startswith("damaged"):
        records[place] = records[place][:-1] + b"?"
    elif name.startswith("unfit"):
        records[place] = b"n%d\n" % place
    else:
        records[place] = frame(b"n%dBAD,%s\n" % (place, b"x" * 100 * name.startswith("too large")))

    first = await work.attempt({"in/a.csv": b"".join(records)})
    [told] = first.outcome.failures
    assert work.objects.keys("b", "out/") == []
    reached, offset = work.reached()
    skips = name.startswith("one bad")
    assert told.record is not None
    assert told.record <= reached if skips else told.record == reached + 1
    assert offset == len(b"".join(records[:reached]))

    work.refuses = False
    second = await work.attempt({})
    assert second.failed is not name.startswith(("refused", "one"))
    for body in work.asked:
        for number in NUMBER.findall(body):
            assert int(number) >= reached, "what was committed is not invoked again"
    if not second.failed:
        assert second.outcome.progress.records == 80 - skips
        del records[place : place + skips]
        filtered = name == "refused and filtered"
        expected = [record.partition(b",")[0] + b"\n" for record in records] if filtered else records
        assert work.objects.data("s3://b/out/a.csv.out") == b"".join(expected)


@pytest.mark.parametrize("settings", [{}, MANY, QUARANTINE], ids=["single", "many", "quarantine"])
@pytest.mark.parametrize("seed", range(4))
async def test_a_stopped_job_keeps_what_was_answered(settings: Mapping[str, Any], seed: int) -> None:
    """A stop commits all answers before the first one that is missing; who resumes the job asks for the others."""
    chance = random.Random(f"{settings} {seed}")
    work = Work(spec_of(settings), chance, dies_at=chance.randrange(5, 8))
    records = [b"n%d,x\n" % n for n in range(80)]
    first = await work.attempt({"in/a.csv": b"".join(records)})
    assert first.outcome.stopped
    reached, offset = work.reached()
    assert reached
    assert offset == len(b"".join(records[:reached]))

    work.dies_at = -1
    second = await work.attempt({})
    assert not second.failed
    assert work.objects.data("s3://b/out/a.csv.out") == b"".join(records)
    numbers = [int(number) for body in work.asked for number in NUMBER.findall(body)]
    assert min(numbers) == reached
    assert second.outcome.progress.records == 80


async def test_answers_that_are_no_table_are_kept(tmp_path: Path) -> None:
    """If rows don't fit the columns that are named, the object fails; who resumes the job asks for nothing again."""
    spec = spec_of(
        {
            **CSV,
            "environment": {"MILLRACE_OUTPUT_FORMAT": "parquet", "MILLRACE_OUTPUT_COLUMNS": "a:int8,b"},
        }
    )
    objects, journals = MemoryObjects(), MemoryJournals()
    data = b"".join(b"%d,x\n" % n for n in range(100, 160))
    asked = []
    for attempt in (1, 2):
        result = await run_job(
            spec,
            ECHO,
            data if attempt == 1 else {},
            limits=SMALL,
            effective=EffectiveSettings(
                max_concurrent_transforms=2, max_payload_bytes=60, strategy=BatchStrategy.SINGLE_RECORD
            ),
            objects=objects,
            checkpoints=await checkpoints_of(journals, attempt, pause_seconds=0.0, share=1e9),
            scratch=tmp_path,
        )
        [told] = result.outcome.failures
        assert "conversion error to int8" in told.message
        asked.append(result.outcome.progress.requests)
    assert asked == [60, 0]
