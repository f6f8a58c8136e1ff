"""Read the outputs of a transform that is over, from a program that may have an event loop of its own."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path

from millrace.dataplane.formats.decompress import decompressed
from millrace.dataplane.formats.options import Codec
from millrace.names import ObjectRef
from millrace.ports.objects import NoSuchKey
from millrace.settings import Settings
from millrace.store.filesystem import FilesystemObjects

__all__ = ["read_outputs"]

CHUNK_BYTES = 1024 * 1024


def read_outputs(
    settings: Settings, aliases: Mapping[str, Path], refs: Sequence[ObjectRef], *, codec: Codec | None
) -> list[bytes | None]:
    """Return the decompressed bytes of objects, None for one that is not there."""
    with ThreadPoolExecutor(1) as apart:  # where a loop runs, as in Jupyter, no other can be run by the same thread
        return apart.submit(lambda: asyncio.run(_read_all(settings, aliases, refs, codec))).result()


async def _read_all(
    settings: Settings, aliases: Mapping[str, Path], refs: Sequence[ObjectRef], codec: Codec | None
) -> list[bytes | None]:
    objects = FilesystemObjects(settings.objects_dir, aliases=aliases)
    try:
        return [await _read(objects, ref, codec) for ref in refs]
    finally:
        objects.close()


async def _read(objects: FilesystemObjects, ref: ObjectRef, codec: Codec | None) -> bytes | None:
    try:
        async with aclosing(_stored(objects, ref)) as stored:
            return b"".join([chunk async for chunk in decompressed(stored, codec, chunk_bytes=CHUNK_BYTES)])
    except NoSuchKey:
        return None


async def _stored(objects: FilesystemObjects, ref: ObjectRef) -> AsyncGenerator[bytes, None]:
    async for chunk in objects.read(ref):
        yield chunk
