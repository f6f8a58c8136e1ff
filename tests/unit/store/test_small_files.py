"""Many small objects at a time, as files."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from millrace.names import ObjectRef
from millrace.ports.objects import ObjectMeta, SmallOutput
from millrace.store.filesystem import FilesystemObjects

META = ObjectMeta(headers={"content-type": "image/png"})


@pytest.fixture(params=[True, False], ids=["durable", "not durable"])
async def store(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[FilesystemObjects]:
    """A store with one bucket."""
    objects = FilesystemObjects(tmp_path / "objects", durable=request.param)
    await objects.create_bucket("shop", region="us-east-1", owner="000000000000")
    yield objects
    objects.close()


def output(key: str, body: bytes, bucket: str = "shop") -> SmallOutput:
    return SmallOutput(ObjectRef(bucket, key), body, f"made from {key}")


async def body_of(store: FilesystemObjects, key: str) -> bytes:
    return b"".join([chunk async for chunk in store.read(ObjectRef("shop", key))])


def drafts_in(folder: Path) -> list[Path]:
    return [path for path in (folder / "objects" / ".millrace" / "shop" / "tmp").rglob("*") if path.is_file()]


async def test_a_group_is_written_whole(store: FilesystemObjects, tmp_path: Path) -> None:
    """Each output has its bytes, the meta of all and its own origin, in whatever folder, and no draft is left."""
    outputs = [output(f"{number % 20}/a/{number}.png", b"%d" % number) for number in range(100)]
    assert await store.small_objects().write(outputs, META) == []
    for ref, body, origin in outputs:
        assert await body_of(store, ref.key) == body
        info = await store.get(ref)
        assert (info.size, info.meta.headers, info.meta.origin) == (len(body), META.headers, origin)
    etags = {(await store.get(one.ref)).etag for one in outputs}
    assert len(etags) == 100
    assert drafts_in(tmp_path) == []


async def test_an_older_object_is_replaced(store: FilesystemObjects) -> None:
    """An output takes the place of an object of its key, also of one at an alternate place."""
    await store.small_objects().write([output("a", b"old"), output("b", b"old")], META)
    assert await store.small_objects().write([output("a", b"new")], META) == []
    assert (await body_of(store, "a"), await body_of(store, "b")) == (b"new", b"old")


async def test_keys_without_a_plain_place_are_left(store: FilesystemObjects) -> None:
    """Keys that no path is, whose place is below another object, or whose bucket is missing, are for the usual way."""
    odd = [
        output("a//b", b"1"),
        output("plain/x", b"2"),
        output("plain", b"3"),
        output("fine", b"4"),
        output("k", b"5", "nowhere"),
        output("x" * 300, b"6"),
    ]
    left = await store.small_objects().write(odd, META)
    assert sorted(left) == [0, 1, 4, 5]
    assert (await body_of(store, "plain"), await body_of(store, "fine")) == (b"3", b"4")
    assert await store.small_objects().write([output("a/b", b"7")], META) == []
    assert await store.small_objects().write([output("a", b"8")], META) == [0]


async def test_a_key_that_somebody_writes_is_left(store: FilesystemObjects, tmp_path: Path) -> None:
    """A lock that another writer holds is not waited for on the event loop."""
    bucket = store._existing("shop")
    with bucket.lock(b"a"):
        assert await store.small_objects().write([output("a", b"1")], META) == [0]
    assert drafts_in(tmp_path) == []
    assert not (tmp_path / "objects" / "shop" / "a").exists()


async def test_no_path_is_followed_through_a_link(store: FilesystemObjects, tmp_path: Path) -> None:
    """A folder that is a link elsewhere is neither written to nor read from."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (tmp_path / "objects" / "shop" / "link").symlink_to(outside)
    (tmp_path / "objects" / "shop" / "file").symlink_to(outside / "secret")
    small = store.small_objects()
    await small.write([output("link/a", b"1")], META)
    assert [path.name for path in outside.iterdir()] == ["secret"]
    refs = [ObjectRef("shop", "link/secret"), ObjectRef("shop", "file")]
    assert small.read(refs, at_most=100) == [None, None]


async def test_small_objects_are_read(store: FilesystemObjects, tmp_path: Path) -> None:
    """What is there, and no longer than asked for, is read; all else is told by None."""
    small = store.small_objects()
    await small.write([output("a/1", b"one"), output("a/2", b"two"), output("b/3", b"three")], META)
    (tmp_path / "objects" / "shop" / "by-hand").write_bytes(b"four")
    (tmp_path / "objects" / "shop" / "empty").touch()
    os.mkfifo(tmp_path / "objects" / "shop" / "pipe")
    keys = ["a/1", "a/2", "b/3", "by-hand", "empty", "a", "pipe", "missing", "a//b", "", "no/such/folder"]
    refs = [*(ObjectRef("shop", key) for key in keys), ObjectRef("nowhere", "a")]
    found = small.read(refs, at_most=4)
    assert found == [b"one", b"two", None, b"four", *[None] * 8]


async def test_a_cancelled_group_leaves_no_drafts(store: FilesystemObjects, tmp_path: Path) -> None:
    """Whoever is cancelled in the midst of a group leaves whole objects, or none, and nothing else."""
    outputs = [output(f"{number}", b"x" * 100) for number in range(100)]
    writing = asyncio.ensure_future(store.small_objects().write(outputs, META))
    for _ in range(3):
        await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert drafts_in(tmp_path) == []
    stored = [path for path in (tmp_path / "objects" / "shop").iterdir() if path.is_file()]
    assert all(path.stat().st_size == 100 for path in stored)
