"""Find where the records of an object begin that is read in ranges, by reading as little of it as can be."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import cast

from millrace.dataplane.record_scan import RecordScan, ScanEnded
from millrace.names import ObjectRef
from millrace.ports.objects import ObjectStore

__all__ = ["RecordStarts", "StartsKept", "next_line"]

SEEK_BYTES = 1024 * 1024
"""What a scan does not want to see is not read if it is longer than this, as the payload of a large record."""


async def next_line(objects: ObjectStore, ref: ObjectRef, near: int, *, size: int) -> int:
    """Return where the first line begins that does so at byte `near` of an object or behind; `size` if none does."""
    if not 0 < near < size:
        return near
    at = near - 1  # a line feed there makes `near` the beginning of a line
    stream = objects.read(ref, start=at, length=size - at)
    async with aclosing(cast("AsyncGenerator[bytes, None]", stream)) as chunks:
        async for chunk in chunks:
            found = chunk.find(b"\n")
            if found >= 0:
                return at + found + 1
            at += len(chunk)
    return size


class RecordStarts:
    """Says where records of one object begin, that of `size` bytes.

    Without a scan to be made, a record begins behind any line feed. With one, the object is read from its beginning on:
    about once in all, as long as what is asked for grows.
    """

    def __init__(
        self, objects: ObjectStore, ref: ObjectRef, size: int, make_scan: Callable[[], RecordScan] | None
    ) -> None:
        self._objects = objects
        self._ref = ref
        self._size = size
        self._make_scan = make_scan
        self._scan: RecordScan | None = None
        self._asked = 0
        self._found = 0
        self._turns = asyncio.Lock()

    async def find(self, near: int) -> int:
        """Return where the first record begins that does so at byte `near` or behind it; the size if none does.

        None does behind a record that is damaged: whoever reads that one finds so.
        """
        if not 0 < near < self._size:
            return near
        if self._make_scan is None:
            return await next_line(self._objects, self._ref, near, size=self._size)
        async with self._turns:
            if self._scan is None or near < self._asked:
                self._scan, self._asked, self._found = self._make_scan(), 0, 0
            if near > self._found:
                self._found = await self._go_on(self._scan, near)
            self._asked = near
            return self._found

    async def _go_on(self, scan: RecordScan, near: int) -> int:
        try:
            while scan.next < self._size:
                found = await self._read_on(scan, near)
                if found is not None:
                    return min(found, self._size)
        except ScanEnded:
            pass
        return self._size

    async def _read_on(self, scan: RecordScan, near: int) -> int | None:
        """Read until the record is found (None: it is not known yet), or until much may be left out."""
        base, rest = scan.next, b""
        stream = self._objects.read(self._ref, start=base, length=self._size - base)
        async with aclosing(cast("AsyncGenerator[bytes, None]", stream)) as chunks:
            async for chunk in chunks:
                data = rest + chunk if rest else chunk
                found = scan.find(data, base, near)
                if found is not None:
                    return found
                end = base + len(data)
                if scan.next > end + SEEK_BYTES:
                    return None
                base = min(scan.next, end)
                rest = data[len(data) - (end - base) :]
        return self._size


class StartsKept:
    """Keeps what is known of the object whose ranges are read one after the other."""

    def __init__(self, objects: ObjectStore, make_scan: Callable[[], RecordScan] | None) -> None:
        self._objects = objects
        self._make_scan = make_scan
        self._kept: tuple[ObjectRef, str, RecordStarts] | None = None

    def of(self, ref: ObjectRef, version: str, size: int) -> RecordStarts:
        """Return what says where the records of a version of an object begin."""
        if self._kept is None or self._kept[:2] != (ref, version):
            self._kept = ref, version, RecordStarts(self._objects, ref, size, self._make_scan)
        return self._kept[2]
