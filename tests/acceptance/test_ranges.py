"""Jobs that cut large objects into ranges: several instances share one, and its output is that of one instance."""

import asyncio
import random
from collections import Counter
from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.acceptance.range_rig import OUTPUT, Deaths, Rig, lines, refuse_bad, totals
from tests.acceptance.transform_rig import ECHO, Result

from millrace.dataplane.checkpoints import JOINT_KEY, Checkpoints
from millrace.dataplane.plan import InputObject
from millrace.errors import LeaseLost
from millrace.jobs.transform import (
    AssembleWith,
    BatchStrategy,
    DataProcessing,
    JoinSource,
    transform_failure_reason,
)
from millrace.jobs.transform_options import JobOptions, OnError, Scheduling
from millrace.names import ObjectRef
from millrace.ports.jobs import InstanceRef
from millrace.testing.model_server import ModelReply, ModelRequest

ERRORS = "s3://b/out/a.csv.errors.jsonl"


@settings(max_examples=25)
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


@pytest.mark.parametrize("commits", range(1, 12))
async def test_a_crash_before_any_commit_changes_nothing(commits: int) -> None:
    """Be it that of a range, of what tells of bad records, or of the output: who takes the work up finishes it."""
    data = lines(60, bad=(4, 40))
    rig = Rig(options=JobOptions(range_bytes=200, on_error=OnError.QUARANTINE))
    rig.objects.add("s3://b/in/a.csv", data)
    deaths = Deaths(commits)
    results = []
    for index in range(3):
        try:
            results.append(await rig.run(index, refuse_bad, guard=deaths))
        except LeaseLost:
            rig.objects.drafts.kill_writers()
            results.append(await rig.run(index, refuse_bad))
    good = b"".join(line for line in data.splitlines(keepends=True) if b"BAD" not in line)
    assert rig.objects.data(OUTPUT) == good
    assert [orjson.loads(line)["input"] for line in rig.objects.data(ERRORS).splitlines()] == ["BAD4\n", "BAD40\n"]
    assert totals(results) == (1, 1, 0, 58, 2, 0)
    assert not rig.objects.drafts.kept
    again = [await rig.run(index, refuse_bad) for index in range(3)]
    assert totals(again) == (1, 1, 0, 58, 2, 0), "a job whose server did not hear of its end counts the same"
    assert not any(result.outcome.progress.requests for result in again)
    assert [len(result.committed) for result in again] == [0, 0, 1], "and tells of the object once"


@pytest.mark.parametrize("codec", [None, "zstd"])
@pytest.mark.parametrize("saves", [0, 1, 2, 3, 5, 8, 13, 21])
async def test_a_crash_at_any_entry_of_the_journal_changes_nothing(saves: int, codec: str | None) -> None:
    """Parts of ranges, ranges, and what is joined already: whatever was not told is done or copied again."""
    data = lines(60)
    environment = {} if codec is None else {"MILLRACE_OUTPUT_COMPRESSION": codec}
    undisturbed = Rig(options=JobOptions(range_bytes=90), environment=environment)
    rig = Rig(options=JobOptions(range_bytes=90), environment=environment)
    for it in (undisturbed, rig):
        it.objects.add("s3://b/in/a.csv", data)
    for index in range(3):
        await undisturbed.run(index)
    results = []
    for index in (0, 2, 1):
        with suppress(LeaseLost):
            results.append(await rig.run(index, saves=saves))
            continue
        rig.objects.drafts.kill_writers()
        results.append(await rig.run(index))
    assert rig.objects.data(OUTPUT) == undisturbed.objects.data(OUTPUT)
    assert totals(results) == (1, 1, 0, 60, 0, 0)
    assert not rig.objects.drafts.kept


