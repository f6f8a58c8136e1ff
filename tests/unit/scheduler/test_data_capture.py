"""Captured calls find their way into objects, and never into an invocation's."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from millrace.jobs.captured_calls import CapturedCall
from millrace.jobs.endpoint import CaptureMode, DataCapture
from millrace.names import ObjectRef
from millrace.ports.objects import ObjectInfo
from millrace.scheduler.data_capture import CALL_BYTES, DataCaptureWriter
from millrace.store.filesystem import FilesystemObjects
from millrace.testing.clock import ManualClock


@pytest.fixture
async def objects(tmp_path: Path) -> FilesystemObjects:
    store = FilesystemObjects(tmp_path / "objects", durable=False)
    await store.create_bucket("shop", region="us-east-1", owner="0")
    return store


def writer(objects: FilesystemObjects, **members: Any) -> DataCaptureWriter:
    return DataCaptureWriter(
        objects,
        **{
            "clock": ManualClock(datetime(2026, 1, 31, 8, 59, 58, tzinfo=UTC)),
            "flush_seconds": 5.0,
            "flush_bytes": 1 << 20,
            "buffer_bytes": 1 << 20,
            **members,
        },
    )


def settings(**members: Any) -> DataCapture:
    return DataCapture(
        **{
            "destination": "s3://shop/captured",
            "sampling_percentage": 100,
            "modes": (CaptureMode.INPUT, CaptureMode.OUTPUT),
            "csv_types": ("text/csv",),
            **members,
        }
    )


def call(body: bytes = b"1,2", **members: Any) -> CapturedCall:
    return CapturedCall(
        **{
            "endpoint": "e",
            "variant": "v",
            "input_type": "text/csv",
            "input_body": body,
            "output_type": "text/csv",
            "output_body": b"3",
            **members,
        }
    )


async def written(objects: FilesystemObjects) -> dict[str, list[str]]:
    """Return the inputs in each object by key."""
    page = await objects.list_objects("shop", prefix="captured/")
    return {info.ref.key: [line async for line in _inputs(objects, info.ref)] for info in page.objects}


async def _inputs(objects: FilesystemObjects, ref: ObjectRef) -> AsyncIterator[str]:
    content = b"".join([piece async for piece in objects.read(ref)])
    for line in content.splitlines():
        yield json.loads(line)["captureData"]["endpointInput"]["data"]


async def test_calls_are_written_in_order_one_object_for_each_variant(objects: FilesystemObjects) -> None:
    """Below the destination, the endpoint and the variant."""
    capture = writer(objects)
    for number in range(3):
        capture.offer(settings(), call(b"%d" % number))
    capture.offer(settings(), call(b"x", variant="w"))
    assert await written(objects) == {}
    await capture.flush()
    [[first, inputs], [second, others]] = (await written(objects)).items()
    assert first.startswith("captured/e/v/2026/01/31/08/59-58-000-")
    assert second.startswith("captured/e/w/")
    assert (inputs, others) == (["0", "1", "2"], ["x"])


async def test_an_hour_has_objects_of_its_own(objects: FilesystemObjects) -> None:
    """Readers look for an hour by its prefix."""
    clock = ManualClock(datetime(2026, 1, 31, 8, 59, 58, tzinfo=UTC))
    capture = writer(objects, clock=clock)
    capture.offer(settings(), call(b"before"))
    clock.advance(3)
    capture.offer(settings(), call(b"after"))
    await capture.flush()
    assert [(key[:28], inputs) for key, inputs in (await written(objects)).items()] == [
        ("captured/e/v/2026/01/31/08/5", ["before"]),
        ("captured/e/v/2026/01/31/09/0", ["after"]),
    ]


async def test_a_share_of_the_calls_is_captured(objects: FilesystemObjects) -> None:
    """The percentage is of calls; 0 is none, and what is switched off captures none either."""
    draws = iter([0.0, 0.29, 0.3, 0.99, 0.0, 0.0])
    capture = writer(objects, draw=lambda: next(draws))
    for number in range(4):
        capture.offer(settings(sampling_percentage=30), call(b"%d" % number))
    capture.offer(settings(sampling_percentage=0), call(b"none"))
    capture.offer(settings(enabled=False), call(b"off"))
    await capture.flush()
    assert list((await written(objects)).values()) == [["0", "1"]]


async def test_what_finds_no_room_is_dropped_and_told(
    objects: FilesystemObjects, caplog: pytest.LogCaptureFixture
) -> None:
    """An invocation never waits for its capture; once there is room again, calls are taken again."""
    capture = writer(objects, buffer_bytes=2 * (CALL_BYTES + 10))
    for number in range(5):
        capture.offer(settings(), call(b"%d" % number))
    await capture.flush()
    assert [record.__dict__["calls"] for record in caplog.records] == [3]
    capture.offer(settings(), call(b"again"))
    await capture.flush()
    assert sorted((await written(objects)).values()) == [["0", "1"], ["again"]]


async def test_a_bucket_that_is_not_there_costs_only_its_own_records(
    objects: FilesystemObjects, caplog: pytest.LogCaptureFixture
) -> None:
    """The loss is told in the log, with the object and how many calls it was."""
    capture = writer(objects)
    capture.offer(settings(destination="s3://gone/captured"), call())
    capture.offer(settings(), call())
    await capture.flush()
    assert len(await written(objects)) == 1
    [record] = caplog.records
    assert record.__dict__["calls"] == 1
    assert "NoSuchBucket" in record.__dict__["detail"]


async def test_large_bodies_are_encoded_piece_by_piece(objects: FilesystemObjects) -> None:
    """Order and content are the same."""
    capture = writer(objects, buffer_bytes=1 << 30)
    bodies = [b"%d" % number * 100_000 for number in range(9)]
    for body in bodies:
        capture.offer(settings(), call(body))
    await capture.flush()
    assert list((await written(objects)).values()) == [[body.decode() for body in bodies]]


class Announced(FilesystemObjects):
    """Tells when an object was put."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, durable=False)
        self.puts: asyncio.Queue[ObjectRef] = asyncio.Queue()

    async def put(self, ref: ObjectRef, *arguments: Any, **members: Any) -> ObjectInfo:
        info = await super().put(ref, *arguments, **members)
        self.puts.put_nowait(ref)
        return info


