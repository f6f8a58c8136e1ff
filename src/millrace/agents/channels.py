"""Bring a job's channels to its containers: as files, or through pipes."""

import asyncio
import errno
import os
import random
import stat
import struct
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from millrace.agents.confined import open_folder
from millrace.agents.objects import download, iter_objects
from millrace.agents.placement import Placement
from millrace.dataplane.gzip import CorruptGzip, gunzip
from millrace.dataplane.manifest import parse_manifest
from millrace.errors import ClientFailure
from millrace.jobs.channel import Channel, ChannelSource, Distribution, RecordWrapper
from millrace.names import ObjectRef, relative_key
from millrace.ports.objects import NoSuchBucket, NoSuchKey, ObjectStore, ObjectUnreadable

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
    except (NoSuchKey, NoSuchBucket, ObjectUnreadable) as exc:
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


async def materialise(
    objects: ObjectStore, members: Sequence[Member], folder: Path, *, link: bool, replace: bool = False
) -> None:
    """Put a channel's objects into a folder, under their relative names.

    Args:
        link: As for `download`.
        replace: Whether files that another input has put there give way, rather than fail the job.

    Raises:
        ClientFailure: An object is gone, or its name can't be a file's there or is another object's too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    placement = Placement(folder)
    for ref, _, relative in members:
        target = placement.place(ref, relative)
        if replace:
            with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
                target.unlink()  # never written over: it may be a link to a stored object
        await download(objects, ref, target, link=link)


def feed_pipe(
    objects: ObjectStore, channel: Channel, members: Sequence[Member], folder: Path
) -> Coroutine[Any, Any, None]:
    """Make a channel's first FIFO now; return what serves the channel, a FIFO per epoch, until cancelled.

    The next epoch's FIFO exists before this one's reader sees the end, so a program may open it without looking. The
    folder is held from before the program starts: whatever it puts in the place of folder or FIFO later, nothing else
    is written to.

    Source:
        containers.md 2.5.4.
    """
    folder.mkdir(parents=True, exist_ok=True)
    held = open_folder(folder, "")
    os.mkfifo(f"{channel.name}_0", dir_fd=held)
    return _feed(objects, channel, members, held)


async def _feed(objects: ObjectStore, channel: Channel, members: Sequence[Member], held: int) -> None:
    epoch = 0
    try:
        while True:
            descriptor = await _open_for_reader(f"{channel.name}_{epoch}", held)
            try:
                async for chunk in _epoch(objects, channel, members, epoch):
                    await _write(descriptor, chunk)
            except BrokenPipeError:
                pass  # the reader has seen enough of this epoch
            finally:
                with suppress(FileExistsError):
                    os.mkfifo(f"{channel.name}_{epoch + 1}", dir_fd=held)
                os.close(descriptor)
            epoch += 1
    finally:
        os.close(held)


async def _open_for_reader(name: str, held: int) -> int:
    """Open a FIFO for writing once somebody reads it; never, if the program has taken it away."""
    while True:
        try:
            descriptor = os.open(name, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=held)
        except OSError as exc:
            if exc.errno not in (errno.ENXIO, errno.ENOENT, errno.ELOOP, errno.EISDIR):
                raise
        else:
            if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                return descriptor
            os.close(descriptor)
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