@pytest.mark.parametrize("index", range(3))
async def test_no_lock_is_left_of_an_instance_that_was_killed_with_it(index: int) -> None:
    """Also if another one made the output meanwhile, and there is nothing left to be joined."""
    rig = Rig(options=JobOptions(range_bytes=200))
    ref = rig.objects.add("s3://b/in/a.csv", lines(60))
    for it in range(3):
        await rig.run(it)
    output = ObjectRef("b", "out/a.csv.out")
    checkpoints = Checkpoints(journal=rig.journals.open(InstanceRef(job_id=1, index=9, attempt=1)), work="job 1")
    lock = checkpoints.joint_lock(InputObject(ref=ref, size=1, output=output))
    await (await rig.objects.open_resumable(output, draft=lock, at=0)).suspend()
    await rig.run(index)
    assert not rig.objects.drafts.kept


async def test_no_range_is_left_of_a_job_that_was_broken_off_once_its_output_was_there() -> None:
    """Each instance of the job that resumes it knows of its own ranges only, until all have begun."""
    rig = Rig(options=JobOptions(range_bytes=200))
    rig.objects.add("s3://b/in/a.csv", lines(60))
    for index in range(3):
        await rig.run(index)
    output = ObjectRef("b", "out/a.csv.out")
    entries = {key: orjson.loads(entry) for held in rig.journals.entries[1].values() for key, entry in held.items()}
    ranges = [entry["draft"] for entry in entries.values() if "ended_at" in entry]
    assert len(ranges) > 3, "instances have several"
    for draft in ranges:
        await (await rig.objects.open_resumable(output, draft=draft, at=0)).suspend()
    resuming = rig.resuming()
    results = [await resuming.run(index) for index in range(3)]
    assert not any(result.outcome.progress.requests for result in results)
    assert not rig.objects.drafts.kept


async def test_what_is_done_is_copied_before_all_is() -> None:
    """Whoever ends the last range has little left to copy: the first ranges are in the joint draft by then."""
    data = lines(120)
    rig = Rig(options=JobOptions(range_bytes=90, scheduling=Scheduling.MODULO))
    rig.objects.add("s3://b/in/a.csv", data)
    await rig.run(0)
    await rig.run(1)
    entries = {key: entry for held in rig.journals.entries[1].values() for key, entry in held.items()}
    [told] = [orjson.loads(entry) for key, entry in entries.items() if key.startswith(JOINT_KEY)]
    assert told["parts"] == 2, "the third is instance 2's"
    assert rig.objects.drafts.read("b", told["draft"], told["bytes"]) == data[: told["bytes"]]
    assert 170 <= told["bytes"] <= 210


@pytest.mark.parametrize("requests", [1, 5, 12, 20, 33])
@pytest.mark.parametrize("strategy", BatchStrategy)
async def test_a_range_is_gone_on_with(requests: int, strategy: BatchStrategy) -> None:
    """What was committed of it is not invoked again, and payloads begin where they would have."""
    data = lines(120)
    undisturbed = Rig(count=1, strategy=strategy, options=JobOptions(range_bytes=400))
    undisturbed.objects.add("s3://b/in/a.csv", data)
    expected = Counter(_bodies(await undisturbed.run(0)))

    rig = Rig(strategy=strategy, options=JobOptions(range_bytes=400))
    rig.objects.add("s3://b/in/a.csv", data)
    left, stop = requests, asyncio.Event()

    async def dying(request: ModelRequest) -> ModelReply:
        nonlocal left
        if request.path == "/invocations":
            left -= 1
            if left <= 0:
                stop.set()
                await asyncio.Event().wait()
        return await ECHO(request)

    first = await rig.run(0, dying, stop=stop)
    results = [await rig.run(index) for index in (2, 1, 0)]
    assert rig.objects.data(OUTPUT) == data
    done = Counter(body for result in results for body in _bodies(result))
    assert not expected - (done + Counter(_bodies(first))), "each payload is that of an undisturbed run"
    assert not (done + Counter(_bodies(first))).keys() - expected.keys()
    assert totals(results) == (1, 1, 0, 120, 0, 0)


