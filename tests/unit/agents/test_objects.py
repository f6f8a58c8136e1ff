"""Objects and trees move whole, or not at all."""

import os
from pathlib import Path
from typing import BinaryIO

import pytest

from millrace.agents.objects import download, iter_objects, upload_file, upload_stream, upload_tree
from millrace.errors import ClientFailure, LeaseLost
from millrace.names import ObjectPrefix, ObjectRef
from millrace.store.filesystem import FilesystemObjects


@pytest.fixture
async def objects(tmp_path: Path) -> FilesystemObjects:
    store = FilesystemObjects(tmp_path / "objects", durable=False)
    await store.create_bucket("shop", region="us-east-1", owner="0")
    return store


async def put(objects: FilesystemObjects, key: str, body: bytes = b"x") -> ObjectRef:
    writer = await objects.open_writer(ObjectRef("shop", key))
    await writer.write(body)
    return (await writer.commit()).ref


async def held() -> None:
    """Return, as a lease that holds does."""


async def lost() -> None:
    raise LeaseLost("attempt 1 is closed")


async def keys(objects: FilesystemObjects, prefix: str = "") -> list[str]:
    return [info.ref.key async for info in iter_objects(objects, ObjectPrefix("shop", prefix))]


@pytest.mark.parametrize("link", [True, False])
async def test_a_downloaded_object_is_a_file(objects: FilesystemObjects, tmp_path: Path, link: bool) -> None:
    """As a hard link for programs that are trusted, else as a copy of its own."""
    ref = await put(objects, "a.bin", bytes(range(256)) * 100)
    target = tmp_path / "deep" / "a.bin"
    await download(objects, ref, target, link=link)
    assert target.read_bytes() == bytes(range(256)) * 100
    assert (target.stat().st_nlink > 1) == link


@pytest.mark.parametrize("link", [True, False])
async def test_a_download_never_writes_into_a_file_that_is_there(
    objects: FilesystemObjects, tmp_path: Path, link: bool
) -> None:
    """It may be a link to another object, which keeps its bytes."""
    first, second = await put(objects, "a", b"first object"), await put(objects, "b", b"second")
    target = tmp_path / "file"
    await download(objects, first, target, link=True)
    with pytest.raises(ClientFailure, match="s3://shop/b: another object has the place of its file 'file'"):
        await download(objects, second, target, link=link)
    assert b"".join([chunk async for chunk in objects.read(first)]) == b"first object"


async def test_an_object_whose_name_is_too_long_for_a_file_is_a_client_failure(
    objects: FilesystemObjects, tmp_path: Path
) -> None:
    """A key may have a part of 1,024 bytes, a file name has 255."""
    ref = await put(objects, "x" * 300)
    with pytest.raises(ClientFailure, match="too long"):
        await download(objects, ref, tmp_path / ref.key, link=False)


async def test_a_missing_object_is_a_client_failure(objects: FilesystemObjects, tmp_path: Path) -> None:
    """The failure names it."""
    with pytest.raises(ClientFailure, match="s3://shop/nobody"):
        await download(objects, ObjectRef("shop", "nobody"), tmp_path / "x", link=True)
    with pytest.raises(ClientFailure, match="bucket elsewhere"):
        _ = [info async for info in iter_objects(objects, ObjectPrefix("elsewhere", ""))]


async def test_a_tree_becomes_objects(objects: FilesystemObjects, tmp_path: Path) -> None:
    """Every file under its relative name; what points out of the tree stays out."""
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    (tmp_path / "tree" / "a").write_text("a")
    (tmp_path / "tree" / "deep" / "b").write_text("b")
    (tmp_path / "tree" / "out").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "tree" / "pipe")
    assert await upload_tree(objects, tmp_path / "tree", ObjectPrefix("shop", "to"), check_lease=held) == 2
    assert await keys(objects) == ["to/a", "to/deep/b"]


async def test_a_stream_becomes_an_object(objects: FilesystemObjects) -> None:
    """While it is produced, more than a pipe's buffer at a time."""
    body = os.urandom(3_000_000)
    await upload_stream(objects, ObjectRef("shop", "s"), lambda sink: _write(sink, body), check_lease=held)
    assert b"".join([chunk async for chunk in objects.read(ObjectRef("shop", "s"))]) == body


@pytest.mark.parametrize("size", [0, 3_000_000])
async def test_a_producer_that_fails_leaves_no_object(objects: FilesystemObjects, size: int) -> None:
    """Its error is told."""

    def produce(sink: BinaryIO) -> None:
        _write(sink, bytes(size))
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        await upload_stream(objects, ObjectRef("shop", "s"), produce, check_lease=held)
    assert await keys(objects) == []


async def test_a_stream_into_a_missing_bucket_produces_nothing(objects: FilesystemObjects) -> None:
    """Nobody is left writing into a pipe that nobody reads."""
    produced: list[bool] = []

    def produce(sink: BinaryIO) -> None:
        produced.append(True)

    with pytest.raises(Exception, match="nowhere"):
        await upload_stream(objects, ObjectRef("nowhere", "s"), produce, check_lease=held)
    assert produced == []


async def test_nothing_is_stored_once_the_lease_is_lost(objects: FilesystemObjects, tmp_path: Path) -> None:
    """What another attempt has stored meanwhile stays."""
    for key in ("to/a", "archive"):
        await put(objects, key, b"newer")
    (tmp_path / "a").write_text("older")
    with pytest.raises(LeaseLost):
        await upload_file(objects, tmp_path / "a", ObjectRef("shop", "to/a"), check_lease=lost)
    with pytest.raises(LeaseLost):
        await upload_tree(objects, tmp_path, ObjectPrefix("shop", "to"), check_lease=lost)
    with pytest.raises(LeaseLost):
        await upload_stream(objects, ObjectRef("shop", "archive"), lambda sink: _write(sink, b"x"), check_lease=lost)
    assert await keys(objects) == ["archive", "to/a"]
    for key in ("to/a", "archive"):
        assert b"".join([chunk async for chunk in objects.read(ObjectRef("shop", key))]) == b"newer"


def _write(sink: BinaryIO, body: bytes) -> None:
    sink.write(body)
