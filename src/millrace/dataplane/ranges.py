"""Cut a large object of lines into ranges, so that several instances share it.

Theory. Where ranges end nominally follows from the object's size alone: all instances know it without asking each
other, and it does not depend on how many of them there are. A record belongs to the range in which its first byte lies.
So a range begins with the first record at or behind its nominal start, and ends where the next one begins: to find
either takes one look behind the nominal place, up to the next line feed. Every record is in one range, whatever its
length; a range without the first byte of any record is empty.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

from millrace.names import ObjectRef
from millrace.ports.objects import ObjectStore

__all__ = ["MAX_RANGES", "InputRange", "cut", "record_start"]

MAX_RANGES = 1000
"""Most ranges of one object: they are longer where there would be more. Each is a file and an entry of the journal."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InputRange:
    """Range `index` of `count` of an object; `start` and `end` are nominal, its records begin at or behind them."""

    index: int
    count: int
    start: int
    end: int
    object_size: int


def cut(size: int, range_bytes: int) -> Sequence[InputRange]:
    """Return the ranges of an object, of about the same length, at most `range_bytes` unless they were too many.

    None at all if one would do.
    """
    count = min(-(-size // range_bytes), MAX_RANGES)
    if count < 2:
        return ()
    cuts = [size * index // count for index in range(count + 1)]
    return [
        InputRange(index=index, count=count, start=start, end=end, object_size=size)
        for index, (start, end) in enumerate(pairwise(cuts))
    ]


async def record_start(objects: ObjectStore, ref: ObjectRef, near: int, *, size: int) -> int:
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
