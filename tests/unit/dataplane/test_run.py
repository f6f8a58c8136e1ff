"""Tests of the transform loop beyond the specification's vectors."""

import asyncio
import errno
import gzip
import os
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.transform_rig import ECHO, LEN, MIB, Result, fix, job, no_guard, run_job, status

from millrace.clock import SystemClock
from millrace.dataplane import EffectiveSettings, InputObject, Limits, list_inputs, run_transform
from millrace.dataplane.inputs import InputStream
from millrace.errors import LeaseLost, StoreUnavailable
from millrace.jobs.transform import (
    AssembleWith,
    BatchStrategy,
    Compression,
    DataProcessing,
    JoinSource,
    Progress,
    SourceType,
    SplitType,
)
from millrace.names import ObjectPrefix, ObjectRef
from millrace.ports.objects import ObjectMeta
from millrace.testing.clock import ManualClock
from millrace.testing.model_server import CLOSE, ModelReply, ModelRequest, ModelServer
from millrace.testing.objects import MemoryObjects

SINGLE = {"split": SplitType.LINE, "strategy": BatchStrategy.SINGLE_RECORD}
NO_RETRIES = {"invocation_max_retries": 0}


async def half(request: ModelRequest) -> ModelReply:
    """Announce more than is sent."""
    if request.path != "/invocations":
        return ModelReply(status=404)
    return ModelReply(b"half", headers=(("Content-Length", "1000"),), until_close=True)


async def test_a_stop_drops_what_is_under_way() -> None:
    """A stopped run commits nothing more, keeps what was committed, and says that it was stopped."""
    stop = asyncio.Event()

    async def behave(request: ModelRequest) -> ModelReply:
        if request.body == b"b":
            stop.set()
            await asyncio.Event().wait()
        return ModelReply(request.body, status=200 if request.path == "/invocations" else 404)

    result = await run_job(job(), behave, {"in/a.csv": b"a", "in/b.csv": b"b"}, stop=stop)
    assert result.outcome.stopped
    assert not result.failed
    assert result.objects.keys("b", "out/") in (["out/a.csv.out"], [])


async def test_nothing_is_committed_after_a_stop() -> None:
    """A stop that comes while the guard is asked still holds."""
    stop = asyncio.Event()

    async def guard() -> None:
        stop.set()

    result = await run_job(job(), ECHO, b"a", stop=stop, guard=guard)
    assert result.outcome.stopped
    assert result.objects.keys("b", "out/") == []


async def test_a_lost_lease_ends_the_run() -> None:
    """If the work was taken over, the run raises and writes nothing."""
    objects = MemoryObjects()

    async def guard() -> None:
        raise LeaseLost("another agent has it")

    with pytest.raises(LeaseLost):
        await run_job(job(), ECHO, {"in/a.csv": b"a", "in/b.csv": b"b"}, guard=guard, objects=objects)
    assert objects.keys("b", "out/") == []
    assert objects.open_writers == 0