async def test_calls_are_written_when_their_time_has_come_or_enough_came_together(tmp_path: Path) -> None:
    """A lone call waits for the interval; a full queue, or an endpoint that moved, waits for nothing."""
    objects = Announced(tmp_path / "objects")
    await objects.create_bucket("shop", region="us-east-1", owner="0")
    clock = ManualClock()
    capture = writer(objects, clock=clock, flush_bytes=3 * CALL_BYTES)
    running = asyncio.create_task(capture.run())
    capture.offer(settings(), call())
    await clock.sleepers(1)
    assert clock.pending == [5.0]
    clock.advance(5.0)
    await objects.puts.get()
    for _ in range(3):
        capture.offer(settings(), call())
    await objects.puts.get()
    capture.offer(settings(), call())
    capture.flush_soon()
    await objects.puts.get()
    running.cancel()
    assert sorted(len(inputs) for inputs in (await written(objects)).values()) == [1, 1, 3]


class Slow(Announced):
    """Writes only once it may."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()

    async def put(self, ref: ObjectRef, *arguments: Any, **members: Any) -> ObjectInfo:
        self.begun.set()
        await self.gate.wait()
        return await super().put(ref, *arguments, **members)


async def test_a_writer_that_is_stopped_in_the_middle_of_writing_loses_nothing(tmp_path: Path) -> None:
    """The last flush waits for the one under way, then writes what came since."""
    objects = Slow(tmp_path / "objects")
    await objects.create_bucket("shop", region="us-east-1", owner="0")
    capture = writer(objects, flush_bytes=1)
    running = asyncio.create_task(capture.run())
    capture.offer(settings(), call(b"first"))
    await objects.begun.wait()
    capture.offer(settings(), call(b"second"))
    running.cancel()
    await asyncio.wait({running})
    ending = asyncio.create_task(capture.flush())
    objects.gate.set()
    await ending
    assert sorted((await written(objects)).values()) == [["first"], ["second"]]


@pytest.mark.parametrize("destination", ["s3://shop/" + "\u00e9" * 500, "no address", "s3://gone/x"])
async def test_one_bad_destination_ends_nobody_elses_capture(
    objects: FilesystemObjects, caplog: pytest.LogCaptureFixture, destination: str
) -> None:
    """Its calls are lost, which the log tells with the endpoint; calls of others are written, now and later."""
    capture = writer(objects)
    for round_ in (1, 2):
        capture.offer(settings(destination=destination), call(endpoint="bad" + "d" * 60))
        capture.offer(settings(), call(b"%d" % round_))
        await capture.flush()
    assert sorted(line for lines in (await written(objects)).values() for line in lines) == ["1", "2"]
    lost = [record for record in caplog.records if record.message == "captured calls lost"]
    assert [vars(record)["endpoint"][:3] for record in lost] == ["bad", "bad"]
