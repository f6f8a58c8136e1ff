"""Parse rows of comma-separated JSON numbers at compiled speed.

Theory. A compiled JSON parser reads one flat array of numbers faster than any CSV reader reads rows, but a flat array
forgets where rows end. So each row separator is replaced by a sentinel number between two commas: if every row has w
numbers, the array reshapes into rows of w + 1 whose last column is all sentinel, and only then, provided that no row
holds the sentinel itself. It is larger than float32 can hold, so one look at the numbers, which their reader wants
anyway, tells both that they fit and that none of them is the sentinel; only where they don't fit are they compared with
it. Text that holds the sentinel is left to the caller's slower reader, as is all that JSON does not take for a number.
So the result is either exact or None.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import simdjson

from millrace_algorithms.finite import surely_fits

__all__ = ["BLOCK_BYTES", "HEAD", "TAIL", "DelimitedParser", "split_at"]

BLOCK_BYTES = 256 * 1024
"""Text handed to the parser at once: text, tape and numbers stay near a core's cache (1 MB blocks took 1.3x), and there
are few blocks (half as many bytes took 1.06x)."""

_SENTINEL = b"-1.25e77"
_SENTINEL_VALUE = float(_SENTINEL)
_BETWEEN = b"," + _SENTINEL + b","

HEAD = b"["
"""What the parser wants before a block of rows."""
TAIL = b"," + _SENTINEL + b"]"
"""What the parser wants after a block of rows."""


class DelimitedParser:
    """Keeps one parser's buffers for many blocks; not for use by several threads at once."""

    def __init__(self) -> None:
        self._parser = simdjson.Parser()
        self.fits_float32 = False
        """Whether the numbers parsed last are known to be finite as float32: asked while the cache holds them."""

    def parse(self, framed: bytes, separator: bytes) -> npt.NDArray[np.float64] | None:
        """Return float64 of shape (rows, width), or None if the block needs a slower reader.

        Args:
            framed: Rows with `separator` between them, none at either end; not empty. They stand between HEAD and TAIL,
                so that whoever cuts them out of a stream copies them once.
            separator: What ends a row; neither HEAD nor TAIL holds it.
        """
        text = framed.replace(separator, _BETWEEN)
        if text.find(b"[", 1) >= 0:  # nested arrays would be flattened without a word
            return None
        try:
            array = self._parser.parse(text)
            if not isinstance(array, simdjson.Array):
                return None
            flat = np.frombuffer(array.as_buffer(of_type="d"), np.float64)
        except (ValueError, TypeError, RuntimeError):
            return None
        # How often the separator was replaced shows in the length; counting it took a tenth of the whole time.
        growth = len(_BETWEEN) - len(separator)
        rows = ((len(text) - len(framed)) // growth if growth else framed.count(separator)) + 1
        if flat.size % rows or flat.size == rows:
            return None
        table = flat.reshape(rows, -1)
        ends = table[:, -1]
        if not (ends == _SENTINEL_VALUE).all():
            return None
        ends[:] = 0
        self.fits_float32 = surely_fits(flat)
        if not self.fits_float32 and (flat == _SENTINEL_VALUE).any():
            return None
        return table[:, :-1]


def split_at(text: bytes, separator: bytes, block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """Yield the text in blocks of about `block_bytes` cut at separators, which are dropped at the cuts."""
    start = 0
    while True:
        cut = text.find(separator, start + block_bytes)
        if cut < 0:
            yield text[start:] if start else text
            return
        yield text[start:cut]
        start = cut + len(separator)
