"""Listings remember facts of files, and never tell old ones."""

import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from time import time_ns

import pytest

from millrace.names import ObjectRef
from millrace.store.filesystem import FilesystemObjects
from millrace.testing.contract_objects import chunks_of

OLD = 1_700_000_000


@pytest.mark.parametrize("use_attributes", [True, False])
async def test_a_listing_tells_every_change(tmp_path: Path, use_attributes: bool) -> None:
    """A file written in place, an object replaced, and metadata set are seen at once, however often it was listed."""
    store = FilesystemObjects(tmp_path / "objects", durable=False, use_attributes=use_attributes)
    await store.create_bucket("box", region="us-east-1", owner="000000000000")
    ref = ObjectRef("box", "a")
    await store.put(ref, chunks_of(b"one"))

    async def listed() -> tuple[int, str, str]:
        (info,) = (await store.list_objects("box")).objects
        return info.size, info.etag, info.meta.headers.get("x", "")

    first = await listed()
    assert await listed() == first
    await age_and_list(tmp_path / "objects" / "box" / "a", listed)
    await store.put(ref, chunks_of(b"two"))
    replaced = await listed()
    assert replaced[1] != first[1]
    await store.update_meta(ref, lambda meta: replace(meta, headers={"x": "y"}))
    assert await listed() == (3, replaced[1], "y")
    await age_and_list(tmp_path / "objects" / "box" / "a", listed)
    await store.update_meta(ref, lambda meta: replace(meta, headers={"x": "z"}))
    assert await listed() == (3, replaced[1], "z")
    path = tmp_path / "objects" / "box" / "a"
    path.write_bytes(b"six")
    os.utime(path, (OLD, OLD))
    assert (await listed())[1] not in (first[1], replaced[1])
    await store.delete(ref)
    assert (await store.list_objects("box")).objects == []


async def age_and_list(path: Path, listed: Callable[[], Awaitable[object]]) -> None:
    """List until the last change of the file is old enough to be remembered."""
    while time_ns() - path.stat().st_ctime_ns < 60_000_000:
        await listed()
    await listed()


async def test_more_files_than_are_remembered_are_listed_too(tmp_path: Path) -> None:
    """The bound is on memory, not on listings."""
    store = FilesystemObjects(tmp_path / "objects", durable=False, max_cached_facts=2)
    await store.create_bucket("box", region="us-east-1", owner="000000000000")
    for number in range(5):
        await store.put(ObjectRef("box", str(number)), chunks_of(b"x"))
    for _ in range(3):
        page = await store.list_objects("box")
        assert [info.ref.key for info in page.objects] == ["0", "1", "2", "3", "4"]


async def test_a_file_in_two_buckets_has_a_key_in_each(tmp_path: Path) -> None:
    """A folder that a user names, and a folder within it, are two buckets, whose keys are not mixed up."""
    (tmp_path / "data" / "sub").mkdir(parents=True)
    (tmp_path / "data" / "sub" / "x").write_bytes(b"x")
    aliases = {"outer": tmp_path / "data", "inner": tmp_path / "data" / "sub"}
    store = FilesystemObjects(tmp_path / "objects", aliases=aliases)
    refs = [ObjectRef("outer", "sub/x"), ObjectRef("inner", "x")]

    async def told() -> None:
        for ref in refs:
            assert (await store.get(ref)).ref == ref
            assert [info.ref for info in (await store.list_objects(ref.bucket)).objects] == [ref]

    await age_and_list(tmp_path / "data" / "sub" / "x", told)
