"""Jobs that cut large objects into ranges: several instances share one, and its output is that of one instance."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.acceptance.transform_rig import ECHO, Result, job, run_job

from millrace.dataplane import EffectiveSettings, Limits
from millrace.dataplane.checkpoints import Checkpoints
from millrace.jobs.transform import AssembleWith, BatchStrategy, DataProcessing, JoinSource, SplitType, TransformSpec
from millrace.jobs.transform_options import JobOptions, OnError
from millrace.ports.jobs import InstanceRef
from millrace.testing.journal import MemoryJournals
from millrace.testing.model_server import Behaviour, ModelReply, ModelRequest
from millrace.testing.objects import MemoryObjects

SMALL = Limits(chunk_bytes=64, write_bytes=32, tick_seconds=0.001)
OUTPUT = "s3://b/out/a.csv.out"
ERRORS = "s3://b/out/a.csv.errors.jsonl"


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
        self.effective = EffectiveSettings(max_concurrent_transforms=3, max_payload_bytes=60, strategy=strategy)
        self.options = options or JobOptions(range_bytes=100)
        self.objects = objects or MemoryObjects()
        self.journals = journals or MemoryJournals()
        self.work = work
        self.job_id = job_id
        self.resumed = resumed
        self.attempts: Counter[int] = Counter()

    async def run(
        self,
        index: int,
        behaviour: Behaviour = ECHO,
        *,
        stop: asyncio.Event | None = None,
        guard: Any = None,
    ) -> Result:
        """Run an attempt of one instance."""
        self.attempts[index] += 1
        attempt = self.attempts[index]
        journal = self.journals.open(InstanceRef(job_id=self.job_id, index=index, attempt=attempt))
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


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(st.binary(max_size=40).map(lambda row: row.replace(b"\n", b"")), max_size=30),
    ends=st.booleans(),
    count=st.integers(1, 4),
    order=st.randoms(use_true_random=False),
    together=st.booleans(),
    range_bytes=st.integers(1, 200),
)
async def test_what_is_joined_is_what_one_instance_makes(
    rows: list[bytes], ends: bool, count: int, order: random.Random, together: bool, range_bytes: int
) -> None:
    """For any content, any number of instances and any order in which they end, nothing is lost or done twice."""
    data = b"\n".join(rows) + (b"\n" if ends else b"")
    rig = Rig(count=count, options=JobOptions(range_bytes=range_bytes))
    rig.objects.add("s3://b/in/a.csv", data)
    seen: Counter[bytes] = Counter()

    async def noting(request: ModelRequest) -> ModelReply:
        if request.path == "/invocations":
            seen[request.body] += 1
        return await ECHO(request)

    indexes = list(range(count))
    order.shuffle(indexes)
    if together:
        results = list(await asyncio.gather(*(rig.run(index, noting) for index in indexes)))
    else:
        results = [await rig.run(index, noting) for index in indexes]
    assert rig.objects.data(OUTPUT) == data
    records = data.split(b"\n")
    assert seen == Counter([record + b"\n" for record in records[:-1]] + [last for last in records[-1:] if last])
    assert totals(results) == (1, 1, 0, seen.total(), 0, 0)
    assert sum(len(result.committed) for result in results) == 1
    assert not rig.objects.drafts.kept, "nothing is left of the parts"
    assert rig.objects.keys("b", "out/") == ["out/a.csv.out"]


SETTINGS: dict[str, dict[str, Any]] = {
    "single": {},
    "many": {"strategy": BatchStrategy.MULTI_RECORD},
    "lines": {"assemble_with": AssembleWith.LINE},
    "joined": {
        "assemble_with": AssembleWith.LINE,
        "processing": DataProcessing(join_source=JoinSource.INPUT),
        "content_type": "text/csv",
        "accept": "text/csv",
    },
    "header": {"content_type": "text/csv", "environment": {"MILLRACE_CSV_HEADER": "repeat"}},
    "quarantine": {"options": JobOptions(range_bytes=100, on_error=OnError.QUARANTINE)},
    "skip": {"options": JobOptions(range_bytes=100, on_error=OnError.SKIP), "strategy": BatchStrategy.MULTI_RECORD},
}


@pytest.mark.parametrize("name", SETTINGS)
async def test_instances_share_an_object(name: str) -> None:
    """Filters, joins, headers and bad records: every record is in the output once, and told of once if it is bad."""
    bad = (5, 33, 60) if name in ("quarantine", "skip") else ()
    data = lines(80, bad=bad, blank=(7, 50) if name == "joined" else ())
    alone = Rig(count=1, **{**SETTINGS[name], "options": _whole(SETTINGS[name])})
    alone.objects.add("s3://b/in/a.csv", data)
    expected = await alone.run(0, refuse_bad)
    assert not expected.failed

    rig = Rig(**SETTINGS[name])
    rig.objects.add("s3://b/in/a.csv", data)
    results = await asyncio.gather(*(rig.run(index, refuse_bad) for index in range(3)))
    assert all(result.outcome.progress.requests for result in results), "all of them work"
    assert totals(results) == totals([expected])
    assert rig.objects.keys("b", "out/") == alone.objects.keys("b", "out/")
    if name != "header":  # here each request's header is echoed
        assert rig.objects.data(OUTPUT) == expected.output
    for result in results if name == "header" else ():
        assert all(
            request.body.startswith(b"0,\n") for request in result.server.requests if request.path == "/invocations"
        )
    if name == "quarantine":
        told = [orjson.loads(line) for line in rig.objects.data(ERRORS).splitlines()]
        assert [(row["offset"], row["input"]) for row in told] == [
            (row["offset"], row["input"]) for row in map(orjson.loads, alone.objects.data(ERRORS).splitlines())
        ]


def _whole(chosen: dict[str, Any]) -> JobOptions:
    return JobOptions(on_error=chosen["options"].on_error) if "options" in chosen else JobOptions()
