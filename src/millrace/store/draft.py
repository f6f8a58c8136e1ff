"""Write a file that becomes an object all at once, or leaves nothing."""

# Paths are bytes here, as keys are, and pathlib knows only text.
# ruff: noqa: PTH108

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock

from millrace.ports.objects import BadDigest
from millrace.store.bucket_folder import BucketFolder
from millrace.store.checksums import Digests
from millrace.store.large_file import LargeFile
from millrace.store.recycled_files import RecycledFiles

__all__ = ["Draft", "copy_bytes", "receive", "receive_small", "verify_digests"]

_COPY_BYTES = 1 << 30

_INLINE_BYTES = 64 * 1024
"""Bytes that are hashed and written on the event loop: below this a hop to a thread takes longer than the work."""


class Draft:
    """A file being written, in the bucket's private folder. Closing it removes it, unless it was installed.

    With `cached_bytes` it is written past the page cache from there on, and complete only after `finish`. With
    `recycled` it may be a file from there, and what it replaces may go there.
    """

    def __init__(
        self,
        bucket: BucketFolder,
        digests: Digests | None = None,
        *,
        folder: Path | None = None,
        cached_bytes: int | None = None,
        recycled: RecycledFiles | None = None,
    ) -> None:
        self.recycled = recycled
        found = None if recycled is None else recycled.take(bucket.spares)
        self.descriptor, self.path = found or bucket.temporary(folder)
        self._large = None if cached_bytes is None else LargeFile(self.descriptor, cached_bytes=cached_bytes)
        self.size = 0
        self.digests = digests
        self._lock = Lock()
        self._open = True
        self._is_installed = False

    def append(self, chunks: Sequence[bytes | bytearray | memoryview]) -> None:
        """Hash and write chunks. May run in a thread; what comes after `close` is dropped."""
        with self._lock:
            if not self._open:
                return
            for chunk in chunks:
                view = memoryview(chunk)
                if self.digests is not None:
                    self.digests.update(view)
                self.size += len(view)
                if self._large is not None:
                    self._large.append(view)
                    continue
                while view:
                    view = view[os.write(self.descriptor, view) :]

    @property
    def holds_back(self) -> bool:
        """Whether `finish` has bytes to write."""
        return self._large is not None and self._large.held > 0

    def finish(self) -> None:
        """Write what is held back; nothing is appended any more. May run in a thread."""
        with self._lock:
            if self._open and self._large is not None:
                self._large.finish()

    def installed(self) -> None:
        """Take note that the file has its place among the objects, and its temporary name no longer."""
        self._is_installed = True

    def stat(self) -> os.stat_result:
        """Return the file's size and time."""
        return os.fstat(self.descriptor)

    def close(self) -> None:
        """Close the file and remove its temporary name, which an installed file no longer has. Harmless twice."""
        with self._lock:  # a thread of a cancelled task may still be writing
            if not self._open:
                return
            self._open = False
            if self._large is not None:
                self._large.forget()
            if not self._is_installed:
                with suppress(FileNotFoundError):
                    os.unlink(self.path)
            os.close(self.descriptor)


async def receive_small(chunks: AsyncIterator[bytes], limit: int) -> tuple[list[bytes], bool]:
    """Return all chunks of a body and True; or, of a larger one, the first of more than `limit` bytes and False."""
    first: list[bytes] = []
    size = 0
    async for chunk in chunks:
        first.append(chunk)
        size += len(chunk)
        if size > limit:
            return first, False
    return first, True


async def receive(
    draft: Draft, chunks: AsyncIterable[bytes], *, batch_bytes: int, received: Iterable[bytes] = ()
) -> None:
    """Append all chunks: one batch is hashed and written in a thread while the next one arrives.

    Holds at most two batches of `batch_bytes` (and one chunk) in memory. Those `received` already come first.
    """
    loop = asyncio.get_running_loop()
    writing: asyncio.Future[None] | None = None
    batch = list(received)
    size = sum(map(len, batch))
    try:
        async for chunk in chunks:
            batch.append(chunk)
            size += len(chunk)
            if size >= batch_bytes:
                if writing is not None:
                    await writing
                writing = loop.run_in_executor(None, draft.append, batch)
                batch, size = [], 0
        if writing is not None:
            await writing
    finally:
        if writing is not None and not writing.done():
            await asyncio.wait({writing})
    if size > _INLINE_BYTES:
        await loop.run_in_executor(None, draft.append, batch)
    elif size:
        draft.append(batch)


def verify_digests(
    draft: Draft, subject: object, *, expect_md5: bytes | None, expected: Mapping[str, str]
) -> tuple[bytes, dict[str, str]]:
    """Return MD5 and checksums of what was written; raises BadDigest if they are not as expected."""
    assert draft.digests is not None, "the draft was opened with digests"
    md5, checksums = draft.digests.md5(), draft.digests.checksums()
    if expect_md5 is not None and md5 != expect_md5:
        raise BadDigest(subject, f"Content-MD5: expected {expect_md5.hex()}, got {md5.hex()}")
    for algorithm, value in expected.items():
        if checksums.get(algorithm) != value:
            raise BadDigest(subject, f"{algorithm}: expected {value}, got {checksums.get(algorithm)}")
    return md5, checksums


def copy_bytes(source: int, target: int, start: int, length: int) -> None:
    """Append a range of one file to another, inside the kernel (and by reference where it can)."""
    end = start + length
    while start < end:
        try:
            copied = os.copy_file_range(source, target, min(end - start, _COPY_BYTES), start)
        except OSError:  # two file systems that the kernel does not copy between
            copied = os.sendfile(target, source, start, min(end - start, _COPY_BYTES))
        if not copied:
            raise OSError(f"the file was cut to {start} of {end} bytes while it was copied")
        start += copied
