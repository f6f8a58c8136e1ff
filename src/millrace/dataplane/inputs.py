"""Hand out the objects that an instance transforms, which may be listed while the first of them are in work.

Theory. The listing runs ahead at its own speed, so that soon everybody knows how much there is to do. What it finds
before it is wanted waits in memory, and beyond a bound in a file without a name, which no crash can leave behind.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from millrace.dataplane.input_file import BLOCK_OBJECTS, InputFile
from millrace.dataplane.input_lines import decode_inputs, encode_inputs
from millrace.dataplane.nameless_file import NamelessFile
from millrace.dataplane.plan import InputObject, count_objects
from millrace.names import ObjectRef

__all__ = ["InputStream", "Inputs", "KeptInputs", "KnownInputs", "ListedInputs"]

KEPT_OBJECTS = 10_000
"""Objects that are listed and not taken are held in memory up to this number: 7 MB with keys of 100 bytes."""


class KnownInputs(Protocol):
    """Objects that were listed before the work begins: to be gone over as often as wanted."""

    @property
    def ranges(self) -> Mapping[ObjectRef, int]:
        """How many ranges there are of each object that is cut, by its output."""
        ...

    def __iter__(self) -> Iterator[InputObject]:
        """Yield them in key order; of many it takes seconds."""
        ...


class Inputs(Protocol):
    """The objects of an instance, in key order; to be entered before they are taken."""

    @property
    def known(self) -> KnownInputs | None:
        """All of them, if they were listed before; else they are the whole input of the job, and none is a range."""
        ...

    @property
    def first(self) -> InputObject | None:
        """The first of them, if it is known."""
        ...

    @property
    def objects(self) -> int:
        """How many there are, as far as is known."""
        ...

    @property
    def size(self) -> int:
        """Their bytes as stored, as far as is known."""
        ...

    @property
    def is_complete(self) -> bool:
        """Whether all are listed."""
        ...

    async def has_any(self) -> bool:
        """Return whether there is an object, once that is known; raises what the listing did."""
        ...

    async def take(self) -> Sequence[InputObject]:
        """Return the next objects, once there are some; nothing if all were taken. Raises what the listing did."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class ListedInputs:
    """A few objects, or ranges of them, that are all known."""

    def __init__(self, entries: Sequence[InputObject]) -> None:
        self._entries = entries
        self.objects = count_objects(entries)
        self.size = sum(entry.size for entry in entries)
        self.is_complete = True
        self._taken = False

    @property
    def known(self) -> KnownInputs:
        """They themselves."""
        return self

    @property
    def ranges(self) -> Mapping[ObjectRef, int]:
        """How many ranges there are of each object that is cut, by its output."""
        return Counter(entry.output for entry in self._entries if entry.range is not None)

    def __iter__(self) -> Iterator[InputObject]:
        return iter(self._entries)

    @property
    def first(self) -> InputObject | None:
        """The first of them."""
        return self._entries[0] if self._entries else None

    async def has_any(self) -> bool:
        """Return whether there is an object."""
        return bool(self._entries)

    async def take(self) -> Sequence[InputObject]:
        """Return all objects, and nothing the next time."""
        taken, self._taken = self._taken, True
        return () if taken else self._entries

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do nothing."""


class KeptInputs:
    """Objects, or ranges of them, that are all known and kept in a file, which is closed when it is left."""

    def __init__(self, file: InputFile) -> None:
        self.known = file
        self.first = file.first
        self.objects = file.objects
        self.size = file.size
        self.is_complete = True
        self._blocks = file.blocks()

    async def has_any(self) -> bool:
        """Return whether there is an object."""
        return self.first is not None

    async def take(self) -> Sequence[InputObject]:
        """Return the next objects."""
        return decode_inputs(next(self._blocks, b""))

    async def __aenter__(self) -> Self:
        if self.known.is_cut:
            try:
                await asyncio.to_thread(getattr, self.known, "ranges")  # of a million it takes a second to count them
            except BaseException:
                self.known.close()
                raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Forget the objects."""
        self.known.close()


class InputStream:
    """Objects that are listed from when it is entered on, page by page.

    At most `kept_objects` wait in memory, or a page. The others do in a file in `folder`, which is made if needed.
    """

    known: KnownInputs | None = None

    def __init__(
        self, pages: AsyncIterator[Sequence[InputObject]], *, folder: Path, kept_objects: int = KEPT_OBJECTS
    ) -> None:
        self._pages = pages
        self._most = kept_objects
        self._kept: deque[Sequence[InputObject]] = deque()
        self._kept_count = 0
        self._file = _ObjectFile(folder)
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.first: InputObject | None = None
        self.objects = 0
        self.size = 0
        self.is_complete = False

    async def has_any(self) -> bool:
        """Return whether there is an object, once that is known."""
        while self.first is None and not self._is_over():
            await self._wait()
        return self.first is not None

    async def take(self) -> Sequence[InputObject]:
        """Return the next objects, once there are some."""
        while not self._kept and not self._file.blocks and not self._is_over():
            await self._wait()
        if self._kept:
            entries = self._kept.popleft()
            self._kept_count -= len(entries)
            return entries
        return self._file.take() if self._file.blocks else ()

    def _is_over(self) -> bool:
        """Return whether nothing more comes; raises what the listing did."""
        assert self._task is not None, "it was entered"
        if not self._task.done():
            return False
        self._task.result()
        return True

    async def _wait(self) -> None:
        self._news.clear()
        await self._news.wait()

    async def _list(self) -> None:
        async for page in self._pages:
            if page:
                self._add(page)
                self._news.set()
        self.is_complete = True

    def _add(self, page: Sequence[InputObject]) -> None:
        if self.first is None:
            self.first = page[0]
        self.objects += len(page)
        self.size += sum(entry.size for entry in page)
        if not self._file.blocks and (not self._kept or self._kept_count + len(page) <= self._most):
            self._kept.append(page)
            self._kept_count += len(page)
            return
        for start in range(0, len(page), BLOCK_OBJECTS):
            self._file.add(page[start : start + BLOCK_OBJECTS])

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._list())
        self._task.add_done_callback(lambda _: self._news.set())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the listing, and forget what nobody took."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._file.close()


class _ObjectFile:
    """Blocks of objects, first in, first out."""

    def __init__(self, folder: Path) -> None:
        self._file = NamelessFile(folder)
        self._start = 0
        self.blocks: deque[int] = deque()
        """Bytes of each block that was not taken."""

    def add(self, entries: Sequence[InputObject]) -> None:
        """Append a block; raises OSError."""
        text = encode_inputs(entries)
        self._file.append(text)
        self.blocks.append(len(text))

    def take(self) -> Sequence[InputObject]:
        """Return the next block; once all are taken, the file begins anew."""
        length = self.blocks.popleft()
        entries = decode_inputs(self._file.read(self._start, length))
        self._start += length
        if not self.blocks:
            self._start = 0
            self._file.begin_anew()
        return entries

    def close(self) -> None:
        """Drop the file."""
        self._file.close()
