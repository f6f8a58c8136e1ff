"""Batches are appended in order, one at a time, whoever writes and whatever fails."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from millrace.store.batched_append import BatchedAppend, Buffer


class Target:
    """Collects what is appended; each append takes a permit, which a test may hold back, and `error` makes it fail."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.batches = 0
        self.permits = threading.Semaphore(1000)
        self.error: Exception | None = None
        self.alone = threading.Lock()

    def append(self, batch: Sequence[Buffer]) -> None:
        assert self.alone.acquire(blocking=False), "one at a time"
        try:
            assert self.permits.acquire(timeout=60)
            if self.error is not None:
                raise self.error
            self.batches += 1
            self.data += b"".join(batch)
        finally:
            self.alone.release()


async def test_small_writes_are_gathered() -> None:
    """One append for many writes; the rest comes with the flush."""
    target = Target()
    batches = BatchedAppend(target.append, batch_bytes=100)
    for number in range(25):
        await batches.write(b"%010d" % number)
    assert await batches.flush(lambda: bytes(target.data), is_quick=True) == b"".join(b"%010d" % n for n in range(25))
    assert target.batches == 3


async def test_a_long_view_is_written_when_write_returns() -> None:
    """Its memory is used again by the caller; all before it comes first."""
    target = Target()
    batches = BatchedAppend(target.append, batch_bytes=100)
    buffer = bytearray(b"x" * 200)
    await batches.write(b"short,")
    await batches.write(memoryview(buffer))
    buffer[:] = b"y" * 200
    assert target.data == b"short," + b"x" * 200


async def test_a_short_view_is_copied() -> None:
    """Its memory is used again by the caller, too."""
    target = Target()
    batches = BatchedAppend(target.append, batch_bytes=1_000_000)
    buffer = bytearray(b"x" * 200_000)
    await batches.write(memoryview(buffer)[:10])
    await batches.write(memoryview(buffer))
    buffer[:] = b"y" * 200_000
    await batches.flush(lambda: None, is_quick=False)
    assert target.data == b"x" * 200_010


async def test_a_flush_comes_between_what_is_written_before_and_after() -> None:
    """Also while another task goes on writing."""
    target = Target()
    batches = BatchedAppend(target.append, batch_bytes=4)
    target.permits = threading.Semaphore(0)
    await batches.write(b"aaaa")
    flushing = asyncio.create_task(batches.flush(lambda: bytes(target.data), is_quick=False))
    writing = [asyncio.create_task(batches.write(text)) for text in (b"bbbb", memoryview(b"cccc"), b"d")]
    await asyncio.sleep(0)
    target.permits.release()
    while target.batches < 1:
        await asyncio.sleep(0)
    for _ in range(10):  # all who waited for the first batch have found that it is done
        await asyncio.sleep(0)
    target.permits.release(1000)
    flushed = await flushing
    await asyncio.gather(*writing)
    await batches.flush(lambda: None, is_quick=False)
    assert flushed.startswith(b"aaaa")
    assert sorted(bytes(target.data)) == sorted(b"aaaabbbbccccd")


async def test_an_error_is_told_from_then_on() -> None:
    """The batch is lost, so that nothing after it may be appended."""
    target = Target()
    target.error = OSError("disk full")
    batches = BatchedAppend(target.append, batch_bytes=4)
    await batches.write(b"aaaa")
    for late in (
        batches.write(b"bbbb"),
        batches.flush(lambda: None, is_quick=True),
        batches.write(memoryview(b"cccc")),
    ):
        with pytest.raises(OSError, match="disk full"):
            await late
    target.error = None
    with pytest.raises(OSError, match="disk full"):
        await batches.flush(lambda: None, is_quick=True)
    assert target.data == b""


async def test_no_thread_is_at_work_after_an_abandonment() -> None:
    """What was gathered is forgotten, an error too; a second time is harmless."""
    target = Target()
    target.error = OSError("disk full")
    batches = BatchedAppend(target.append, batch_bytes=4)
    target.permits = threading.Semaphore(0)
    await batches.write(b"aaaa")
    await batches.write(b"b")
    abandoning = asyncio.create_task(batches.abandon())
    await asyncio.sleep(0)
    assert not abandoning.done()
    target.permits.release(1000)
    await abandoning
    await batches.abandon()
    target.error = None
    await batches.flush(lambda: None, is_quick=True)
    assert target.data == b""
