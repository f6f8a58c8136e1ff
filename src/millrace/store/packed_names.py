"""Hold very many names in little memory, sorted."""

import heapq
from array import array
from collections.abc import Sequence
from typing import overload

__all__ = ["PackedNames"]


class PackedNames(Sequence[bytes]):
    """Names one behind the other as they came, where each ends, and their order: 12 bytes a name on top of its own.

    As objects of the interpreter's they take 41. Pieces are sorted one by one when they are added, and merged once all
    are there; so no more than a piece is ever held as objects.
    """

    __slots__ = ("_ends", "_order", "_pieces", "_text")

    def __init__(self) -> None:
        self._text = bytearray()
        self._ends = array("Q")
        self._pieces: list[array[int]] = []
        self._order = array("I")

    def add(self, names: Sequence[bytes]) -> None:
        """Add a piece, in any order."""
        first, end = len(self._ends), len(self._text)
        self._text += b"".join(names)
        for name in names:
            end += len(name)
            self._ends.append(end)
        numbers = sorted(range(len(names)), key=names.__getitem__)
        self._pieces.append(array("I", (first + number for number in numbers)))

    def sort(self) -> None:
        """Have the names in order; none is added any more."""
        self._order = array("I", heapq.merge(*self._pieces, key=self._name))
        self._pieces.clear()

    def _name(self, number: int) -> bytes:
        return bytes(self._text[self._ends[number - 1] if number else 0 : self._ends[number]])

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, index: int) -> bytes: ...

    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...

    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        if isinstance(index, slice):
            return [self._name(number) for number in self._order[index]]
        return self._name(self._order[index])