async def test_a_broken_store_ends_the_run() -> None:
    """An error that no object is to blame for is raised, and writers are aborted."""

    class Broken(MemoryObjects):
        async def read(self, ref: ObjectRef, *, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
            yield b"1\n" * 300_000
            raise StoreUnavailable("disk on fire")

    objects = Broken()
    with pytest.raises(StoreUnavailable, match="disk on fire"):
        await run_job(job(**SINGLE), LEN, b"x", objects=objects)
    assert objects.open_writers == 0


async def test_cancelling_leaves_nothing_behind() -> None:
    """A cancelled run aborts its writers and closes its connections before it ends."""
    objects = MemoryObjects()

    async def behave(request: ModelRequest) -> ModelReply:
        if request.path == "/invocations":
            running.cancel()
            await asyncio.Event().wait()
        return ModelReply(status=404)

    running = asyncio.ensure_future(run_job(job(), behave, b"a", objects=objects))
    with pytest.raises(asyncio.CancelledError):
        await running
    assert objects.open_writers == 0


async def test_the_earliest_failure_is_told() -> None:
    """If a later record fails first, the object's failure is still that of the earliest failing record."""
    second_failed = asyncio.Event()

    async def behave(request: ModelRequest) -> ModelReply:
        if request.path != "/invocations":
            return ModelReply(status=404)
        if request.body == b"1\n":
            await second_failed.wait()
            return ModelReply(b"first", status=400)
        second_failed.set()
        return ModelReply(b"later", status=400)

    result = await run_job(job(**SINGLE, max_concurrent_transforms=2), behave, b"1\n2\n3\n")
    failure = result.outcome.failures[0]
    assert (failure.record, failure.offset, failure.answer, failure.status) == (1, 0, "first", 400)
    assert result.outcome.failure_count == 1


@pytest.mark.parametrize("packed", [False, True])
async def test_how_far_a_job_is_follows_from_results_not_from_what_was_read(packed: bool) -> None:
    """Small objects are read long before the container comes to them; compressed ones count as they are stored."""
    clock, reached = ManualClock(), asyncio.Event()
    rows = b"".join(b"%03d\n" % number for number in range(100))
    stored = gzip.compress(rows) if packed else rows

    async def behave(request: ModelRequest) -> ModelReply:
        if request.body == b"025\n" and not reached.is_set():
            reached.set()
            await clock.sleep(1)
        return ModelReply(request.body, status=200 if request.path == "/invocations" else 404)

    async def drive(server: ModelServer) -> None:
        await reached.wait()
        await clock.sleepers(2)  # the model, and the next look
        clock.advance(0.5)
        await clock.sleepers(2)
        clock.advance(1)

    spec = job(**SINGLE, compression=Compression.GZIP if packed else Compression.NONE, max_concurrent_transforms=1)
    result = await run_job(spec, behave, {"in/a.csv": stored, "in/b.csv": stored}, clock=clock, driver=drive)
    then, last = next(it for it in result.progress if it.records == 25), result.progress[-1]
    size = len(stored)
    assert (then.bytes_in, then.bytes_done) == (2 * size, size // 4)
    assert [(it.key, it.bytes_in, it.bytes_done) for it in then.open_objects] == [
        ("in/a.csv", size, size // 4),
        ("in/b.csv", size, 0),
    ]
    assert (last.bytes_in, last.bytes_done, last.bytes_total) == (2 * size, 2 * size, 2 * size)


async def test_a_failure_ends_the_back_off_of_later_records() -> None:
    """When a record fails for good, a later one of its object that backs off is not sent again."""
    clock = ManualClock()
    backing_off = asyncio.Event()

    async def behave(request: ModelRequest) -> ModelReply:
        if request.path != "/invocations":
            return ModelReply(status=404)
        if request.body == b"2\n":
            return ModelReply(status=503)
        await backing_off.wait()
        return ModelReply(b"no", status=400)

    async def drive(server: ModelServer) -> None:
        await clock.sleepers(2)
        backing_off.set()

    spec = job(**SINGLE, max_concurrent_transforms=2)
    result = await run_job(spec, behave, b"1\n2\n", clock=clock, driver=drive)
    assert result.outcome.failures[0].record == 1
    assert sorted(result.server.bodies) == [b"1\n", b"2\n"]


@pytest.mark.parametrize(
    ("then", "record", "label"), [(500, 1, "AlgorithmError"), (400, 1, "ClientError"), (200, 2, "ClientError")]
)
@pytest.mark.parametrize("later_fails_first", [True, False])
async def test_the_failure_told_does_not_depend_on_time(
    then: int, record: int, label: str, later_fails_first: bool
) -> None:
    """An earlier record that backs off gets all its attempts, whenever a later one fails: only then is it told."""
    clock = ManualClock()
    later = asyncio.Event()
    answers = [500, then]
    if later_fails_first:
        later.set()

    async def behave(request: ModelRequest) -> ModelReply:
        if request.path != "/invocations":
            return ModelReply(status=404)
        if request.body == b"1\n":
            return ModelReply(status=answers.pop(0))
        await later.wait()
        return ModelReply(status=400)

    async def drive(server: ModelServer) -> None:
        await server.received(2)
        await clock.sleepers(2)
        clock.advance(2)
        await server.received(3)
        later.set()

    spec = job(**SINGLE, max_concurrent_transforms=2, invocation_max_retries=1)
    result = await run_job(spec, behave, b"1\n2\n3\n", clock=clock, driver=drive)
    failure = result.outcome.failures[0]
    assert (failure.record, failure.label, result.outcome.failure_count) == (record, label, 1)
    assert answers == []


async def test_retry_after_is_honoured() -> None:
    """The container's wish for a pause counts more than the back-off."""
    clock = ManualClock()
    answers = [ModelReply(status=429, headers=(("Retry-After", "33"),)), ModelReply(b"ok")]

    async def behave(request: ModelRequest) -> ModelReply:
        return answers.pop(0) if request.path == "/invocations" else ModelReply(status=404)

    async def drive(server: ModelServer) -> None:
        await clock.sleepers(2)
        assert max(clock.pending) == 33
        clock.advance(34)

    result = await run_job(job(**SINGLE), behave, b"1\n", clock=clock, driver=drive)
    assert result.output == b"ok"


async def test_a_missing_manifest_entry_fails_alone() -> None:
    """An entry without an object fails; the others have their outputs."""
    inputs = {"m.json": b'[{"prefix":"s3://b/p/"},"none","one"]', "p/one": b"1"}
    spec = job(source=ObjectPrefix("b", "m.json"), source_type=SourceType.MANIFEST)
    result = await run_job(spec, ECHO, inputs)
    assert result.objects.keys("b", "out/") == ["out/one.out"]
    assert result.outcome.failures[0].message == "s3://b/p/none does not exist"


@pytest.mark.parametrize("settings", [{}, SINGLE, {"max_payload_bytes": 0}])
async def test_a_missing_output_bucket_fails_the_object(settings: dict[str, object]) -> None:
    """An output path in a bucket that does not exist is the client's error, and names it."""
    result = await run_job(job(output=ObjectPrefix("nowhere", ""), **settings), ECHO, b"1\n")
    assert result.reason.startswith("ClientError")
    assert "nowhere" in result.reason


@pytest.mark.parametrize("settings", [{}, SINGLE])
async def test_missing_output_buckets_keep_no_room(settings: dict[str, object]) -> None:
    """Answers that can be written nowhere give their room back: more objects than there is room for all fail."""
    inputs = {f"in/{n:03}": b"1,2,3\n" * 200 for n in range(40)}
    spec = job(output=ObjectPrefix("nowhere", ""), **settings)
    result = await run_job(spec, ECHO, inputs, limits=Limits(chunk_bytes=1000, inflight_bytes=5000, answers_held=8))
    assert result.outcome.failure_count == 40


async def test_a_join_failure_names_the_very_record() -> None:
    """Number and offset are those of the record that cannot be joined, blank lines counted."""
    spec = job(
        split=SplitType.LINE,
        assemble_with=AssembleWith.LINE,
        content_type="text/csv",
        accept="text/csv",
        processing=DataProcessing(join_source=JoinSource.INPUT),
    )
    data = b'1\n\n"2\n3\n'
    result = await run_job(spec, fix("a\nb\nc\n"), data)
    failure = result.outcome.failures[0]
    assert (failure.record, failure.offset) == (3, data.index(b'"'))
    assert failure.message.startswith('Failed to parse input as CSV: extraneous or missing " in quoted field')


async def test_an_input_filter_failure_names_the_very_record() -> None:
    """A record that the filter does not fit is named by number and offset, before anything of it is sent."""
    spec = job(**SINGLE, content_type="text/csv", processing=DataProcessing(input_filter="$[1]"))
    result = await run_job(spec, ECHO, b"1,2\n3\n4,5\n")
    failure = result.outcome.failures[0]
    assert (failure.record, failure.offset) == (2, 4)
    assert result.server.bodies == [b"2\n"]


@pytest.mark.parametrize("concurrency", [1, 3, 16])
async def test_many_objects_pass_through_small_limits(concurrency: int) -> None:
    """Limits far smaller than the job hold nothing up: every object is written, in order of its records."""
    inputs = {f"in/{n:03d}": b"".join(b"%d-%d\n" % (n, m) for m in range(n % 7)) for n in range(60)}
    result = await run_job(
        job(**SINGLE, max_concurrent_transforms=concurrency),
        ECHO,
        inputs,
        limits=Limits(chunk_bytes=16, inflight_bytes=64, answers_held=4, objects_open=2, write_bytes=32),
    )
    for key, data in inputs.items():
        assert result.objects.data(f"s3://b/out/{key[3:]}.out") == data
    progress = result.outcome.progress
    assert (progress.objects_total, progress.objects_done, progress.in_flight) == (60, 60, 0)
    assert progress.records == progress.requests == sum(data.count(b"\n") for data in inputs.values())
    assert progress.bytes_in == progress.bytes_total == progress.bytes_out


async def test_the_next_object_starts_while_answers_are_awaited() -> None:
    """With split objects the requests in flight come from two objects at a border."""
    both = asyncio.Event()

    async def behave(request: ModelRequest) -> ModelReply:
        if request.body == b"b\n":
            both.set()
        elif request.path == "/invocations":
            await both.wait()
        return ModelReply(request.body, status=200 if request.path == "/invocations" else 404)

    spec = job(**SINGLE, max_concurrent_transforms=2)
    result = await run_job(spec, behave, {"in/a.csv": b"a\n", "in/b.csv": b"b\n"})
    assert result.objects.keys("b", "out/") == ["out/a.csv.out", "out/b.csv.out"]


async def test_a_payload_larger_than_all_room_is_let_through() -> None:
    """One payload always passes, however little room there is."""
    data = b"x" * 3 * MIB + b"\n" + b"y\n"
    result = await run_job(job(**SINGLE), ECHO, data, limits=Limits(chunk_bytes=1000, inflight_bytes=2000))
    assert result.output == data


async def test_an_object_fails_early_when_a_record_does_not_end() -> None:
    """A record longer than the limit is refused without reading the object to its end."""
    result = await run_job(
        job(**SINGLE, max_payload_bytes=MIB), ECHO, b"1\n" + b"x" * 20 * MIB, limits=Limits(inflight_bytes=4 * MIB)
    )
    failure = result.outcome.failures[0]
    assert (failure.record, failure.offset) == (2, 2)
    assert failure.message == "Too much data for max payload size: it must be at most 1048576 bytes"
    assert result.outcome.progress.bytes_in < 8 * MIB


async def test_a_stale_connection_costs_no_attempt() -> None:
    """A connection that the server closed while idle is replaced, even if retries are off."""
    closes: list[ModelReply] = []

    async def behave(request: ModelRequest) -> ModelReply:
        if request.body == b"2\n" and not closes:
            closes.append(CLOSE)
            return CLOSE
        return ModelReply(request.body, status=200 if request.path == "/invocations" else 404)

    result = await run_job(job(**SINGLE, **NO_RETRIES), behave, b"1\n2\n3\n")
    assert result.output == b"1\n2\n3\n"


async def test_a_server_without_keep_alive_works() -> None:
    """HTTP/1.0 style answers that end with the connection are answers too."""

    async def behave(request: ModelRequest) -> ModelReply:
        found = request.path == "/invocations"
        return ModelReply(request.body, status=200 if found else 404, until_close=True)

    result = await run_job(job(**SINGLE, max_concurrent_transforms=3), behave, b"1\n2\n3\n4\n5\n")
    assert result.output == b"1\n2\n3\n4\n5\n"


async def test_a_long_answer_is_cut() -> None:
    """Of a failing answer 500 characters are kept, and the reason stays within 1,024."""
    result = await run_job(job(**NO_RETRIES), status(500, "x" * 5000), b"1")
    assert len(result.outcome.failures[0].answer or "") == 500
    assert len(result.reason) <= 1024


async def test_a_container_that_went_away_is_named() -> None:
    """If nobody listens any more, the message tells which address was tried."""

    async def behave(request: ModelRequest) -> ModelReply:
        return ModelReply(request.body, status=200 if request.path == "/invocations" else 404)

    result = await run_job(job(**NO_RETRIES), behave, b"1")
    gone = result.server.address
    failed = await run_transform(
        job(**NO_RETRIES),
        await list_inputs(result.objects, job()),
        objects=result.objects,
        address=gone,
        effective=EffectiveSettings(),
        data_log=lambda line: None,
        on_progress=lambda progress: None,
        stop=asyncio.Event(),
        commit_guard=no_guard,
        clock=ManualClock(),
    )
    assert failed.failures[0].label == "AlgorithmError"
    assert f"cannot connect to {gone}" in failed.failures[0].message


STREAMED = {"max_payload_bytes": 0}


@pytest.mark.parametrize("compression", [Compression.NONE, Compression.GZIP])
async def test_a_streamed_object_passes_whole(compression: Compression) -> None:
    """Without a payload limit an object is one request, and its answer is the output."""
    data = b"0123456789" * 300_000
    stored = gzip.compress(data) if compression is Compression.GZIP else data
    spec = job(**STREAMED, compression=compression, assemble_with=AssembleWith.LINE)
    result = await run_job(spec, ECHO, {"in/a.csv": stored, "in/b.csv": b""})
    assert result.output == data + b"\n"
    assert result.objects.data("s3://b/out/b.csv.out") == b""
    assert result.outcome.progress.requests == 1


async def test_a_streamed_object_is_read_again_for_a_retry() -> None:
    """A retry of a streamed body reads the object again."""
    clock = ManualClock()
    answers = [503, 200]

    async def behave(request: ModelRequest) -> ModelReply:
        if request.path != "/invocations":
            return ModelReply(status=404)
        return ModelReply(request.body, status=answers.pop(0))

    async def drive(server: ModelServer) -> None:
        await server.received(1)
        await clock.sleepers(2)
        clock.advance(5)

    result = await run_job(job(**STREAMED), behave, b"x" * 100_000, clock=clock, driver=drive)
    assert result.output == b"x" * 100_000
    assert result.outcome.progress.retries == 1


@pytest.mark.parametrize("split", [SplitType.LINE, SplitType.NONE])
async def test_a_streamed_object_counts_once_however_often_it_is_sent(split: SplitType) -> None:
    """Attempts that failed, before or within their answer, leave no trace in records and bytes."""
    clock = ManualClock()
    cut = ModelReply(b"1\n", headers=(("Content-Length", "99"),), until_close=True)
    answers = [ModelReply(status=500), cut, None]

    async def behave(request: ModelRequest) -> ModelReply:
        if request.path != "/invocations":
            return ModelReply(status=404)
        return answers.pop(0) or ModelReply(request.body)

    async def drive(server: ModelServer) -> None:
        for attempt in (1, 2):
            await server.received(attempt)
            await clock.sleepers(2)
            clock.advance(5)

    spec = job(**STREAMED, split=split, strategy=BatchStrategy.MULTI_RECORD, assemble_with=AssembleWith.LINE)
    data = b"1\n2\n3\n"
    result = await run_job(spec, behave, data, clock=clock, driver=drive)
    progress = result.outcome.progress
    assert result.output == data + b"\n"
    assert (progress.requests, progress.retries) == (3, 2)
    assert progress.records == (3 if split is SplitType.LINE else 1)
    assert (progress.bytes_in, progress.bytes_out) == (len(data), len(data) + 1)


async def test_a_streamed_object_that_fails_counts_no_records() -> None:
    """What was read is counted; records and output are not, for there is no output."""
    result = await run_job(job(**STREAMED, **NO_RETRIES), status(400, "no"), b"1\n2\n")
    progress = result.outcome.progress
    assert (progress.records, progress.bytes_in, progress.bytes_out) == (0, 4, 0)


@pytest.mark.parametrize(
    ("code", "reason"), [(400, "ClientError: See job logs"), (500, "AlgorithmError: See job logs")]
)
async def test_a_streamed_object_fails_as_others_do(code: int, reason: str) -> None:
    """A failing streamed object has no output, and the container's words are told."""
    result = await run_job(job(**STREAMED, **NO_RETRIES), status(code, "the reason"), b"1")
    assert result.reason.startswith(reason)
    assert result.reason.endswith(": the reason")
    assert result.objects.keys("b", "out/") == []


async def test_a_corrupt_gzip_fails_wherever_it_breaks() -> None:
    """Compressed data that is damaged or cut short fails its object, streamed, split or whole."""
    good = gzip.compress(bytes(range(256)) * 4000)
    for settings in ({}, SINGLE, STREAMED):
        for bad in (good[:-4], good[:50] + b"\xff" * 50 + good[100:], good + b"tail"):
            spec = job(compression=Compression.GZIP, **settings)
            result = await run_job(spec, fix("x"), bad)
            assert result.reason.startswith("ClientError"), (settings, bad[:10])
            assert "Failed to decompress gzip" in result.reason
            assert result.objects.keys("b", "out/") == []


async def test_progress_is_told_while_it_runs() -> None:
    """Progress is reported at every tick and at the end."""
    clock = ManualClock()
    asked = asyncio.Event()

    async def behave(request: ModelRequest) -> ModelReply:
        if request.path != "/invocations":
            return ModelReply(status=404)
        await asked.wait()
        return ModelReply(b"ok")

    async def drive(server: ModelServer) -> None:
        await server.received(1)
        await clock.sleepers(1)
        clock.advance(1)
        await clock.sleepers(1)
        asked.set()

    result = await run_job(job(), behave, b"1", clock=clock, driver=drive)
    assert [(one.in_flight, one.objects_done) for one in result.progress] == [(1, 0), (0, 1)]
    assert result.progress[-1].latency_p50_ms >= 1000


async def test_a_product_above_the_services_limit_is_told() -> None:
    """Effective settings that SageMaker would not let one ask for are run, and noted in the data log."""
    settled = EffectiveSettings(max_concurrent_transforms=20, max_payload_bytes=6 * MIB)
    result = await run_job(job(), ECHO, b"1", effective=settled)
    assert "is 120, more than the 100" in result.texts[1]


class FullDisk(MemoryObjects):
    """Takes no byte of one output."""

    async def open_writer(self, ref: ObjectRef, meta: ObjectMeta | None = None) -> Any:
        if "big" in ref.key:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return await super().open_writer(ref, meta)


@pytest.mark.parametrize("settings", [{}, SINGLE, {"max_payload_bytes": 0}], ids=["buffered", "records", "streamed"])
async def test_a_full_disk_fails_the_object_that_found_no_room(settings: dict[str, Any]) -> None:
    """The reason names the object and says that the disk is full; other objects are tried and keep their outputs."""
    inputs = {"in/a": b"1\n", "in/big": b"2\n", "in/c": b"3\n"}
    result = await run_job(job(**settings), ECHO, inputs, objects=FullDisk())
    assert result.reason == (
        "InternalServerError: See job logs for more information. 1 of 3 objects failed; first: in/big: output "
        "s3://b/out/big.out could not be written: the disk of the data directory is full (No space left on device)"
    )
    assert result.objects.keys("b", "out/") == ["out/a.out", "out/c.out"]


async def test_an_output_key_that_is_too_long_fails_its_object_only() -> None:
    """The reason tells the rule, whatever the length of the key."""
    long = "in/" + "n" * 1019
    result = await run_job(job(), ECHO, {"in/a": b"1", long: b"2", "in/z": b"3"})
    assert result.reason.endswith("the key of its output must have at most 1,024 bytes, got 1027")
    assert "1 of 3 objects failed; first: in/nnn" in result.reason
    assert result.objects.keys("b", "out/") == ["out/a.out", "out/z.out"]


@pytest.mark.parametrize("strategy", BatchStrategy)
async def test_damage_of_a_compressed_object_is_told_by_its_place(strategy: BatchStrategy) -> None:
    """The reason names the byte of the compressed object and the record that was not read whole."""
    rows = b"".join(b"%d\n" % number for number in range(30_000))
    packed = bytearray(gzip.compress(rows))
    middle = len(packed) // 2
    packed[middle : middle + 64] = bytes(64)
    spec = job(split=SplitType.LINE, strategy=strategy, compression=Compression.GZIP)
    result = await run_job(spec, ECHO, bytes(packed), limits=Limits(chunk_bytes=8192))
    found = re.search(r"record (\d+) at byte (\d+): Failed to decompress gzip at byte (\d+)", result.reason)
    assert found is not None, result.reason
    record, offset, place = map(int, found.groups())
    assert middle <= place < len(packed), "zlib may read on for a while before nothing fits any more"
    assert 1 < record < 30_000
    assert rows.find(b"\n", 100) < offset < len(rows)


async def test_a_streamed_answer_that_breaks_off_is_told_with_its_cause() -> None:
    """Half an answer is no answer, and the reason says what happened to the rest."""
    result = await run_job(job(max_payload_bytes=0, **NO_RETRIES), half, b"1")
    assert "Unable to get response from algorithm: the server closed the connection" in result.reason


@pytest.mark.parametrize("max_payload_bytes", [0, 6 * MIB])
async def test_a_container_of_a_chain_that_gave_no_answer_is_told_as_one_alone_is(max_payload_bytes: int) -> None:
    """The chain says so in a header; its status is not the container's, and an answer too large is asked for once."""

    async def behave(request: ModelRequest) -> ModelReply:
        headers = (("X-Millrace-Failure", "too-large"),)
        return ModelReply(b"second: got 7", status=500 if request.path == "/invocations" else 404, headers=headers)

    result = await run_job(job(max_payload_bytes=max_payload_bytes), behave, b"1")
    assert result.reason.endswith("record 1 at byte 0: Answer too large: second: got 7")
    assert result.outcome.progress.retries == 0


async def test_control_characters_of_an_answer_are_shown_not_obeyed() -> None:
    """A reason holds none of the codes that a terminal obeys."""

    async def behave(request: ModelRequest) -> ModelReply:
        return ModelReply(b"bad \x1b[31mrow\0", status=400 if request.path == "/invocations" else 404)

    result = await run_job(job(), behave, b"1")
    assert result.reason.endswith("bad \\x1b[31mrow\\x00")


class BrokenStore(MemoryObjects):
    """A store whose writers fail for a reason that is nobody's fault."""

    async def open_writer(self, ref: ObjectRef, meta: ObjectMeta | None = None) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("settings", [{}, SINGLE, {"max_payload_bytes": 0}])
async def test_a_store_that_breaks_ends_the_run(settings: dict[str, Any]) -> None:
    """Also with the last object: a run never ends well without an output for each object that did not fail."""
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        await run_job(job(**settings), ECHO, b"a\n", objects=BrokenStore())


async def test_objects_are_transformed_while_others_are_listed() -> None:
    """The second page is only listed once an object of the first has its output; progress tells that more come."""
    objects = MemoryObjects()
    for number in range(6):
        objects.add(f"s3://b/in/{number}", b"%d" % number)
    listed = await list_inputs(objects, job())
    has_output, progress = asyncio.Event(), list[Progress]()

    async def pages() -> AsyncIterator[Sequence[InputObject]]:
        yield listed[:2]
        await has_output.wait()
        yield listed[2:]

    async with ModelServer(ECHO) as server, InputStream(pages(), folder=Path()) as inputs:
        outcome = await run_transform(
            job(),
            inputs,
            objects=objects,
            address=server.address,
            effective=EffectiveSettings(),
            data_log=lambda line: None,
            on_progress=progress.append,
            stop=asyncio.Event(),
            commit_guard=no_guard,
            clock=SystemClock(),
            limits=Limits(tick_seconds=0.001),
            on_committed=lambda entry: has_output.set(),
        )
    assert [objects.data(f"s3://b/out/{number}.out") for number in range(6)] == [b"%d" % n for n in range(6)]
    assert (outcome.progress.objects_done, outcome.progress.objects_total, outcome.progress.listed) == (6, 6, True)
    assert {(it.objects_total, it.listed) for it in progress} <= {(2, False), (6, False), (6, True)}


@pytest.mark.parametrize("join", [JoinSource.NONE, JoinSource.INPUT])
async def test_small_records_are_read_ahead_of_what_is_sent(join: JoinSource) -> None:
    """The next chunk is read while there are records to send, not when the last one went out."""
    chunk, in_chunk, count = 256 * 1024, 32, 256
    begun: list[int] = []
    asked = 0

    class WatchedObjects(MemoryObjects):
        async def read(self, ref: ObjectRef, *, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
            async for piece in super().read(ref, start=start, length=length):
                begun.append(asked)
                yield piece

    async def behave(request: ModelRequest) -> ModelReply:
        nonlocal asked
        asked += request.path == "/invocations"
        return ModelReply(b"1", status=200 if request.path == "/invocations" else 404)

    record = b"x" * (chunk // in_chunk - 1) + b"\n"
    result = await run_job(
        job(
            **SINGLE,
            max_concurrent_transforms=1,
            content_type="text/csv",
            accept="text/csv",
            assemble_with=AssembleWith.LINE,
            processing=DataProcessing(join_source=join),
        ),
        behave,
        record * count,
        limits=Limits(chunk_bytes=chunk),
        objects=WatchedObjects(chunk_bytes=chunk),
    )
    assert result.outcome.progress.requests == count
    assert len(begun) == count // in_chunk
    assert all(in_chunk * number - sent >= in_chunk for number, sent in enumerate(begun) if number)


async def joined_one_by_one(lines: Sequence[bytes], answers: Mapping[bytes, bytes]) -> Result:
    """Join JSON Lines one a request, and take other answers than 1 for some."""

    async def behave(request: ModelRequest) -> ModelReply:
        return ModelReply(answers.get(request.body, b"1"), status=200 if request.path == "/invocations" else 404)

    json_lines = "application/jsonlines"
    processing = DataProcessing(join_source=JoinSource.INPUT, input_filter="$.a")
    spec = job(
        **SINGLE,
        max_concurrent_transforms=1,
        content_type=json_lines,
        accept=json_lines,
        assemble_with=AssembleWith.LINE,
        processing=processing,
    )
    return await run_job(spec, behave, b"".join(lines))


async def test_blank_lines_among_records_joined_one_by_one_are_not_sent() -> None:
    """Neither is there a row for them."""
    lines = [b'{"a":%d}\n' % number for number in range(6)]
    result = await joined_one_by_one([*lines[:3], b"\n", b"\n", *lines[3:]], {b"4\n": b'{"b": 1.50}'})
    answers = [b"1"] * 4 + [b'{"b":1.50}', b"1"]
    rows = [b'{"SageMakerOutput":%b,"a":%d}\n' % (answer, number) for number, answer in enumerate(answers)]
    assert result.output == b"".join(rows)
    assert result.outcome.progress.requests == 6


@pytest.mark.parametrize(
    ("line", "answer", "told"),
    [
        (b'{"a":4}\n', b'{"b":', "Failed to parse output from the algorithm as JSON"),
        (b'{"b":4}\n', b"1", "Failed to apply InputFilter"),
        (b"nothing\n", b"1", "Failed to parse line"),
    ],
)
async def test_a_record_that_cannot_be_joined_is_told_of_in_the_midst_of_others(
    line: bytes, answer: bytes, told: str
) -> None:
    """It is named by its number and place, whether it or its answer is at fault."""
    lines = [b'{"a":%d}\n' % number for number in range(8)]
    result = await joined_one_by_one([*lines[:4], line, *lines[5:]], {b"4\n": answer})
    [failure] = result.outcome.failures
    assert told in failure.message
    assert (failure.record, failure.offset) == (5, len(b"".join(lines[:4])))
