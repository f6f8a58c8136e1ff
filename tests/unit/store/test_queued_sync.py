"""Syncs by the kernel's queue, and by threads where there is none."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop

from millrace.store.queued_sync import MAX_QUEUED, QueuedSync


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    """An open folder."""
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


async def sync_many(syncs: QueuedSync, path: Path, folder: int, count: int) -> list[int]:
    """Write files and sync each of them and their folder; return those that are done, by number."""
    done: list[int] = []

    async def one(number: int) -> None:
        descriptor = os.open(path / str(number), os.O_RDWR | os.O_CREAT)
        try:
            os.write(descriptor, b"bytes")
            await syncs.sync(descriptor)
            await syncs.sync_folder(folder)
            done.append(number)
        finally:
            os.close(descriptor)

    await asyncio.gather(*(one(number) for number in range(count)))
    return sorted(done)


async def test_more_files_than_the_queue_holds_are_synced(tmp_path: Path, folder: int) -> None:
    """What finds no room in the kernel's queue waits for its turn, and nothing is forgotten."""
    count = MAX_QUEUED + 40
    assert await sync_many(QueuedSync(), tmp_path, folder, count) == list(range(count))


def test_loops_one_after_the_other_are_served(tmp_path: Path) -> None:
    """A store that outlives its event loop syncs for the next one, of whatever kind."""
    syncs = QueuedSync()
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for run in (asyncio.run, uvloop.run, asyncio.run):
            assert run(sync_many(syncs, tmp_path, folder, 3)) == [0, 1, 2]
    finally:
        os.close(folder)


async def test_a_second_loop_at_the_same_time_is_served_by_threads(tmp_path: Path, folder: int) -> None:
    """Tasks of another loop are not left waiting for the first one's turn."""
    syncs = QueuedSync()
    assert await sync_many(syncs, tmp_path, folder, 1) == [0]
    assert await asyncio.to_thread(asyncio.run, sync_many(syncs, tmp_path, folder, 2)) == [0, 1]
    assert await sync_many(syncs, tmp_path, folder, 1) == [0]


async def test_a_file_that_cannot_be_synced_is_told(tmp_path: Path, folder: int) -> None:
    """An error is that of the file which has it; others that were asked for in the same turn are synced."""
    syncs = QueuedSync()
    reading, writing = os.pipe()
    closed = os.dup(reading)
    os.close(closed)
    results = await asyncio.gather(
        syncs.sync(writing), sync_many(syncs, tmp_path, folder, 2), syncs.sync(closed), return_exceptions=True
    )
    os.close(reading)
    os.close(writing)
    assert [type(result) for result in results] == [OSError, list, OSError]
    assert results[1] == [0, 1]


async def test_who_is_cancelled_may_close_its_file(tmp_path: Path, folder: int) -> None:
    """A cancelled wait leaves the others of its turn alone, whether the kernel has the sync already or not."""
    syncs = QueuedSync()
    for turns in range(3):
        descriptor = os.open(tmp_path / "cancelled", os.O_RDWR | os.O_CREAT)
        cancelled = asyncio.create_task(syncs.sync(descriptor))
        others = asyncio.create_task(sync_many(syncs, tmp_path, folder, 2))
        for _ in range(turns):
            await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.wait({cancelled})
        os.close(descriptor)
        assert await others == [0, 1]
