"""Move whole objects and trees between the store and an instance's folder."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO

from millrace.agents.breaking_off import Check, in_thread
from millrace.errors import ClientFailure
from millrace.names import ObjectPrefix, ObjectRef
from millrace.ports.objects import NoSuchBucket, NoSuchKey, ObjectInfo, ObjectStore, ObjectUnreadable

__all__ = ["download", "iter_objects", "upload_file", "upload_stream", "upload_tree"]

PIPE_BYTES = 1024 * 1024

COPY_BYTES = 16 * 1024 * 1024
"""Bytes that are copied between two looks whether the copy is still wanted."""

_LINKS_NOT = (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.ENOTSUP, errno.ENOENT)
"""What says that a link can't be had but a copy can: another file system, too many links, or none here at all, and an
object that was replaced since it was opened."""


async def iter_objects(objects: ObjectStore, source: ObjectPrefix) -> AsyncIterator[ObjectInfo]:
    """Yield the objects of a prefix in key order, folder markers left out.

    Raises:
        ClientFailure: The bucket does not exist, or can't be listed.
    """
    after = ""
    while True:
        try:
            page = await objects.list_objects(source.bucket, prefix=source.prefix, after=after)
        except NoSuchBucket as exc:
            raise ClientFailure(f"bucket {source.bucket} does not exist") from exc
        except ObjectUnreadable as exc:
            raise ClientFailure(f"{source} can't be listed: {exc.subject}: {exc.detail}") from exc
        for info in page.objects:
            if not info.ref.key.endswith("/"):
                yield info
        if page.next_after is None:
            return
        after = page.next_after


async def download(objects: ObjectStore, ref: ObjectRef, target: Path, *, link: bool) -> None:
    """Put an object into a new file.

    Never into one that is there: it may be a link to another object, which would be overwritten in the store.

    Args:
        link: Whether the file may be a hard link to the stored object: for programs that are trusted not to write
            into their input.

    Raises:
        ClientFailure: The object does not exist, or its file can't be made: the name is taken or too long.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        local = await objects.open_local(ref)
        if local is None:
            with target.open("xb") as file:
                async for chunk in objects.read(ref):
                    file.write(chunk)
            return
        _, path, descriptor = local
        try:
            if not (link and _link(path, target)):
                await in_thread(partial(_copy, descriptor, target))
        finally:
            os.close(descriptor)
    except (NoSuchKey, NoSuchBucket) as exc:
        raise ClientFailure(f"{ref} does not exist") from exc
    except ObjectUnreadable as exc:
        raise ClientFailure(f"{ref} can't be read: {exc.detail}") from exc
    except (FileExistsError, NotADirectoryError) as exc:
        raise ClientFailure(f"{ref}: another object has the place of its file {target.name!r}") from exc
    except OSError as exc:
        if exc.errno != errno.ENAMETOOLONG:
            raise
        raise ClientFailure(f"{ref}: the name is too long for a file") from exc


def _link(path: Path, target: Path) -> bool:
    """Make a hard link; return False if there has to be a copy instead."""
    try:
        os.link(path, target)
    except OSError as exc:
        if exc.errno not in _LINKS_NOT:
            raise
        return False
    return True


def _copy(descriptor: int, target: Path, check: Check) -> None:
    with target.open("xb") as file:
        offset = 0
        while sent := os.sendfile(file.fileno(), descriptor, offset, COPY_BYTES):
            offset += sent
            check()


async def upload_tree(
    objects: ObjectStore, tree: Path, target: ObjectPrefix, *, check_lease: Callable[[], Awaitable[None]]
) -> int:
    """Store every file below a folder under its relative name; return how many there were.

    `check_lease` is as for `upload_file`.
    """
    count = 0
    for folder, folders, files in os.walk(tree):
        folders.sort()
        for name in sorted(files):
            path = Path(folder) / name
            if path.is_file() and path.resolve().is_relative_to(tree.resolve()):
                ref = target.join(path.relative_to(tree).as_posix())
                await upload_file(objects, path, ref, check_lease=check_lease)
                count += 1
    return count


async def upload_file(
    objects: ObjectStore, source: Path | int, ref: ObjectRef, *, check_lease: Callable[[], Awaitable[None]]
) -> None:
    """Store one file.

    Args:
        source: Its path, or a descriptor, which is closed.
        check_lease: Awaited when all is written but nothing visible; what it raises leaves the store as it is. An
            upload takes minutes, in which another attempt may have stored something newer.
    """
    with os.fdopen(source, "rb") if isinstance(source, int) else source.open("rb") as file:
        writer = await objects.open_writer(ref)
        try:
            while chunk := file.read(PIPE_BYTES):
                await writer.write(chunk)
            await check_lease()
            await writer.commit()
        except BaseException:
            await writer.abort()
            raise


async def upload_stream(
    objects: ObjectStore,
    ref: ObjectRef,
    produce: Callable[[BinaryIO], None],
    *,
    check_lease: Callable[[], Awaitable[None]],
) -> None:
    """Store what a function writes, while it writes it in a thread; memory holds one pipe buffer.

    `check_lease` is as for `upload_file`.
    """
    read_end, write_end = os.pipe()

    def run() -> None:
        with os.fdopen(write_end, "wb") as sink:
            produce(sink)

    with os.fdopen(read_end, "rb") as source:
        writer = await objects.open_writer(ref)
        producing = asyncio.create_task(asyncio.to_thread(run))
        try:
            while chunk := await asyncio.to_thread(source.read, PIPE_BYTES):
                await writer.write(chunk)
            await producing
            await check_lease()
            await writer.commit()
        except BaseException:
            source.close()  # the producer, if it still writes, ends with a broken pipe
            await writer.abort()
            raise