def _bodies(result: Result) -> list[bytes]:
    return [request.body for request in result.server.requests if request.path == "/invocations"]


async def test_another_number_of_instances_goes_on_with_ranges() -> None:
    """Where an object is cut depends on its size alone: a job that resumes another one finds what that has done."""
    data = lines(90, bad=(70,))
    rig = Rig(count=3, options=JobOptions(range_bytes=150))
    rig.objects.add("s3://b/in/a.csv", data)
    failed = [await rig.run(index, refuse_bad) for index in range(3)]
    assert not rig.objects.keys("b", "out/")
    reason = transform_failure_reason([result.outcome for result in failed])
    assert reason is not None
    assert "1 of 1 object failed; first: in/a.csv, record " in reason
    assert f" at byte {data.index(b'BAD')}: " in reason, "the byte is the object's own"

    resuming = rig.resuming(count=2)
    results = [await resuming.run(index) for index in range(2)]
    assert rig.objects.data(OUTPUT) == data
    assert totals(results) == (1, 1, 0, 90, 0, 0)
    assert sum(result.outcome.progress.requests for result in results) < 30, "only the range that failed is done again"


async def test_ranges_that_fail_are_one_object_that_fails() -> None:
    """However many of them do; the first in the object is told."""
    data = lines(90, bad=(3, 40, 70, 88))
    rig = Rig(options=JobOptions(range_bytes=150))
    rig.objects.add("s3://b/in/a.csv", data)
    rig.objects.add("s3://b/in/b.csv", b"1\n")
    outcomes = [(await rig.run(index, refuse_bad)).outcome for index in (2, 0, 1)]
    reason = transform_failure_reason(outcomes)
    assert reason is not None
    assert "1 of 2 objects failed; first: in/a.csv, record 4 at byte " in reason


async def test_an_object_that_changes_meanwhile_has_no_output() -> None:
    """Ranges of two versions are never joined, whenever the new one came."""
    rig = Rig(options=JobOptions(range_bytes=100))
    rig.objects.add("s3://b/in/a.csv", lines(60))
    before = await rig.run(0)
    rig.objects.add("s3://b/in/a.csv", lines(60).replace(b"y", b"n"))
    after = [await rig.run(index) for index in (1, 2)]
    assert not before.failed
    assert not rig.objects.keys("b", "out/")
    reason = transform_failure_reason([result.outcome for result in (before, *after)])
    assert reason is not None
    assert "s3://b/in/a.csv was written to while ranges of it were transformed" in reason


async def test_a_change_while_a_range_is_read_is_found() -> None:
    """The range is not committed as one of the version that was listed."""
    rig = Rig(count=1, options=JobOptions(range_bytes=1000))
    rig.objects.add("s3://b/in/a.csv", lines(120))

    async def writing(request: ModelRequest) -> ModelReply:
        if request.path == "/invocations" and request.body.startswith(b"50,"):
            rig.objects.add("s3://b/in/a.csv", lines(120).replace(b"y", b"n"))
        return await ECHO(request)

    result = await rig.run(0, writing)
    assert "was written to while ranges of it were transformed" in result.reason
    assert not rig.objects.keys("b", "out/")


async def test_what_has_gone_of_a_range_is_told() -> None:
    """And a job that resumes this one does that range again."""
    data = lines(60)
    rig = Rig(options=JobOptions(range_bytes=200))
    rig.objects.add("s3://b/in/a.csv", data)
    for index in (0, 1):
        await rig.run(index)
    rig.objects.drafts.kept.clear()
    last = await rig.run(2)
    assert last.reason.startswith("InternalServerError: ")
    assert "what a range of s3://b/in/a.csv gave is no longer there" in last.reason
    resuming = rig.resuming()
    results = [await resuming.run(index) for index in range(3)]
    assert rig.objects.data(OUTPUT) == data
    assert totals(results) == (1, 1, 0, 60, 0, 0)
    assert not rig.objects.drafts.kept
