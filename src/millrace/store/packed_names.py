"""Hold very many sorted names in little memory."""

import heapq
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import overload

__all__ = ["PackedNames", "merged"]

PACKED_AT_A_TIME = 4096
"""Names that are objects of the interpreter's while others are packed."""


class PackedNames(Sequence[bytes]):
    """Names one behind the other, and where each ends: 8 bytes a name instead of 41, on top of its own."""

    __slots__ = ("_ends", "_text")

    def __init__(self, names: Iterable[bytes]) -> None:
        self._text = bytearray()
        self._ends = array("Q")
        rest = iter(names)
        while some := list(islice(rest, PACKED_AT_A_TIME)):
            end = len(self._text)
            self._text += b"".join(some)
            for name in some:
                end += len(name)
                self._ends.append(end)

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> bytes: ...

    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...

    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if not 0 <= index < len(self._ends):
            raise IndexError(index)
        return bytes(self._text[self._ends[index - 1] if index else 0 : self._ends[index]])

    def __iter__(self) -> Iterator[bytes]:
        start = 0
        for first in range(0, len(self._ends), PACKED_AT_A_TIME):
            ends = self._ends[first : first + PACKED_AT_A_TIME]
            text, begin = bytes(self._text[start : ends[-1]]), start
            for end in ends:
                yield text[start - begin : end - begin]
                start = end


def merged(pieces: Sequence[Iterable[bytes]]) -> PackedNames:
    """Return the names of sorted pieces as one."""
    return PackedNames(heapq.merge(*pieces))
