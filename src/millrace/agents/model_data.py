"""Bring a model's files to the folder in which its container finds them."""

import os
from pathlib import Path

from millrace.agents.archives import unpack
from millrace.agents.breaking_off import in_thread
from millrace.agents.objects import download, iter_objects
from millrace.agents.placement import Placement
from millrace.errors import ClientFailure
from millrace.folder_removal import remove_folder
from millrace.jobs.endpoint import ModelData
from millrace.names import ObjectPrefix, ObjectRef, relative_key
from millrace.ports.objects import NoSuchBucket, NoSuchKey, ObjectStore, ObjectUnreadable

__all__ = ["bring_model"]


async def bring_model(objects: ObjectStore, data: ModelData | None, folder: Path, *, link: bool) -> None:
    """Put a model's files into its folder. Cancelled, it ends within about a megabyte of work.

    If it fails or is cancelled, the folder is removed with all that it got.

    Raises:
        ClientFailure: They are not there, or a key can't be a file name below the folder.

    Source:
        containers.md 5.2.
    """
    if data is None:
        return
    try:
        if data.is_prefix:
            await _bring_objects(objects, ObjectPrefix.parse(data.uri), folder, link=link)
        elif data.is_gzip:
            await _bring_archive(objects, ObjectRef.parse(data.uri), folder)
        else:
            ref = ObjectRef.parse(data.uri)
            await download(objects, ref, Placement(folder).place(ref, ref.key.rpartition("/")[2]), link=link)
    except BaseException:
        await in_thread(lambda _: remove_folder(folder))
        raise


async def _bring_objects(objects: ObjectStore, source: ObjectPrefix, folder: Path, *, link: bool) -> None:
    placement = Placement(folder)
    async for info in iter_objects(objects, source):
        target = placement.place(info.ref, relative_key(source.prefix, info.ref.key))
        await download(objects, info.ref, target, link=link)


async def _bring_archive(objects: ObjectStore, ref: ObjectRef, folder: Path) -> None:
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
        try:
            await download(objects, ref, archive, link=False)
            descriptor = os.open(archive, os.O_RDONLY)
        finally:
            archive.unlink(missing_ok=True)
    with os.fdopen(descriptor, "rb") as source_file:
        await in_thread(lambda check: unpack(source_file, folder, name=f"model data {ref}", check=check))
