"""Find what killed writers left in the private folder of a bucket, and remove it without touching what lives.

A writer holds a lock on its temporary file for as long as it lives, so that age alone never decides. What is left:
temporary and spare files, uploads that were completed or aborted but not yet removed, and sidecars of files that are no
more, as when a person deleted them. Unfinished outputs, which a later attempt of their job may go on with, are of use
for longer, and asked for apart.
"""

# Paths are bytes here, as keys are, and pathlib knows only text.
# ruff: noqa: PTH118

import fcntl
import itertools
import os
import shutil
import stat as stat_bits
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from millrace.store.bucket_folder import BucketFolder

__all__ = ["LeftoverFile", "list_kept_drafts", "list_leftovers", "remove_leftover"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftoverFile:
    """A file, or the folder of an upload that is over; `limit_ns` is the time before which it must have changed."""

    path: Path
    size: int
    limit_ns: int
    is_sidecar: bool = False


def list_leftovers(bucket: BucketFolder, before: datetime) -> list[LeftoverFile]:
    """Return what was last changed before a moment and has no living writer."""
    limit_ns = _nanoseconds(before)
    own = [bucket.private / "tmp", *(bucket.private / "tmp").glob("*/"), bucket.private / "spare"]
    temporary = itertools.chain(own, (bucket.private / "uploads").glob("*/tmp"))
    return [*_without_writer(temporary, limit_ns), *_uploads_over(bucket, limit_ns), *_sidecars(bucket, limit_ns)]


def list_kept_drafts(bucket: BucketFolder, before: datetime) -> list[LeftoverFile]:
    """Return unfinished outputs that were last written to or opened before a moment and have no living writer."""
    return list(_without_writer([bucket.private / "drafts"], _nanoseconds(before)))


def _without_writer(folders: Iterable[Path], limit_ns: int) -> Iterator[LeftoverFile]:
    for folder in folders:
        for path in folder.glob("*"):
            with suppress(OSError):  # gone meanwhile, or locked: its writer lives
                stat = path.stat()
                if stat.st_mtime_ns >= limit_ns or not stat_bits.S_ISREG(stat.st_mode):
                    continue
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    yield LeftoverFile(path=path, size=stat.st_size, limit_ns=limit_ns)
                finally:
                    os.close(descriptor)


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000_000)


def _uploads_over(bucket: BucketFolder, limit_ns: int) -> Iterator[LeftoverFile]:
    """Folders that were renamed first and then not removed to the end."""
    for path in (bucket.private / "uploads").glob("*.gone"):
        with suppress(OSError):
            if path.stat().st_ctime_ns < limit_ns:
                size = sum(part.stat().st_size for part in path.rglob("*") if part.is_file())
                yield LeftoverFile(path=path, size=size, limit_ns=limit_ns)


def _sidecars(bucket: BucketFolder, limit_ns: int) -> Iterator[LeftoverFile]:
    sidecars = [path for path in (bucket.private / "meta").glob("*") if path.stat().st_ctime_ns < limit_ns]
    if not sidecars:
        return
    inodes = set()
    for top in (bucket.folder, os.fsencode(bucket.private)):
        for folder, _, files in os.walk(top):
            for name in files:
                with suppress(OSError):
                    stat = os.lstat(os.path.join(folder, name))
                    if stat_bits.S_ISREG(stat.st_mode):
                        inodes.add(f"{stat.st_ino:x}")
    for path in sidecars:
        if path.name.partition("-")[0] not in inodes:
            with suppress(FileNotFoundError):
                yield LeftoverFile(path=path, size=path.stat().st_size, limit_ns=limit_ns, is_sidecar=True)


def remove_leftover(leftover: LeftoverFile) -> bool:
    """Remove one, unless it changed or found a writer since it was listed; return whether it is gone by this."""
    path = leftover.path
    if leftover.is_sidecar:
        with suppress(FileNotFoundError):
            path.unlink()
            return True
        return False
    if path.suffix == ".gone":
        shutil.rmtree(path, ignore_errors=True)
        return True
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_mtime_ns < leftover.limit_ns:
                path.unlink()
                return True
        finally:
            os.close(descriptor)
    return False
