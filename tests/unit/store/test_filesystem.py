"""The object store over folders: what a person sees in them, and what crashes and other processes leave."""

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from millrace.names import ObjectRef
from millrace.ports.objects import NoSuchBucket, NoSuchKey, ObjectMeta, PreconditionFailed
from millrace.store.bucket_folder import BucketFolder
from millrace.store.filesystem import FilesystemObjects
from millrace.testing.contract_objects import chunks_of, read_all


class LaterClock:
    """A clock some time ahead of the machine's."""

    def __init__(self, ahead: timedelta) -> None:
        self._ahead = ahead

    def now(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("a store does not sleep")


@pytest.fixture
async def store(tmp_path: Path) -> FilesystemObjects:
    """A store with the bucket "box"."""
    store = FilesystemObjects(tmp_path / "objects")
    await store.create_bucket("box", region="us-east-1", owner="1")
    return store


def temporary_files(folder: Path) -> list[Path]:
    """Return the files that are being written to the bucket "box" of a store in a folder."""
    return [path for path in (folder / "objects/.millrace/box/tmp").rglob("*") if path.is_file()]


async def listed(store: FilesystemObjects, bucket: str = "box") -> list[str]:
    """Return all keys of a bucket."""
    return [info.ref.key for info in (await store.list_objects(bucket)).objects]


async def test_a_writer_takes_chunks_of_all_sizes(tmp_path: Path) -> None:
    """Small chunks are gathered, large ones written beside, buffers may be reused: the object is all in order."""
    store = FilesystemObjects(tmp_path, chunk_bytes=100_000)
    await store.create_bucket("box", region="us-east-1", owner="1")
    ref = ObjectRef("box", "out")
    writer = await store.open_writer(ref)
    buffer = bytearray(70_000)
    expected = b""
    for number, size in enumerate((1, 70_000, 20, 3, 70_000, 64, 30_000, 70_000, 70_000, 5)):
        buffer[:size] = bytes([number]) * size
        expected += buffer[:size]
        await writer.write(memoryview(buffer)[:size])
    await writer.commit()
    assert await read_all(store, ref) == expected


async def test_others_have_their_turn_while_a_large_object_is_read(tmp_path: Path) -> None:
    """However quickly its bytes come: they may all be in memory."""
    store = FilesystemObjects(tmp_path, chunk_bytes=64 * 1024)
    await store.create_bucket("box", region="us-east-1", owner="1")
    with (tmp_path / "box" / "large").open("wb") as file:
        file.truncate(100 * 1024 * 1024)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    size = 0
    async for chunk in store.read(ObjectRef("box", "large")):
        size += len(chunk)
    counting.cancel()
    assert size == 100 * 1024 * 1024
    assert turns > 3


async def test_attaching_waits_beside_the_event_loop(store: FilesystemObjects, tmp_path: Path) -> None:
    """While another process holds an object's lock, a change of its tags waits and the server goes on."""
    ref = ObjectRef("box", "k")
    await store.put(ref, chunks_of(b"x"))
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with BucketFolder("box", tmp_path / "objects/box", tmp_path / "objects/.millrace/box").lock(b"k"):
            held.set()
            release.wait(10)  # an end, so that a store that waits on the event loop fails the test and doesn't hang it

    other = threading.Thread(target=hold)
    other.start()
    held.wait(10)
    changing = asyncio.create_task(store.update_meta(ref, lambda meta: replace(meta, tags={"a": "b"})))
    await asyncio.sleep(0)
    went_on = not changing.done() and other.is_alive()
    release.set()
    await changing
    other.join()
    assert went_on
    assert (await store.get(ref)).meta.tags == {"a": "b"}


async def test_a_cancelled_put_ends_after_its_thread(store: FilesystemObjects, tmp_path: Path) -> None:
    """A put that is cancelled while its object is installed closes no file that its thread still uses."""
    ref = ObjectRef("box", "k")
    store = FilesystemObjects(tmp_path / "objects", durable=False)  # else it could still wait for the disk
    received = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"whole"
        received.set()

    with BucketFolder("box", tmp_path / "objects/box", tmp_path / "objects/.millrace/box").lock(b"k"):
        putting = asyncio.create_task(store.put(ref, body()))
        await received.wait()
        for _ in range(3):  # a second cancellation does not free it either
            putting.cancel()
            await asyncio.sleep(0)
        assert not putting.done()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert await read_all(store, ref) == b"whole"
    assert temporary_files(tmp_path) == []


async def test_a_copy_in_pieces_is_whole(tmp_path: Path) -> None:
    """An object is copied piece by piece, and all of it arrives."""
    store = FilesystemObjects(tmp_path, copy_bytes_at_a_time=1000)
    await store.create_bucket("box", region="us-east-1", owner="1")
    data = os.urandom(4500)
    await store.put(ObjectRef("box", "a"), chunks_of(data))
    await store.copy(ObjectRef("box", "a"), ObjectRef("box", "b"))
    assert await read_all(store, ObjectRef("box", "b")) == data


# --- folders as a person sees them


async def test_an_object_is_a_file_at_its_key(store: FilesystemObjects, tmp_path: Path) -> None:
    """A person finds the object `data/train.csv` in the file `data/train.csv`."""
    await store.put(ObjectRef("box", "data/train.csv"), chunks_of(b"1,2\n"))
    assert (tmp_path / "objects/box/data/train.csv").read_bytes() == b"1,2\n"
    await store.delete(ObjectRef("box", "data/train.csv"))
    assert list((tmp_path / "objects/box").iterdir()) == []


async def test_a_file_put_by_hand_is_an_object(store: FilesystemObjects, tmp_path: Path) -> None:
    """A file that somebody copied into the folder is listed and read, with an ETag that lasts as long as it does."""
    path = tmp_path / "objects/box/by/hand.txt"
    path.parent.mkdir()
    path.write_bytes(b"hello")
    ref = ObjectRef("box", "by/hand.txt")
    info = await store.get(ref)
    assert (info.size, await read_all(store, ref)) == (5, b"hello")
    assert (await store.list_objects("box")).objects == [info]
    assert (await store.get(ref)).etag == info.etag
    path.write_bytes(b"changed")
    assert (await store.get(ref)).etag != info.etag


async def test_a_folder_made_by_hand_is_a_bucket(store: FilesystemObjects, tmp_path: Path) -> None:
    """A folder beside the buckets is one more bucket."""
    (tmp_path / "objects/mine").mkdir()
    assert [bucket.name for bucket in await store.list_buckets()] == ["box", "mine"]
    await store.put(ObjectRef("mine", "k"), chunks_of(b""))
    assert await listed(store, "mine") == ["k"]


@pytest.mark.parametrize("use_attributes", [True, False])
async def test_an_edited_file_loses_its_digests(tmp_path: Path, use_attributes: bool) -> None:
    """A file that somebody edited in place does not keep the ETag and checksums of its old bytes."""
    store = FilesystemObjects(tmp_path, use_attributes=use_attributes)
    await store.create_bucket("box", region="us-east-1", owner="1")
    ref = ObjectRef("box", "k")
    before = await store.put(ref, chunks_of(b"old"), ObjectMeta(), checksum_algorithms=["crc32"])
    with (tmp_path / "box/k").open("ab") as file:
        file.write(b" and new")
    after = await store.get(ref)
    assert after.etag != before.etag
    assert after.meta.checksums == {}
    assert await read_all(store, ref) == b"old and new"


async def test_empty_folders_are_no_keys(store: FilesystemObjects, tmp_path: Path) -> None:
    """A folder without objects does not show, not as a common prefix either, and gives way to an object."""
    (tmp_path / "objects/box/a/b").mkdir(parents=True)
    page = await store.list_objects("box", delimiter="/")
    assert (list(page.objects), list(page.common_prefixes)) == ([], [])
    await store.put(ObjectRef("box", "a/b"), chunks_of(b"x"))
    assert (tmp_path / "objects/box/a/b").is_file()


async def test_a_bucket_of_empty_folders_is_empty(store: FilesystemObjects, tmp_path: Path) -> None:
    """Folders that hold nothing do not keep a bucket from being deleted."""
    (tmp_path / "objects/box/a/b").mkdir(parents=True)
    await store.delete_bucket("box")
    assert not (tmp_path / "objects/box").exists()
    assert not (tmp_path / "objects/.millrace/box").exists()


async def test_links_lead_nowhere(store: FilesystemObjects, tmp_path: Path) -> None:
    """Neither a link to a file nor one to a folder is followed, for reading, writing or deleting."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    box = tmp_path / "objects/box"
    (box / "folder").symlink_to(outside)
    (box / "file").symlink_to(outside / "secret")
    assert await listed(store) == []
    for key in ("folder/secret", "file"):
        with pytest.raises(NoSuchKey):
            await store.get(ObjectRef("box", key))
    await store.put(ObjectRef("box", "folder/secret"), chunks_of(b"mine"))
    await store.put(ObjectRef("box", "file"), chunks_of(b"mine"))
    assert await read_all(store, ObjectRef("box", "folder/secret")) == b"mine"
    assert await read_all(store, ObjectRef("box", "file")) == b"mine"
    await store.delete(ObjectRef("box", "folder/secret"))
    assert (outside / "secret").read_text() == "secret"


async def test_a_pipe_is_no_object(store: FilesystemObjects, tmp_path: Path) -> None:
    """A named pipe in a bucket is not waited for."""
    os.mkfifo(tmp_path / "objects/box/pipe")
    assert await listed(store) == []
    with pytest.raises(NoSuchKey):
        await store.get(ObjectRef("box", "pipe"))


@pytest.mark.parametrize("name", ["", ".", "..", ".millrace", "a/b", "../objects/box", "a\0b"])
async def test_a_bucket_is_one_folder(store: FilesystemObjects, name: str) -> None:
    """Names that lead out of the store, or into its private folder, are no buckets."""
    with pytest.raises(NoSuchBucket):
        await store.list_objects(name)
    with pytest.raises(ValueError, match="name"):
        await store.create_bucket(name, region="us-east-1", owner="1")


# --- moves between the plain and the alternate place


async def test_an_object_moves_to_its_plain_place(store: FilesystemObjects, tmp_path: Path) -> None:
    """A key that collided with a folder lies at its plain path once it is written without the folder."""
    await store.put(ObjectRef("box", "a/b"), chunks_of(b"1"))
    await store.put(ObjectRef("box", "a"), chunks_of(b"2"))
    assert (tmp_path / "objects/box/a").is_dir()
    await store.delete(ObjectRef("box", "a/b"))
    assert await read_all(store, ObjectRef("box", "a")) == b"2"
    await store.put(ObjectRef("box", "a"), chunks_of(b"3"))
    assert (tmp_path / "objects/box/a").read_bytes() == b"3"
    assert await listed(store) == ["a"]
    await store.delete(ObjectRef("box", "a"))
    assert await listed(store) == []


# --- several processes, and their ends


async def test_only_one_of_many_writers_is_first(store: FilesystemObjects, tmp_path: Path) -> None:
    """Of several stores that put "only if there is none" at a time, exactly one wins."""
    stores = [FilesystemObjects(tmp_path / "objects") for _ in range(8)]
    ref = ObjectRef("box", "once")
    puts = [each.put(ref, chunks_of(str(n).encode()), if_none_match="*") for n, each in enumerate(stores)]
    results = await asyncio.gather(*puts, return_exceptions=True)
    assert sum(isinstance(result, PreconditionFailed) for result in results) == 7
    winner = next(n for n, result in enumerate(results) if not isinstance(result, BaseException))
    assert await read_all(store, ref) == str(winner).encode()


async def test_writers_and_deleters_of_one_folder_do_not_fail(store: FilesystemObjects) -> None:
    """Deletes prune a folder while others write into it: nothing fails, and what was written last is there."""

    async def churn(n: int) -> None:
        for _ in range(20):
            await store.put(ObjectRef("box", f"deep/er/{n}"), chunks_of(b"x"))
            await store.delete(ObjectRef("box", f"deep/er/{n}"))
        await store.put(ObjectRef("box", f"deep/er/{n}"), chunks_of(b"last"))

    await asyncio.gather(*(churn(n) for n in range(4)))
    assert await listed(store) == [f"deep/er/{n}" for n in range(4)]


async def test_a_killed_writer_leaves_no_object(store: FilesystemObjects, tmp_path: Path) -> None:
    """A process that is killed in the middle of a put leaves nothing that shows, and its rest is swept."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            writer = FilesystemObjects(tmp_path / "objects", chunk_bytes=1000)

            async def write() -> None:
                output = await writer.open_writer(ObjectRef("box", "a/out"))
                await output.write(b"x" * 100_000)
                os.write(write_end, b".")
                await asyncio.Event().wait()

            asyncio.new_event_loop().run_until_complete(write())
        finally:
            os._exit(1)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as ready:
        assert ready.read(1) == b"."
    temporary = temporary_files(tmp_path)
    assert len(temporary) == 1
    tomorrow = FilesystemObjects(tmp_path / "objects", clock=LaterClock(timedelta(days=2)))
    assert await tomorrow.sweep() == 0, "its writer lives"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert await listed(store) == []
    with pytest.raises(NoSuchKey):
        await store.get(ObjectRef("box", "a/out"))
    assert await store.sweep() == 0, "it is not old enough"
    assert await tomorrow.sweep() == 1
    assert not temporary[0].exists()
    await store.delete_bucket("box")


async def test_an_abandoned_put_leaves_nothing(store: FilesystemObjects, tmp_path: Path) -> None:
    """A put that is cancelled while its body arrives removes what it had written."""
    arrived = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"x" * 3_000_000
        arrived.set()
        await asyncio.Event().wait()

    put = asyncio.create_task(store.put(ObjectRef("box", "k"), body()))
    await arrived.wait()
    put.cancel()
    with pytest.raises(asyncio.CancelledError):
        await put
    assert await listed(store) == []
    assert temporary_files(tmp_path) == []


async def test_an_upload_completed_twice_is_the_same_object(store: FilesystemObjects) -> None:
    """A client that repeats a completion, having missed the answer, gets the same answer."""
    ref = ObjectRef("box", "big")
    upload = (await store.create_upload(ref)).upload_id
    part = await store.put_part(ref, upload, 1, chunks_of(b"x"))
    first = await store.complete_upload(ref, upload, [(1, part.etag)])
    assert await store.complete_upload(ref, upload, [(1, part.etag)]) == first


async def test_another_process_sees_changes_at_once(store: FilesystemObjects, tmp_path: Path) -> None:
    """What one store lists after a write of another includes it, though names of folders are remembered."""
    other = FilesystemObjects(tmp_path / "objects")
    for n in range(20):
        await store.put(ObjectRef("box", f"d/{n:02}"), chunks_of(b""))
        assert len(await listed(other)) == n + 1
    for n in range(20):
        await other.delete(ObjectRef("box", f"d/{n:02}"))
        assert len(await listed(store)) == 19 - n


async def test_the_first_sidecar_is_seen_at_once(tmp_path: Path) -> None:
    """Where no file had facts beside it, one that just got some is listed with them, and so are all later ones."""
    writing = FilesystemObjects(tmp_path, use_attributes=False)
    await writing.create_bucket("box", region="us-east-1", owner="1")
    for number in range(3):
        (tmp_path / f"box/by-hand-{number}").write_bytes(b"x")
    reading = FilesystemObjects(tmp_path)
    before = (await reading.list_objects("box")).objects
    assert len(before) == 3
    stored = [await writing.put(ObjectRef("box", key), chunks_of(b"x")) for key in ("put-1", "put-2")]
    for _ in range(2):
        page = (await reading.list_objects("box")).objects
        assert [info.etag for info in page] == [info.etag for info in (*before, *stored)]


async def test_sidecars_of_removed_files_are_swept(tmp_path: Path) -> None:
    """Facts about a file that somebody removed by hand do not stay for ever."""
    store = FilesystemObjects(tmp_path, use_attributes=False, clock=LaterClock(timedelta(days=2)))
    await store.create_bucket("box", region="us-east-1", owner="1")
    for key in ("kept", "removed"):
        await store.put(ObjectRef("box", key), chunks_of(b"x"), ObjectMeta(user={"key": key}))
    (tmp_path / "box/removed").unlink()
    assert await store.sweep() == 1
    assert (await store.get(ObjectRef("box", "kept"))).meta.user == {"key": "kept"}


# --- aliases: folders of the user as buckets


async def test_a_local_folder_is_a_bucket(tmp_path: Path) -> None:
    """A folder anywhere is read as a bucket, links to files included, and nothing is written to it by reading."""
    folder = tmp_path / "input"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/one.csv").write_text("1")
    (tmp_path / "two.csv").write_text("22")
    (folder / "two.csv").symlink_to(tmp_path / "two.csv")
    before = sorted(folder.rglob("*"))
    store = FilesystemObjects(tmp_path / "objects", aliases={"local-input": folder})
    page = await store.list_objects("local-input")
    assert [(info.ref.key, info.size) for info in page.objects] == [("sub/one.csv", 1), ("two.csv", 2)]
    assert await read_all(store, ObjectRef("local-input", "two.csv")) == b"22"
    store.close()
    assert sorted(folder.rglob("*")) == before
    assert not (tmp_path / "objects").exists()


async def test_a_local_folder_takes_outputs(tmp_path: Path) -> None:
    """Outputs appear in the folder under their keys; the private folder is not listed, and gone at the end."""
    folder = tmp_path / "output"
    folder.mkdir()
    store = FilesystemObjects(tmp_path / "objects", aliases={"out": folder})
    writer = await store.open_writer(ObjectRef("out", "a/one.csv.out"))
    await writer.write(b"0.5\n")
    assert await listed(store, "out") == []
    await writer.commit()
    await store.put(ObjectRef("out", "two"), chunks_of(b"2"), if_none_match="*")
    assert await listed(store, "out") == ["a/one.csv.out", "two"]
    store.close()
    assert sorted(path.name for path in folder.rglob("*")) == ["a", "one.csv.out", "two"]


async def test_scratch_may_be_elsewhere(tmp_path: Path) -> None:
    """The private folder of a local folder may be given."""
    folder, scratch = tmp_path / "output", tmp_path / "scratch"
    folder.mkdir()
    store = FilesystemObjects(tmp_path / "objects", aliases={"out": folder}, scratch={"out": scratch})
    await store.put(ObjectRef("out", "k"), chunks_of(b"1"))
    assert sorted(folder.iterdir()) == [folder / "k"]
    store.close()
    assert not scratch.exists()


def test_rules_of_a_bucket_are_read_again_by_another_event_loop(tmp_path: Path) -> None:
    """A look at a bucket counts for one turn of one event loop, even of one that has no next turn."""
    store, other = FilesystemObjects(tmp_path), FilesystemObjects(tmp_path)
    asyncio.run(store.create_bucket("box", region="us-east-1", owner="1"))
    loop = asyncio.new_event_loop()
    looking = loop.create_task(store.get_bucket_document("box", "policy"))
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert looking.done()
    loop.close()
    asyncio.run(other.put_bucket_document("box", "policy", "{}"))
    assert asyncio.run(store.get_bucket_document("box", "policy")) == "{}"
