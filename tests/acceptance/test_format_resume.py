"""Jobs with formats that are taken up after a crash leave what an undisturbed run leaves, to the byte."""

import asyncio
import random
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pytest
from tests.acceptance.transform_rig import ECHO, job, run_job
from tests.unit.dataplane.formats.tables import arrow, parquet

from millrace.dataplane import EffectiveSettings, Limits
from millrace.dataplane.checkpoints import Checkpoints
from millrace.jobs.transform import AssembleWith, BatchStrategy, DataProcessing, JoinSource, SplitType
from millrace.ports.jobs import InstanceRef
from millrace.ports.journal import Journal
from millrace.testing.journal import MemoryJournals
from millrace.testing.model_server import ModelReply, ModelRequest
from millrace.testing.objects import MemoryObjects

SMALL = Limits(chunk_bytes=64, write_bytes=32, tick_seconds=0.001)
LINES = b"n,s\n" + b"".join([b"%d,%s\n" % (n, b"y" * (n % 11)) for n in range(150)])
QUOTED = b"".join([b'%d,"%s"\n' % (n, b"y\n" * (n % 5)) for n in range(150)])
TABLE = pa.table({"n": list(range(150)), "s": ["y\n" * (n % 5) for n in range(150)]})
SETTINGS: dict[str, tuple[dict[str, str], bytes, JoinSource]] = {
    "compressed": ({"output_compression": "gzip"}, LINES, JoinSource.NONE),
    "header": ({"csv_header": "repeat", "output_compression": "zstd"}, LINES, JoinSource.NONE),
    "named": ({"csv_header": "skip", "output_columns": "n2,s2"}, LINES, JoinSource.INPUT),
    "quoted": ({"csv_records": "rfc4180"}, QUOTED, JoinSource.NONE),
    "text of a table": ({"input_format": "parquet", "csv_header": "repeat"}, parquet(TABLE, 40), JoinSource.NONE),
    "joined tables": (
        {"input_format": "arrow", "input_columns": "n", "output_format": "parquet"},
        arrow(TABLE),
        JoinSource.INPUT,
    ),
    "table of text": ({"csv_records": "rfc4180", "output_format": "arrow"}, QUOTED, JoinSource.NONE),
}


class NotingJournal:
    """A journal that tells when something was saved in it."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.saved = asyncio.Event()
        self.load = journal.load
        self.load_of = journal.load_of
        self.take_over = journal.take_over

    async def save(self, entries: Mapping[str, bytes | None]) -> None:
        await self._journal.save(entries)
        self.saved.set()


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("strategy", BatchStrategy)
@pytest.mark.parametrize("other_jobs", [False, True], ids=["same job", "other jobs"])
@pytest.mark.parametrize("seed", range(2))
async def test_a_crash_changes_no_byte(
    name: str, strategy: BatchStrategy, other_jobs: bool, seed: int, tmp_path: Path
) -> None:
    """Whenever and however often the work breaks off, formats are gone on with like lines, by whatever job resumes."""
    variables, data, join = SETTINGS[name]
    chance = random.Random(f"{name} {strategy} {seed} {other_jobs}")
    spec = job(
        split=SplitType.LINE,
        strategy=strategy,
        assemble_with=AssembleWith.LINE,
        content_type="text/csv",
        accept="text/csv",
        processing=DataProcessing(join_source=join),
        environment={f"MILLRACE_{key.upper()}": value for key, value in variables.items()},
    )
    effective = EffectiveSettings(max_concurrent_transforms=4, max_payload_bytes=40, strategy=strategy)
    inputs = {"in/a.csv": data, "in/b.csv": data}
    undisturbed = await run_job(spec, ECHO, inputs, limits=SMALL, effective=effective, scratch=tmp_path)
    assert not undisturbed.failed
    expected = {key: undisturbed.objects.data(f"s3://b/{key}") for key in undisturbed.objects.keys("b", "out/")}
    assert len(expected) == 2

    journals, objects = MemoryJournals(), MemoryObjects()
    requests = undisturbed.outcome.progress.requests
    went_on = 0
    asked = 0
    for attempt in range(1, requests + 2):  # each life commits at least a payload
        left = chance.randrange(8, requests // 2 - 2)
        stop = asyncio.Event()
        job_id = attempt if other_jobs else 1
        journal = NotingJournal(journals.open(InstanceRef(job_id=job_id, index=0, attempt=attempt)))
        scratch = tmp_path / str(attempt)
        scratch.mkdir()

        async def dying(
            request: ModelRequest, stop: asyncio.Event = stop, saved: asyncio.Event = journal.saved
        ) -> ModelReply:
            nonlocal left
            if request.path == "/invocations":
                left -= 1
                if left <= 0:
                    await saved.wait()  # so that every life comes further than the one before
                    stop.set()
                    await asyncio.Event().wait()
            return await ECHO(request)

        result = await run_job(
            spec,
            dying,
            inputs if attempt == 1 else {},
            limits=SMALL,
            effective=effective,
            objects=objects,
            checkpoints=Checkpoints(
                journal=journal,
                work=f"job {job_id}",
                earlier=[f"job {number}" for number in range(job_id - 1, 0, -1)],
                resumes=attempt > 1,
                found=await journal.load(),
                pause_seconds=0.0,
                share=1e9,
            ),
            stop=stop,
            scratch=scratch,
            resumed=range(job_id - 1, 0, -1),
        )
        asked += result.outcome.progress.requests
        assert list(scratch.iterdir()) == []
        went_on += sum("going on at byte" in line for line in result.log)
        if not result.outcome.stopped:
            break
    assert not result.failed
    assert {key: objects.data(f"s3://b/{key}") for key in objects.keys("b", "out/")} == expected
    assert result.outcome.progress.records == undisturbed.outcome.progress.records
    assert attempt > 1
    assert went_on, "the work was taken up in the midst of objects"
    assert asked <= requests + 8 * attempt, "what was committed is not invoked again"
    assert not objects.drafts.kept, "no draft is left"
