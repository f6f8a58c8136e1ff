"""Bring a model's files to the folder in which its container finds them."""

import asyncio
import os
from pathlib import Path

from millrace.agents.archives import unpack
from millrace.agents.objects import download, iter_objects
from millrace.agents.placement import Placement
from millrace.errors import ClientFailure
from millrace.jobs.endpoint import ModelData
from millrace.names import ObjectPrefix, ObjectRef, relative_key
from millrace.ports.objects import NoSuchBucket, NoSuchKey, ObjectStore, ObjectUnreadable

__all__ = ["bring_model"]


async def bring_model(objects: ObjectStore, data: ModelData | None, folder: Path, *, link: bool) -> None:
    """Put a model's files into its folder.

    Raises:
        ClientFailure: They are not there, or a key can't be a file name below the folder.

    Source:
        containers.md 5.2.
    """
    if data is None:
        return
    placement = Placement(folder)
    if data.is_prefix:
        source = ObjectPrefix.parse(data.uri)
        async for info in iter_objects(objects, source):
            target = placement.place(info.ref, relative_key(source.prefix, info.ref.key))
            await download(objects, info.ref, target, link=link)
        return
    ref = ObjectRef.parse(data.uri)
    if not data.is_gzip:
        await download(objects, ref, placement.place(ref, ref.key.rpartition("/")[2]), link=link)
        return
    try:
        local = await objects.open_local(ref)
    except (NoSuchKey, NoSuchBucket) as exc:
        raise ClientFailure(f"model data {ref} does not exist") from exc
    except ObjectUnreadable as exc:
        raise ClientFailure(f"model data {ref} can't be read: {exc.detail}") from exc
    if local is not None:
        _, _, descriptor = local
    else:
        archive = folder.parent / "model.tar.gz"
        await download(objects, ref, archive, link=False)
        descriptor = os.open(archive, os.O_RDONLY)
        archive.unlink()
    with os.fdopen(descriptor, "rb") as source_file:
        await asyncio.to_thread(unpack, source_file, folder, name=f"model data {ref}")
