"""The checkpoint folder and its place in the store become alike, whatever the program does meanwhile."""

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from millrace.agents.folder_sync import SCAN_SECONDS, FolderSync
from millrace.agents.objects import iter_objects
from millrace.errors import ClientFailure, LeaseLost, StoreUnavailable
from millrace.names import ObjectPrefix, ObjectRef
from millrace.store.filesystem import FilesystemObjects
from millrace.testing.clock import ManualClock


@pytest.fixture
async def objects(tmp_path: Path) -> FilesystemObjects:
    store = FilesystemObjects(tmp_path / "objects", durable=False)
    await store.create_bucket("shop", region="us-east-1", owner="0")
    return store


async def put(objects: FilesystemObjects, key: str, body: bytes = b"x") -> None:
    writer = await objects.open_writer(ObjectRef("shop", key))
    await writer.write(body)
    await writer.commit()


async def held() -> None:
    """Return, as a lease that holds does."""


async def lost() -> None:
    raise LeaseLost("attempt 1 is closed")


async def keys(objects: FilesystemObjects, prefix: str = "") -> list[str]:
    return [info.ref.key async for info in iter_objects(objects, ObjectPrefix("shop", prefix))]


def sync_of(
    objects: FilesystemObjects,
    folder: Path,
    *,
    clock: ManualClock | None = None,
    check_lease: Callable[[], Awaitable[None]] = held,
    report: Callable[[str], None] = print,
    mirror_deletions: bool = True,
) -> FolderSync:
    return FolderSync(
        objects,
        folder.parent,
        folder.name,
        ObjectPrefix("shop", "ckpt"),
        clock or ManualClock(),
        what="checkpoints",
        mirror_deletions=mirror_deletions,
        check_lease=check_lease,
        report=report,
    )


async def test_an_agent_that_hung_leaves_the_checkpoints_alone(objects: FilesystemObjects, tmp_path: Path) -> None:
    """A folder that the next attempt cleared is no deletion, nor is what that attempt has put there one's own."""
    await put(objects, "ckpt/epoch-9", b"1")
    folder = tmp_path / "ckpt"
    cleared = sync_of(objects, folder)
    replaced = sync_of(objects, folder, check_lease=lost)
    await cleared.restore()
    (folder / "epoch-9").unlink()
    await replaced.restore()
    shutil.rmtree(folder)
    await cleared.send(settled_only=True)
    assert await keys(objects) == ["ckpt/epoch-9"]
    folder.mkdir()
    with pytest.raises(LeaseLost):
        await replaced.send(settled_only=True)
    (folder / "epoch-9").write_text("another")
    with pytest.raises(LeaseLost):
        await replaced.send()
    assert b"".join([chunk async for chunk in objects.read(ObjectRef("shop", "ckpt/epoch-9"))]) == b"1"


async def test_checkpoints_go_both_ways(objects: FilesystemObjects, tmp_path: Path) -> None:
    """Restored before the start, sent as they settle, deleted where they were deleted; neighbours are left alone."""
    await put(objects, "ckpt/old", b"1")
    await put(objects, "ckpt/gone", b"2")
    await put(objects, "ckpt-of-another/theirs", b"3")
    sync = sync_of(objects, tmp_path / "ckpt")
    await sync.restore()
    assert sorted(path.name for path in (tmp_path / "ckpt").iterdir()) == ["gone", "old"]
    (tmp_path / "ckpt" / "gone").unlink()
    (tmp_path / "ckpt" / "new").write_text("4")
    await sync.send(settled_only=True)
    assert await keys(objects, "ckpt/") == ["ckpt/old"]
    await sync.send(settled_only=True)
    assert await keys(objects, "ckpt/") == ["ckpt/new", "ckpt/old"]
    (tmp_path / "ckpt" / "last").write_text("5")
    await sync.send()
    assert await keys(objects) == ["ckpt-of-another/theirs", "ckpt/last", "ckpt/new", "ckpt/old"]


async def test_a_checkpoint_whose_key_is_no_file_name_is_told(objects: FilesystemObjects, tmp_path: Path) -> None:
    """Rather than left out: the program would go on from less than was stored."""
    await put(objects, "ckpt/../../escaped")
    sync = sync_of(objects, tmp_path / "ckpt")
    with pytest.raises(ClientFailure, match="can't be a file name"):
        await sync.restore()
    assert not (tmp_path.parent / "escaped").exists()


