"""Channels bring objects to a program and leave those in the store alone."""

from pathlib import Path

import pytest

from millrace.agents.channels import list_channel, materialise
from millrace.errors import ClientFailure
from millrace.jobs.training import Channel, ChannelSource
from millrace.names import ObjectPrefix, ObjectRef
from millrace.store.filesystem import FilesystemObjects


@pytest.fixture
async def objects(tmp_path: Path) -> FilesystemObjects:
    store = FilesystemObjects(tmp_path / "objects", durable=False)
    await store.create_bucket("work", region="us-east-1", owner="0")
    return store


async def put(objects: FilesystemObjects, key: str, body: bytes = b"x") -> None:
    writer = await objects.open_writer(ObjectRef("work", key))
    await writer.write(body)
    await writer.commit()


async def body_of(objects: FilesystemObjects, key: str) -> bytes:
    return b"".join([chunk async for chunk in objects.read(ObjectRef("work", key))])


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
    manifest = b'[{"prefix": "s3://work/x/"}, "d.csv", {"prefix": "s3://work/y/"}, "d.csv"]'
    await put(objects, "manifest", manifest)
    for key in keys:
        await put(objects, key, b"content of " + key.encode())
    channel = Channel(name="train", source=ObjectPrefix("work", source), source_type=source_type)
    members = await list_channel(objects, channel)
    with pytest.raises(ClientFailure) as caught:
        await materialise(objects, members, tmp_path / "train", link=link)
    assert all(f"s3://work/{key}" in str(caught.value) for key in keys)
    assert [await body_of(objects, key) for key in keys] == [b"content of " + key.encode() for key in keys]
