"""Tests of objects that are listed while others are taken."""

import asyncio
import resource
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millrace.dataplane.input_file import BLOCK_OBJECTS
from millrace.dataplane.input_lines import encode_inputs
from millrace.dataplane.inputs import InputStream, ListedInputs
from millrace.dataplane.plan import InputObject
from millrace.names import ObjectRef


def numbered(count: int, start: int = 0) -> list[InputObject]:
    """Return objects whose keys are numbers."""
    return [
        InputObject(ref=ObjectRef("b", f"{n}"), size=n, output=ObjectRef("b", f"{n}.out"), version=f"v{n}")
        for n in range(start, start + count)
    ]


class Pages:
    """Pages that are listed as they are let go."""

    def __init__(self, pages: Sequence[Sequence[InputObject]], error: Exception | None = None) -> None:
        self._pages = pages
        self._error = error
        self.allowed = asyncio.Semaphore(0)
        self.listed = 0

    async def __aiter__(self) -> AsyncIterator[Sequence[InputObject]]:
        for page in self._pages:
            await self.allowed.acquire()
            self.listed += 1
            yield page
        if self._error is not None:
            raise self._error

    async def let_go(self, count: int) -> None:
        """Have so many more pages listed."""
        target = min(self.listed + count, len(self._pages))
        for _ in range(count):
            self.allowed.release()
        while self.listed < target:
            await asyncio.sleep(0)  # the listing is a task of this very loop


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.integers(0, 2 * BLOCK_OBJECTS), max_size=8),
    st.integers(0, 3 * BLOCK_OBJECTS),
    st.lists(st.integers(1, 3), max_size=20),
)
async def test_objects_come_in_order_wherever_they_waited(
    tmp_path: Path, sizes: list[int], kept: int, turns: list[int]
) -> None:
    """In memory or in the file, however listing and taking take turns."""
    pages, start = [], 0
    for size in sizes:
        pages.append(numbered(size, start))
        start += size
    listing = Pages(pages)
    found: list[InputObject] = []
    async with InputStream(aiter(listing), folder=tmp_path, kept_objects=kept) as inputs:
        for turn in turns:
            await listing.let_go(turn)
            if len(found) < inputs.objects:
                found += await inputs.take()
        await listing.let_go(len(sizes))
        while entries := await inputs.take():
            found += entries
        assert inputs.is_complete
        assert await inputs.has_any() == bool(start)
        assert inputs.first == (found[0] if found else None)
    assert found == numbered(start)
    assert list(tmp_path.iterdir()) == []


async def test_pages_without_an_object_of_the_input_are_no_end(tmp_path: Path) -> None:
    """A page may hold nothing but markers of folders."""
    listing = Pages([[], [], numbered(1), []])
    async with InputStream(aiter(listing), folder=tmp_path) as inputs:
        waiting = asyncio.create_task(inputs.has_any())
        await listing.let_go(2)
        assert not waiting.done()
        await listing.let_go(1)
        assert await waiting
        assert await inputs.take() == numbered(1)
        await listing.let_go(1)
        assert not await inputs.take()


async def test_what_was_found_is_given_before_the_error_of_the_listing(tmp_path: Path) -> None:
    """Its objects are right; whoever asks for more is told, as often as it asks."""
    listing = Pages([numbered(2)], OSError("the disk is gone"))
    async with InputStream(aiter(listing), folder=tmp_path) as inputs:
        await listing.let_go(1)
        assert await inputs.has_any()
        assert await inputs.take() == numbered(2)
        for _ in range(2):
            with pytest.raises(OSError, match="the disk is gone"):
                await inputs.take()
        assert not inputs.is_complete


async def test_an_error_before_the_first_object_is_told(tmp_path: Path) -> None:
    """To whoever asks whether there is any."""
    async with InputStream(aiter(Pages([], OSError("no listing"))), folder=tmp_path) as inputs:
        with pytest.raises(OSError, match="no listing"):
            await inputs.has_any()


async def test_a_listing_that_nobody_waits_for_is_ended(tmp_path: Path) -> None:
    """Whoever leaves needs not take everything, nor learn of errors."""
    listing = Pages([numbered(BLOCK_OBJECTS), numbered(3), numbered(5)])
    async with InputStream(aiter(listing), folder=tmp_path, kept_objects=1):
        await listing.let_go(2)
    await asyncio.sleep(0)
    assert listing.listed == 2
    async with InputStream(aiter(Pages([], OSError("never told"))), folder=tmp_path):
        pass


async def test_known_objects_are_taken_once() -> None:
    """All at a time."""
    async with ListedInputs(numbered(3)) as inputs:
        assert await inputs.take() == numbered(3)
        assert not await inputs.take()
    assert (inputs.objects, inputs.size, inputs.first) == (3, 3, numbered(1)[0])
    assert not await ListedInputs([]).has_any()


async def test_a_full_disk_is_told_to_whoever_wants_what_is_not_on_it(tmp_path: Path) -> None:
    """What was written before is given; whoever wants no more is not bothered."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    pages = [numbered(3, start) for start in range(0, 12, 3)]
    block = len(encode_inputs(pages[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * block, limits[1]))
    try:
        for wants_all in (True, False):
            listing = Pages(pages)
            async with InputStream(aiter(listing), folder=tmp_path, kept_objects=1) as inputs:
                await listing.let_go(4)
                await asyncio.sleep(0)
                if wants_all:
                    assert [await inputs.take() for _ in range(2)] == pages[:2]
                    with pytest.raises(OSError, match="File too large"):
                        while await inputs.take():
                            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
