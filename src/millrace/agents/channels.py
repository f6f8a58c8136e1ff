"""Bring a training job's channels to its containers: as files, or through pipes."""

import asyncio
import errno
import os
import random
import struct
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from millrace.agents.objects import download, iter_objects
from millrace.agents.placement import Placement
from millrace.dataplane.gzip import CorruptGzip, gunzip
from millrace.dataplane.manifest import parse_manifest
from millrace.errors import ClientFailure
from millrace.jobs.channel import Channel, ChannelSource, Distribution, RecordWrapper
from millrace.names import ObjectRef, relative_key
from millrace.ports.objects import NoSuchBucket, NoSuchKey, ObjectStore

__all__ = ["feed_pipe", "list_channel", "materialise", "shard"]

MAX_MANIFEST_BYTES = 256 * 1024 * 1024
RECORDIO_MAGIC = 0xCED7230A
MAX_RECORD_BYTES = (1 << 29) - 1
GUNZIP_BYTES = 1024 * 1024
"""Decompressed bytes of a pipe that memory holds at a time."""

READER_POLL_SECONDS = 0.002
"""How often a pipe is tried until its reader has come; the kernel has no event for it."""

Member = tuple[ObjectRef, int, str]
"""An object of a channel: reference, size, name relative to the channel's folder."""


async def list_channel(objects: ObjectStore, channel: Channel) -> list[Member]:
    """Return a channel's objects in key order (a manifest's in its own).

    Raises:
        ClientFailure: Nothing is there, or the manifest is malformed.
    """
    if channel.source_type is ChannelSource.MANIFEST:
        members = await _list_manifest(objects, channel)
    else:
        members = [
            (info.ref, info.size, relative_key(channel.source.prefix, info.ref.key))
            async for info in iter_objects(objects, channel.source)
        ]
    if not members:
        raise ClientFailure(f"Unable to find any object for channel '{channel.name}' under {channel.source}")
    return members


async def _list_manifest(objects: ObjectStore, channel: Channel) -> list[Member]:
    ref = ObjectRef(channel.source.bucket, channel.source.prefix)
    try:
        text = b"".join([chunk async for chunk in objects.read(ref, length=MAX_MANIFEST_BYTES)])
        entries = parse_manifest(text, name=str(ref))
        members = [(it.ref, (await objects.get(it.ref)).size, it.relative) for it in entries]
    except (NoSuchKey, NoSuchBucket) as exc:
        raise ClientFailure(f"channel '{channel.name}': {exc}") from exc
    return members


def shard(members: Sequence[Member], channel: Channel, host: int, hosts: int) -> list[Member]:
    """Return the objects that one host (counted from 0) gets.

    Source:
        containers.md 2.5.5: object i goes to host i mod n.
    """
    if channel.distribution is Distribution.FULLY_REPLICATED:
        return list(members)
    return [member for number, member in enumerate(members) if number % hosts == host]


async def materialise(objects: ObjectStore, members: Sequence[Member], folder: Path, *, link: bool) -> None:
    """Put a channel's objects into a folder, under their relative names.

    Raises:
        ClientFailure: An object is gone, or its name can't be a file's there or is another object's too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    placement = Placement(folder)
    for ref, _, relative in members:
        await download(objects, ref, placement.place(ref, relative), link=link)


async def feed_pipe(objects: ObjectStore, channel: Channel, members: Sequence[Member], folder: Path) -> None:
    """Serve a channel as FIFOs, one per epoch, until cancelled.

    The next epoch's FIFO exists before this one's reader sees the end, so a program may open it without looking.

    Source:
        containers.md 2.5.4.
    """
    folder.mkdir(parents=True, exist_ok=True)
    os.mkfifo(folder / f"{channel.name}_0")
    epoch = 0
    while True:
        descriptor = await _open_for_reader(folder / f"{channel.name}_{epoch}")
        try:
            async for chunk in _epoch(objects, channel, members, epoch):
                await _write(descriptor, chunk)
        except BrokenPipeError:
            pass  # the reader has seen enough of this epoch
        finally:
            following = folder / f"{channel.name}_{epoch + 1}"
            if not following.exists():
                os.mkfifo(following)
            os.close(descriptor)
        epoch += 1


async def _open_for_reader(path: Path) -> int:
    """Open a FIFO for writing once somebody reads it."""
    while True:
        try:
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as exc:
            if exc.errno != errno.ENXIO:
                raise
        await asyncio.sleep(READER_POLL_SECONDS)


async def _write(descriptor: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            await _wait_writable(descriptor)


async def _wait_writable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    writable = asyncio.Event()
    loop.add_writer(descriptor, writable.set)
    try:
        await writable.wait()
    finally:
        loop.remove_writer(descriptor)


async def _epoch(objects: ObjectStore, channel: Channel, members: Sequence[Member], epoch: int) -> AsyncIterator[bytes]:
    """Yield one epoch's bytes: all objects, without separators."""
    order = list(members)
    if channel.shuffle_seed is not None:
        random.Random(channel.shuffle_seed + epoch).shuffle(order)
    for ref, size, _ in order:
        framed = channel.record_wrapper is RecordWrapper.RECORDIO
        if framed:
            if size > MAX_RECORD_BYTES:
                raise ClientFailure(f"{ref}: {size} bytes don't fit into one RecordIO record of {MAX_RECORD_BYTES}")
            yield struct.pack("<II", RECORDIO_MAGIC, size)
        chunks = objects.read(ref)
        async for chunk in _gunzip(chunks, ref) if channel.gzip else chunks:
            yield chunk
        if framed:
            yield bytes(-size % 4)


async def _gunzip(chunks: AsyncIterator[bytes], ref: ObjectRef) -> AsyncIterator[bytes]:
    """Decompress one object in pieces that a pipe's reader can keep up with, whatever it unpacks to."""
    try:
        async for plain in gunzip(chunks, chunk_bytes=GUNZIP_BYTES):
            yield plain
    except CorruptGzip as exc:
        raise ClientFailure(f"{ref}: {exc}") from exc
