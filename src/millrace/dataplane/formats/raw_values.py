"""Make arrays and scalars out of the bytes that they have in memory.

Made from values of Python they would cost an import of pandas, wherever that is installed: pyarrow has to know whether
the values are pandas' own. That takes 30 MB and a tenth of a second, in each process that reads a table.
"""

from array import array
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["BYTES", "NO_BYTES", "byte_scalar", "byte_values", "list_edges", "truth_values"]

BYTES = pa.binary()

NO_BYTES = pa.nulls(1, BYTES)[0]
"""The null among bytes."""

_ZEROS = pa.Array.from_buffers(pa.int64(), 1, [None, pa.py_buffer(bytes(8))])


def byte_values(values: Sequence[bytes], *, like: Any = None) -> Any:
    """Return an array of bytes; of an array `like` of the same length it takes over which values are null.

    Raises:
        OverflowError: The values have more bytes than an array can hold.
    """
    ends = array("i", accumulate(map(len, values), initial=0))
    found = pa.Array.from_buffers(BYTES, len(values), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(values))])
    return pc.if_else(like.is_valid(), found, NO_BYTES) if like is not None and like.null_count else found


def byte_scalar(value: bytes) -> Any:
    """Return one value of bytes."""
    return byte_values([value])[0]


def truth_values(values: Sequence[bool]) -> Any:
    """Return an array of truth values."""
    return pa.Array.from_buffers(pa.uint8(), len(values), [None, pa.py_buffer(bytes(values))]).cast(pa.bool_())


def list_edges(lists: Any) -> Any:
    """Return where lists begin among all their values, and behind it where the last one ends."""
    lengths = pc.fill_null(pc.list_value_length(lists).cast(pa.int64()), _ZEROS[0])
    return pa.concat_arrays([_ZEROS, pc.cumulative_sum(lengths)]).cast(pa.int32())
