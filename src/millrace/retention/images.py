"""The collectors of the image store, and what says which images are in use."""

import asyncio
import fcntl
import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from millrace.jobs.images import images_of
from millrace.ports.images import BadImageName, ImageName, ImageStore
from millrace.ports.jobs import JobStore, NoSuchJob
from millrace.retention.folder_size import folder_size
from millrace.retention.leftover import Leftover, LeftoverKind
from millrace.store.image_files import ImageFiles
from millrace.store.image_removal import Unused, find_unused, remove_unused, sweep_drafts

__all__ = ["ImageDrafts", "UnusedImages", "find_images_in_use"]


async def find_images_in_use(jobs: JobStore, images: ImageStore) -> frozenset[str]:
    """Return the digests of the images that unfinished jobs and endpoints run."""
    uris: set[str] = set()
    for job_id in await jobs.list_unfinished():
        with suppress(NoSuchJob):
            uris |= images_of(await jobs.get_by_id(job_id))
    found = set()
    for uri in uris:
        with suppress(BadImageName):  # a program of the machine
            manifest = images.find(ImageName.parse(uri))
            if manifest is not None:
                found.add(manifest.digest)
    return frozenset(found)


@dataclass(frozen=True, kw_only=True)
class ImageDrafts:
    """Unfinished layers of builds that were killed; a builder that lives holds a lock on its own."""

    images: ImageFiles
    keep: timedelta

    async def find(self, now: datetime) -> list[Leftover]:
        return await asyncio.to_thread(self._find, now - self.keep)

    def _find(self, before: datetime) -> list[Leftover]:
        found = []
        for lock_file in sorted((self.images.folder / "drafts").glob("*.lock")):
            with suppress(OSError), lock_file.open("rb") as lock:  # gone meanwhile, or locked
                made = datetime.fromtimestamp(os.fstat(lock.fileno()).st_mtime, UTC)
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                if made < before:
                    folder = lock_file.with_suffix("")
                    size = folder_size(folder)
                    found.append(Leftover(kind=LeftoverKind.IMAGE_DRAFT, name=str(folder), size=size, since=made))
        return found

    async def remove(self, leftover: Leftover, now: datetime) -> bool:
        await asyncio.to_thread(sweep_drafts, self.images)  # all at once; those that live are locked
        return not Path(leftover.name).exists()


@dataclass(frozen=True, kw_only=True)
class UnusedImages:
    """Images that have no tag any more, and layers of no image: what failed and repeated builds left."""

    images: ImageFiles
    jobs: JobStore
    keep: timedelta

    async def find(self, now: datetime) -> list[Leftover]:
        in_use = await find_images_in_use(self.jobs, self.images)
        unused = await asyncio.to_thread(find_unused, self.images, in_use=in_use, before=now - self.keep)
        return [self._told(unused)] if unused else []

    def _told(self, unused: Unused) -> Leftover:
        name = f"{len(unused.images)} images without tag, {len(unused.layers)} layers"
        return Leftover(kind=LeftoverKind.IMAGES, name=name, size=unused.size, since=None)

    async def remove(self, leftover: Leftover, now: datetime) -> bool:
        in_use = await find_images_in_use(self.jobs, self.images)
        # None while a build runs: the next turn finds the same
        return bool(await asyncio.to_thread(remove_unused, self.images, in_use=in_use, before=now - self.keep))
