"""Cut a large object into ranges, so that several instances share it. Pure.

Theory. Where ranges end nominally follows from the object's size alone: all instances know it without asking each
other, and it does not depend on how many of them there are. A record belongs to the range in which its first byte lies.
So a range begins with the first record at or behind its nominal start, and ends where the next one begins; where that
is, `record_starts` finds. Every record is in one range, whatever its length; a range without the first byte of any
record is empty. What is said of records holds for the row groups of a table, which are read as a whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["MAX_RANGES", "InputRange", "cut"]

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
