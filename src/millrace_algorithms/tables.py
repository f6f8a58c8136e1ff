"""Rows of numbers with their labels, dense or sparse."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace_algorithms.errors import BadRowWidth, MalformedText

__all__ = ["FloatMatrix", "FloatVector", "SparseRows", "Table", "rebatch"]

FloatMatrix = npt.NDArray[np.floating[Any]]
"""float32 or float64 of two dimensions."""
FloatVector = npt.NDArray[np.floating[Any]]
"""float32 or float64 of one dimension."""
IntVector = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class SparseRows:
    """Compressed sparse rows: row i holds `values[offsets[i]:offsets[i + 1]]` at columns `keys[...]`."""

    offsets: IntVector
    keys: IntVector
    values: FloatVector
    width: int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def dense(self) -> FloatMatrix:
        """Return the rows as a matrix; a key given twice in a row counts by its last value."""
        matrix: FloatMatrix = np.zeros((len(self), self.width), self.values.dtype)
        matrix[np.repeat(np.arange(len(self)), np.diff(self.offsets)), self.keys] = self.values
        return matrix


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Some consecutive rows of a channel or a payload."""

    features: FloatMatrix | SparseRows
    labels: FloatVector | None = None
    """Shape (rows,), or None if the rows have none."""
    first_row: int = 0
    """Rows before this table in its source, for messages."""
    first_column: int = 0
    """Columns before the features in its source, for messages."""
    fits_float32: bool = False
    """Whether the features are known to be finite as float32, so that nobody need look again."""

    def __len__(self) -> int:
        return len(self.features)

    @property
    def width(self) -> int:
        return self.features.width if isinstance(self.features, SparseRows) else int(self.features.shape[1])

    def dense(self, width: int | None = None) -> FloatMatrix:
        """Return the features as a matrix of `width` columns; raises BadRowWidth if they have another width."""
        if width is not None and self.width != width:
            raise BadRowWidth(row=self.first_row + 1, expected=width, got=self.width)
        return self.features.dense() if isinstance(self.features, SparseRows) else self.features

    def label_column(self) -> FloatVector:
        """Return the labels; raises MalformedText if there are none."""
        if self.labels is None:
            raise MalformedText(f"row {self.first_row + 1} has no label")
        return self.labels


def rebatch(matrices: Iterable[FloatMatrix], size: int) -> Iterator[FloatMatrix]:
    """Yield the same rows in mini-batches of `size`, the last one shorter."""
    pending: list[FloatMatrix] = []
    rows = 0
    for matrix in matrices:
        start = 0
        while rows + len(matrix) - start >= size:
            stop = start + size - rows
            pending.append(matrix[start:stop])
            yield pending[0] if len(pending) == 1 else np.concatenate(pending)
            pending, rows, start = [], 0, stop
        if start < len(matrix):
            pending.append(matrix[start:])
            rows += len(matrix) - start
    if pending:
        yield np.concatenate(pending)
