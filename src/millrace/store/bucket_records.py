"""Keep what is recorded about buckets: who made them, where and when, and their configurations.

They are files in the bucket's private folder: `bucket.json`, and one file per configuration in `config/`. Every request
asks for them, so they are kept in memory for as long as the times of the file and the folder say that nothing changed.
A time that is too young to tell two changes apart is not trusted: file systems count it in ticks of a few milliseconds.

One look at these times counts until the event loop has had its turn. What a request asks for was known when its bytes
were read, and a change by another process that was over before then was there to be seen: the loop runs what it is
given in order, so that the look is forgotten before anything that has been read since.
"""

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson

from millrace.names import DEFAULT_REGION
from millrace.ports.objects import BucketInfo, BucketState, NoSuchBucket
from millrace.store.bucket_folder import BucketFolder

__all__ = ["BucketRecords"]

_MAX_BUCKETS = 1024
_TICK_NS = 50_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Stamp = tuple[int, int, int]
"""What changes when a file is replaced, or an entry of a folder: device, inode and time."""


@dataclass(frozen=True, slots=True)
class _Kept:
    stamps: tuple[Stamp | None, Stamp | None]
    state: BucketState


class BucketRecords:
    """The records of all buckets of a store.

    Args:
        default_owner: The account of folders that were made by hand.
        write: Writes a file of a bucket at once and durably.
    """

    def __init__(self, *, default_owner: str, write: Callable[[BucketFolder, Path, bytes], None]) -> None:
        self._default_owner = default_owner
        self._write = write
        self._kept: dict[Path, _Kept] = {}
        self._looked: dict[str, BucketState] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def create(self, bucket: BucketFolder, info: BucketInfo) -> None:
        """Record a new bucket."""
        self.look_again()
        document = {"region": info.region, "owner": info.owner, "created": info.created_at.isoformat()}
        self._write(bucket, _facts_path(bucket), orjson.dumps(document))

    def get(self, bucket: BucketFolder) -> BucketState:
        """Return the records of a bucket: the same object for as long as nothing changes. Called on the event loop.

        Raises:
            NoSuchBucket: There is none.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # another one has no turns any more, or runs beside this one
            self._looked, self._loop = {}, loop
        state = self._looked.get(bucket.name)
        if state is not None:
            return state
        if not bucket.exists():
            raise NoSuchBucket(bucket.name)
        state = self._read(bucket)
        if not self._looked:
            loop.call_soon(self.look_again)
        self._looked[bucket.name] = state
        return state

    def look_again(self) -> None:
        """Forget that buckets were looked at: one is about to change."""
        self._looked.clear()

    def _read(self, bucket: BucketFolder) -> BucketState:
        # Looked at before reading: what is written meanwhile makes the next look differ.
        stamps = _stamp(f"{bucket.private}/bucket.json"), _stamp(f"{bucket.private}/config")
        kept = self._kept.get(bucket.private)
        if kept is not None and kept.stamps == stamps:
            return kept.state
        state = BucketState(info=self._read_info(bucket), documents=_read_documents(bucket))
        newest = max((stamp[2] for stamp in stamps if stamp is not None), default=0)
        if time.time_ns() - newest > _TICK_NS:
            if len(self._kept) >= _MAX_BUCKETS:
                self._kept.clear()
            self._kept[bucket.private] = _Kept(stamps, state)
        return state

    def put(self, bucket: BucketFolder, kind: str, text: str | None) -> None:
        """Store a configuration; None removes it."""
        if not kind or kind[0] == "." or "/" in kind:
            raise ValueError(f"the kind of a bucket configuration must be a plain word, got {kind!r}")
        self.look_again()
        path = _documents_path(bucket) / kind
        if text is None:
            path.unlink(missing_ok=True)
        else:
            self._write(bucket, path, text.encode())

    def _read_info(self, bucket: BucketFolder) -> BucketInfo:
        try:
            document = orjson.loads(_facts_path(bucket).read_bytes())
            return BucketInfo(
                name=bucket.name,
                region=document["region"],
                owner=document["owner"],
                created_at=datetime.fromisoformat(document["created"]),
            )
        except (FileNotFoundError, ValueError, KeyError):
            made_at = _EPOCH + timedelta(microseconds=os.stat(bucket.folder).st_ctime_ns // 1000)  # noqa: PTH116
            return BucketInfo(name=bucket.name, region=DEFAULT_REGION, owner=self._default_owner, created_at=made_at)


def _read_documents(bucket: BucketFolder) -> dict[str, str]:
    documents: dict[str, str] = {}
    try:
        names = os.listdir(_documents_path(bucket))  # noqa: PTH208
    except FileNotFoundError:
        return documents
    for name in names:
        with suppress(FileNotFoundError):  # removed just now
            documents[name] = (_documents_path(bucket) / name).read_text("utf-8")
    return documents


def _facts_path(bucket: BucketFolder) -> Path:
    return bucket.private / "bucket.json"


def _documents_path(bucket: BucketFolder) -> Path:
    return bucket.private / "config"


def _stamp(path: str) -> Stamp | None:
    try:
        stat = os.stat(path)  # noqa: PTH116  # on the way of every request: no Path for nothing
    except OSError:
        return None
    return stat.st_dev, stat.st_ino, stat.st_mtime_ns