async def test_a_program_may_take_checkpoints_away_while_they_are_sent(
    objects: FilesystemObjects, tmp_path: Path
) -> None:
    """What is gone when its turn comes is left out; the next look deletes what was stored of it."""
    folder = tmp_path / "ckpt"
    folder.mkdir()
    for number in range(3):
        (folder / f"epoch-{number}").write_text("weights")

    async def rotate() -> None:
        for path in folder.iterdir():
            path.unlink()

    sync = sync_of(objects, folder, check_lease=rotate)
    await sync.send()
    assert len(await keys(objects)) == 1
    await sync.send()
    assert await keys(objects) == []


async def test_a_program_may_take_checkpoints_away_while_they_are_looked_for(
    objects: FilesystemObjects, tmp_path: Path
) -> None:
    """Folders that come and go under the eyes of a look fail nothing, and those that stay are seen."""
    folder = tmp_path / "ckpt"
    (folder / "steady").mkdir(parents=True)
    (folder / "steady" / "weights").write_text("1")
    sync = sync_of(objects, folder)
    looked = asyncio.Event()

    def churn() -> None:
        while not looked.is_set():
            for number in range(20):
                (folder / f"epoch-{number}").mkdir()
                (folder / f"epoch-{number}" / "weights").write_text("1")
            for number in range(20):
                shutil.rmtree(folder / f"epoch-{number}")

    churning = asyncio.create_task(asyncio.to_thread(churn))
    for _ in range(20):
        await sync.send(settled_only=True)
    looked.set()
    await churning
    await sync.send()
    assert await keys(objects) == ["ckpt/steady/weights"]


async def test_a_store_that_fails_is_tried_again(objects: FilesystemObjects, tmp_path: Path) -> None:
    """The owner is told once; the training goes on; the end of the job is not held up either."""
    folder, clock, told = tmp_path / "ckpt", ManualClock(), list[str]()
    answers = iter([StoreUnavailable("locked"), StoreUnavailable("locked"), None, StoreUnavailable("locked")])

    async def check_lease() -> None:
        if (failure := next(answers)) is not None:
            raise failure

    folder.mkdir()
    (folder / "epoch-1").write_text("1")
    sync = sync_of(objects, folder, clock=clock, check_lease=check_lease, report=told.append)
    running = asyncio.create_task(sync.run())
    for _ in range(5):
        await clock.sleepers(1)
        clock.advance(SCAN_SECONDS)
    await clock.sleepers(1)
    assert await keys(objects) == ["ckpt/epoch-1"]
    assert told == ["checkpoints could not be stored under s3://shop/ckpt: locked"]
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    (folder / "epoch-2").write_text("2")
    await sync.finish()
    assert len(told) == 2


async def test_a_lost_lease_ends_the_sending(objects: FilesystemObjects, tmp_path: Path) -> None:
    """It is no failure of the store that might pass."""
    (tmp_path / "ckpt").mkdir()
    (tmp_path / "ckpt" / "epoch-1").write_text("1")
    with pytest.raises(LeaseLost):
        await sync_of(objects, tmp_path / "ckpt", check_lease=lost).finish()


async def test_outputs_stay_when_the_program_deletes_them(objects: FilesystemObjects, tmp_path: Path) -> None:
    """Only checkpoints are mirrored."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "a").write_text("1")
    sync = sync_of(objects, folder, mirror_deletions=False)
    await sync.send()
    (folder / "a").unlink()
    (folder / "b").write_text("2")
    await sync.send()
    assert await keys(objects) == ["ckpt/a", "ckpt/b"]


async def test_a_link_in_the_place_of_the_folder_is_not_followed(objects: FilesystemObjects, tmp_path: Path) -> None:
    """The files that it leads to are not the program's to store."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret").write_text("s")
    folder = tmp_path / "out"
    folder.symlink_to(tmp_path / "elsewhere")
    await sync_of(objects, folder).send()
    assert await keys(objects) == []


async def test_a_name_that_no_key_can_have_is_told(objects: FilesystemObjects, tmp_path: Path) -> None:
    """A key is UTF-8; a file's name may be anything."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / os.fsdecode(b"caf\xe9")).touch()
    told: list[str] = []
    sync = sync_of(objects, folder, report=told.append)
    with pytest.raises(ClientFailure, match="is not UTF-8"):
        await sync.send()
    await sync.finish()
    assert len(told) == 1 and "could not be stored under s3://shop/ckpt" in told[0]
