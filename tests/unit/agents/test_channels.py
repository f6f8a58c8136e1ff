"""Channels bring objects to a program and leave those in the store alone."""

import asyncio
import gzip
import os
import random
from contextlib import suppress
from pathlib import Path

import pytest

from millrace.agents.channels import feed_pipe, list_channel, materialise
from millrace.errors import ClientFailure
from millrace.jobs.channel import Channel, ChannelSource, InputMode
from millrace.names import ObjectPrefix, ObjectRef
from millrace.store.filesystem import FilesystemObjects


@pytest.fixture
async def objects(tmp_path: Path) -> FilesystemObjects:
    store = FilesystemObjects(tmp_path / "objects", durable=False)
    await store.create_bucket("shop", region="us-east-1", owner="0")
    return store


async def put(objects: FilesystemObjects, key: str, body: bytes = b"x") -> None:
    writer = await objects.open_writer(ObjectRef("shop", key))
    await writer.write(body)
    await writer.commit()


async def body_of(objects: FilesystemObjects, key: str) -> bytes:
    return b"".join([chunk async for chunk in objects.read(ObjectRef("shop", key))])


@pytest.mark.parametrize("link", [True, False])
@pytest.mark.parametrize(
    ("keys", "source", "source_type"),
    [
        (("x/d.csv", "y/d.csv"), "manifest", ChannelSource.MANIFEST),
        (("p/a//b", "p/a/b"), "p/", ChannelSource.PREFIX),
        (("p/train/train2", "p/train2"), "p/train", ChannelSource.PREFIX),
        (("p/a", "p/a/b"), "p/", ChannelSource.PREFIX),
    ],
)
async def test_objects_of_one_file_name_leave_the_store_as_it_is(
    objects: FilesystemObjects,
    tmp_path: Path,
    link: bool,
    keys: tuple[str, str],
    source: str,
    source_type: ChannelSource,
) -> None:
    """They fail the job, which names both; neither gets the other's bytes."""
    manifest = b'[{"prefix": "s3://shop/x/"}, "d.csv", {"prefix": "s3://shop/y/"}, "d.csv"]'
    await put(objects, "manifest", manifest)
    for key in keys:
        await put(objects, key, b"content of " + key.encode())
    channel = Channel(name="train", source=ObjectPrefix("shop", source), source_type=source_type)
    members = await list_channel(objects, channel)
    with pytest.raises(ClientFailure) as caught:
        await materialise(objects, members, tmp_path / "train", link=link)
    assert all(f"s3://shop/{key}" in str(caught.value) for key in keys)
    assert [await body_of(objects, key) for key in keys] == [b"content of " + key.encode() for key in keys]


async def one_epoch(objects: FilesystemObjects, folder: Path, source: str) -> bytes:
    """Return what the reader of a gzipped channel's first pipe gets; raise what ends the feeding."""
    channel = Channel(name="train", source=ObjectPrefix("shop", source), mode=InputMode.PIPE, gzip=True)
    members = await list_channel(objects, channel)
    feeding = asyncio.create_task(feed_pipe(objects, channel, members, folder))
    await asyncio.sleep(0)  # the pipe is made in the first step
    read = await asyncio.to_thread((folder / "train_0").read_bytes)
    if feeding.done():
        await feeding
    feeding.cancel()
    with suppress(asyncio.CancelledError):
        await feeding
    return read


async def test_a_gzipped_channel_is_decompressed(objects: FilesystemObjects, tmp_path: Path) -> None:
    """Object after object, member after member."""
    await put(objects, "gz/a", gzip.compress(b"row\n" * 1000) + gzip.compress(b"more\n"))
    await put(objects, "gz/b", gzip.compress(b"last\n"))
    assert await one_epoch(objects, tmp_path, "gz/") == b"row\n" * 1000 + b"more\n" + b"last\n"


@pytest.mark.parametrize("cut", [slice(0, 30), slice(0, -1), slice(1, None)])
async def test_a_damaged_gzip_fails_the_channel(objects: FilesystemObjects, tmp_path: Path, cut: slice) -> None:
    """A program must not learn from half of its data; the failure names the object."""
    await put(objects, "gz/a", gzip.compress(random.Random(0).randbytes(100))[cut])
    with pytest.raises(ClientFailure, match=r"s3://shop/gz/a: Failed to decompress gzip"):
        await one_epoch(objects, tmp_path, "gz/")


async def test_a_program_can_not_turn_a_pipe_on_other_files(objects: FilesystemObjects, tmp_path: Path) -> None:
    """Neither by a link in its place nor by one in the place of the folder; its own pipe still works."""
    await put(objects, "rows/a", b"rows")
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "train_0").write_text("precious")
    folder = tmp_path / "data"
    channel = Channel(name="train", source=ObjectPrefix("shop", "rows/"), mode=InputMode.PIPE)
    members = await list_channel(objects, channel)
    serving = feed_pipe(objects, channel, members, folder)
    (folder / "train_0").unlink()
    (folder / "train_0").symlink_to(tmp_path / "victim")
    folder.rename(tmp_path / "moved")
    folder.symlink_to(tmp_path / "elsewhere")
    feeding = asyncio.create_task(serving)
    await asyncio.sleep(0)  # it has looked once
    (tmp_path / "moved" / "train_0").unlink()
    os.mkfifo(tmp_path / "moved" / "train_0")
    assert await asyncio.to_thread((tmp_path / "moved" / "train_0").read_bytes) == b"rows"
    feeding.cancel()
    with suppress(asyncio.CancelledError):
        await feeding
    assert (tmp_path / "victim").read_text() == "precious"
    assert (tmp_path / "elsewhere" / "train_0").read_text() == "precious"


async def test_a_later_input_replaces_files_of_an_earlier_one(objects: FilesystemObjects, tmp_path: Path) -> None:
    """Where they share a folder; a stored object that a file was linked to stays as it is."""
    await put(objects, "one/same", b"first")
    await put(objects, "two/same", b"second")
    for prefix in ("one/", "two/"):
        channel = Channel(name="c", source=ObjectPrefix("shop", prefix))
        members = await list_channel(objects, channel)
        await materialise(objects, members, tmp_path / "in", link=True, replace=True)
    assert (tmp_path / "in" / "same").read_bytes() == b"second"
    assert await body_of(objects, "one/same") == b"first"
