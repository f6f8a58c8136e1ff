"""Files that grow past the page cache hold what was appended."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.names import ObjectRef
from millrace.store.filesystem import FilesystemObjects
from millrace.store.large_file import LargeFile
from millrace.store.page_cache import is_cached

MIB = 1024 * 1024


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Open a new file for writing while the block runs."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder on the disk of the tests."""
    return tmp_path_factory.mktemp("large")


@given(sizes=st.lists(st.integers(0, 3 * MIB), max_size=5), cached=st.sampled_from([0, MIB, 4 * MIB]))
def test_a_file_holds_what_was_appended(folder: Path, sizes: list[int], cached: int) -> None:
    """However the bytes come, and wherever the cache ends, the file has all of them in order."""
    text = bytes(range(251)) * (sum(sizes) // 251 + 1)
    with opened(folder / "file") as descriptor:
        file = LargeFile(descriptor, cached_bytes=cached)
        start = 0
        for size in sizes:
            file.append(memoryview(text)[start : start + size])
            start += size
        file.finish()
    assert (folder / "file").read_bytes() == text[:start]


@given(
    sizes=st.lists(st.integers(0, 12_000), max_size=12),
    cached=st.integers(0, 3),
    ends=st.lists(st.integers(0, 40_000), max_size=4),
)
def test_a_file_is_gone_on_with_anywhere(folder: Path, sizes: list[int], cached: int, ends: list[int]) -> None:
    """Wherever it was cut, within a block or not, what follows is appended there; a flush has all in the file."""
    text = bytes(range(251)) * 700
    with opened(folder / "on") as descriptor:
        at = 0
        for end in [*ends, None]:
            file = LargeFile(descriptor, cached_bytes=cached * 4096, at=at, block_bytes=4096)
            for size in sizes:
                file.append(memoryview(text)[at : at + size])
                at = min(len(text), at + size)
                if size % 2:
                    file.flush()
                    assert os.fstat(descriptor).st_size == at
            if end is None:
                file.finish()
                break
            file.flush()
            file.forget()
            at = min(at, end)
            os.ftruncate(descriptor, at)
    assert (folder / "on").read_bytes() == text[:at]


def test_what_is_in_the_file_is_not_written_again(folder: Path) -> None:
    """Neither what was flushed, nor what was read back, until the block is full."""
    with opened(folder / "flushed") as descriptor:
        file = LargeFile(descriptor, cached_bytes=0, block_bytes=4096)
        file.append(memoryview(b"abc"))
        file.flush()
        os.pwrite(descriptor, b"X", 0)
        file.append(memoryview(b"def"))
        file.flush()
        assert os.pread(descriptor, 10, 0) == b"Xbcdef"
        file = LargeFile(descriptor, cached_bytes=0, at=6, block_bytes=4096)
        os.pwrite(descriptor, b"Y", 1)
        file.append(memoryview(b"ghi"))
        file.finish()
        assert os.pread(descriptor, 10, 0) == b"XYcdefghi"


def test_a_file_that_was_cut_meanwhile_is_not_gone_on_with(folder: Path) -> None:
    """It has not the bytes that its block began with."""
    with opened(folder / "cut") as descriptor, pytest.raises(OSError, match="cut to fewer than 5000 bytes"):
        LargeFile(descriptor, cached_bytes=0, at=5000, block_bytes=4096)


def test_a_file_system_in_memory_is_written_as_usual() -> None:
    """Where nothing can be written past the cache, all bytes are written through it."""
    text = os.urandom(2 * MIB + 5)
    with closing(os.fdopen(os.memfd_create("large"), "r+b")) as memory:
        file = LargeFile(memory.fileno(), cached_bytes=0)
        file.append(memoryview(text))
        file.finish()
        memory.seek(0)
        assert memory.read() == text


def test_an_abandoned_file_writes_nothing_more(folder: Path) -> None:
    """What was held back is dropped with the block; dropping it twice is harmless."""
    with opened(folder / "abandoned") as descriptor:
        file = LargeFile(descriptor, cached_bytes=0)
        file.append(memoryview(b"held back"))
        assert file.held == 9
        file.forget()
        file.forget()
        file.finish()
    assert (folder / "abandoned").read_bytes() == b""


@pytest.mark.parametrize("cached_output_bytes", [0, MIB, 64 * MIB])
async def test_a_large_output_is_stored_whole(tmp_path: Path, cached_output_bytes: int) -> None:
    """A job's output is the same object whether it passed through the page cache or not."""
    text = os.urandom(3 * MIB + 7)
    objects = FilesystemObjects(tmp_path, cached_output_bytes=cached_output_bytes)
    await objects.create_bucket("shop", region="us-east-1", owner="000000000000")
    writer = await objects.open_writer(ObjectRef("shop", "out"))
    for start in range(0, len(text), 300_000):
        await writer.write(text[start : start + 300_000])
    info = await writer.commit()
    assert info.size == len(text)
    assert (tmp_path / "shop" / "out").read_bytes() == text


def test_cached_bytes_end_at_a_block() -> None:
    """What is written past the cache starts at a whole block of the file."""
    with pytest.raises(ValueError, match="cached_bytes must be a multiple of 1048576, got 5"):
        LargeFile(0, cached_bytes=5)


def test_what_was_just_written_can_be_read_without_waiting(folder: Path) -> None:
    """A range in the page cache is told as such; a range behind the end of the file is not."""
    with opened(folder / "cached") as descriptor:
        os.write(descriptor, b"x" * 10)
        assert is_cached(descriptor, 0, 10)
        assert not is_cached(descriptor, 10, 5)
