"""Keep the objects of an instance, or of a whole job, in a file: any number of them, to be read as often as wanted.

Theory. As objects of the interpreter's they take 430 bytes each, and a job may have a million. As lines in a file they
take no memory to speak of, and as they are taken in order, nobody misses them there.
"""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

from millrace.dataplane.input_lines import count_ranges, decode_inputs, encode_inputs, line_totals
from millrace.dataplane.nameless_file import NamelessFile
from millrace.dataplane.plan import InputObject
from millrace.names import ObjectRef

__all__ = ["BLOCK_OBJECTS", "InputFile"]

BLOCK_OBJECTS = 250
"""Objects that are written to a file, and read from it, at a time: less than a millisecond."""


class InputFile:
    """Objects, or ranges of them, in the order in which they were added; all are added before any is read.

    Fewer than a block are in no file. It is to be closed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = NamelessFile(folder)
        self._lengths = array("L")
        """Bytes of each block."""
        self._last: list[bytes] = []
        """Lines that are no whole block."""
        self.first: InputObject | None = None
        self.objects = 0
        """How many objects there are; one that is cut counts where its first range is."""
        self.size = 0
        """Their bytes as stored."""
        self.is_cut = False
        """Whether there are ranges of objects among them."""

    def add(self, inputs: Sequence[InputObject]) -> None:
        """Append objects; raises OSError."""
        self.add_lines(encode_inputs(inputs).splitlines(keepends=True))

    def add_lines(self, lines: Sequence[bytes]) -> None:
        """Append objects that were put into lines; raises OSError."""
        if not lines:
            return
        if self.first is None:
            self.first = decode_inputs(lines[0])[0]
        totals = line_totals(lines)
        self.objects += totals.objects
        self.size += totals.size
        self.is_cut = self.is_cut or totals.is_cut
        self._last += lines
        whole = len(self._last) - len(self._last) % BLOCK_OBJECTS
        for start in range(0, whole, BLOCK_OBJECTS):
            block = b"".join(self._last[start : start + BLOCK_OBJECTS])
            self._file.append(block)
            self._lengths.append(len(block))
        del self._last[:whole]

    def blocks(self) -> Iterator[bytes]:
        """Yield the lines of all objects, some at a time."""
        start = 0
        for length in self._lengths:
            yield self._file.read(start, length)
            start += length
        if self._last:
            yield b"".join(self._last)

    @cached_property
    def ranges(self) -> Mapping[ObjectRef, int]:
        """How many ranges there are of each object that is cut, by its output; found when first asked for."""
        if not self.is_cut:
            return {}
        return count_ranges(line for block in self.blocks() for line in block.splitlines())

    def __iter__(self) -> Iterator[InputObject]:
        for block in self.blocks():
            yield from decode_inputs(block)

    def another(self) -> "InputFile":
        """Return an empty one in the same folder."""
        return InputFile(self._folder)

    def close(self) -> None:
        """Forget the objects."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
