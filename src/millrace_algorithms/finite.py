"""Refuse numbers that float32, in which models are kept, holds as NaN or infinity.

Theory. No square exceeds the sum of all squares, and NaN and infinity never leave a sum. So one scalar product tells of
nearly all data that they fit. Only where it is too large, which sound but enormous numbers can cause as well, is each
number looked at.
"""

from collections.abc import Callable

import numpy as np

from millrace_algorithms.errors import NotFinite
from millrace_algorithms.tables import FloatMatrix, FloatVector, SparseRows, Table

__all__ = ["require_finite", "surely_fits"]

_LARGEST = float(np.finfo(np.float32).max)
_PART = 8192
"""Numbers multiplied at once: from 10,000 on OpenBLAS wakes its threads, which takes longer than the product."""


def surely_fits(numbers: FloatVector) -> bool:
    """Return whether all numbers are finite as float32; False only means that each has to be looked at."""
    with np.errstate(over="ignore", invalid="ignore"):
        parts = (numbers[start : start + _PART] for start in range(0, len(numbers), _PART))
        return sum(float(part.dot(part)) for part in parts) <= _LARGEST**2


def require_finite(table: Table, *, labels: bool) -> None:
    """Raise NotFinite for the first number of a table that float32 cannot hold.

    Args:
        table: Its `fits_float32` saves the look at the features.
        labels: Whether the labels are used; what is never used may be anything.
    """
    if not table.fits_float32:
        features = table.features
        if isinstance(features, SparseRows):
            _require(features.values, lambda place: _sparse_position(features, place), table)
        else:
            width = features.shape[1]
            _require(features, lambda place: (place // width, place % width), table)
    if labels and table.labels is not None:
        column = -table.first_column if table.first_column else None  # text has them first, records nowhere
        _require(table.labels, lambda place: (place, column), table)


def _require(
    numbers: FloatMatrix | FloatVector, position: Callable[[int], tuple[int, int | None]], table: Table
) -> None:
    flat: FloatVector = numbers.reshape(-1)
    if surely_fits(flat):
        return
    wrong = np.flatnonzero(~(np.abs(flat) <= _LARGEST))  # written so that NaN is wrong as well
    if wrong.size:
        place = int(wrong[0])
        row, column = position(place)
        raise NotFinite(
            value=float(flat[place]),
            row=table.first_row + row + 1,
            column=None if column is None else table.first_column + column + 1,
        )


def _sparse_position(rows: SparseRows, place: int) -> tuple[int, int]:
    return int(np.searchsorted(rows.offsets, place, side="right")) - 1, int(rows.keys[place])
