"""Take choices from the end of a fuzzer's bytes, so that what is left in front is the input as the fuzzer wrote it."""

from collections.abc import Sequence
from typing import TypeVar

__all__ = ["Source"]

Choice = TypeVar("Choice")


class Source:
    """The bytes of one run of a target."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def number(self, most: int) -> int:
        """Return a number from 0 to `most` (below 65,536)."""
        size = 1 if most < 256 else 2
        taken, self._data = self._data[-size:], self._data[:-size]
        return int.from_bytes(taken, "big") % (most + 1)

    def choice(self, choices: Sequence[Choice]) -> Choice:
        """Return one of several."""
        return choices[self.number(len(choices) - 1)]

    def rest(self) -> bytes:
        """Return what is left."""
        rest, self._data = self._data, b""
        return rest

    def parts(self, count: int) -> list[bytes]:
        """Return what is left, cut at its first zero bytes into as many parts, of which the last ones may be empty."""
        parts = self.rest().split(b"\0", count - 1)
        return parts + [b""] * (count - len(parts))

    def cuts(self) -> "Cuts":
        """Return a way to cut bytes into chunks."""
        return Cuts([self.number(40) for _ in range(4)])


class Cuts:
    """Sizes of chunks, one after the other and again from the first; a size of 0 is an empty chunk."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self._sizes = sizes if any(sizes) else [1]

    def apply(self, data: bytes) -> list[bytes]:
        """Return the chunks, which joined are the data."""
        chunks = []
        at = turn = 0
        while at < len(data):
            size = self._sizes[turn % len(self._sizes)]
            chunks.append(data[at : at + size])
            at += size
            turn += 1
        return chunks
