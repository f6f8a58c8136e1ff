"""Principal components of rows that arrive in mini-batches, in one pass."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from millrace_algorithms.tables import FloatMatrix

__all__ = ["Accumulator", "Components", "RandomizedSketch", "RegularScatter"]

DoubleMatrix = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Components:
    """What was learned; the strongest component is the last one, as in SageMaker's models."""

    singular_values: npt.NDArray[np.float64]
    """Shape (num_components,), ascending; of the centred rows, so that s**2 / sum(s**2) is the share explained."""
    directions: DoubleMatrix
    """Shape (feature_dim, num_components); the entry of largest absolute value in each column is positive."""
    mean: npt.NDArray[np.float64]
    """Shape (feature_dim,); zero if it is not to be subtracted."""


class Accumulator(Protocol):
    """Takes each row once and holds no rows."""

    count: int
    """Rows taken so far."""

    def add(self, rows: FloatMatrix) -> None:
        """Take rows of shape (any, feature_dim)."""
        ...

    def components(self, num_components: int) -> Components:
        """Return the strongest components of all rows taken."""
        ...


class RegularScatter:
    """The exact answer: sums the scatter matrix and takes its eigenvectors. Memory: feature_dim**2 doubles, twice.

    The rows are shifted by the mean of the first mini-batch before they are summed: the scatter around the mean is the
    same, but what cancels in `sum(x x') - sum(x) sum(x)' / n` is smaller by the square of that mean.
    """

    def __init__(self, feature_dim: int, *, subtract_mean: bool) -> None:
        self.count = 0
        self._subtract_mean = subtract_mean
        self._shift = np.zeros(feature_dim)
        self._sum = np.zeros(feature_dim)
        self._scatter = np.zeros((feature_dim, feature_dim))

    def add(self, rows: FloatMatrix) -> None:
        if not len(rows):
            return
        if self._subtract_mean and not self.count:
            self._shift = rows.mean(axis=0, dtype=np.float64)
        shifted = rows - self._shift
        self._sum += shifted.sum(axis=0)
        self._scatter += shifted.T @ shifted
        self.count += len(rows)

    def components(self, num_components: int) -> Components:
        scatter = self._scatter
        mean = np.zeros_like(self._sum)
        if self._subtract_mean:
            scatter = scatter - np.outer(self._sum, self._sum / self.count)
            mean = self._shift + self._sum / self.count
        eigenvalues, eigenvectors = np.linalg.eigh(scatter)
        return Components(
            singular_values=np.sqrt(np.clip(eigenvalues[-num_components:], 0, None)),
            directions=_with_fixed_signs(eigenvectors[:, -num_components:]),
            mean=mean,
        )


class RandomizedSketch:
    """An approximation for very many features: keeps random sums of the rows, num_components + extra of them.

    Source: SageMaker's guide, "How PCA works", randomized mode: for each mini-batch X draw a random sign matrix H,
    accumulate HX, H1 and the sum of the rows; the right singular vectors of HX - (1/n) H1 sum' are the answer.
    """

    def __init__(self, feature_dim: int, sketch_rows: int, *, subtract_mean: bool, seed: int = 0) -> None:
        self.count = 0
        self._subtract_mean = subtract_mean
        self._random = np.random.default_rng(seed)
        self._sketch = np.zeros((sketch_rows, feature_dim))
        self._sketch_of_ones = np.zeros(sketch_rows)
        self._sum = np.zeros(feature_dim)

    def add(self, rows: FloatMatrix) -> None:
        signs = self._random.integers(0, 2, (len(self._sketch), len(rows))).astype(np.float64) * 2 - 1
        self._sketch += signs @ rows
        self._sketch_of_ones += signs.sum(axis=1)
        self._sum += rows.sum(axis=0, dtype=np.float64)
        self.count += len(rows)

    def components(self, num_components: int) -> Components:
        sketch = self._sketch
        mean = np.zeros_like(self._sum)
        if self._subtract_mean:
            mean = self._sum / self.count
            sketch = sketch - np.outer(self._sketch_of_ones, mean)
        _, singular_values, right = np.linalg.svd(sketch, full_matrices=False)
        # A sum of n rows with random signs has n times a row's energy in each of the sketch's rows: divided by their
        # number, the values are on the scale of the exact mode's.
        scaled = singular_values[:num_components] / np.sqrt(len(sketch))
        return Components(
            singular_values=scaled[::-1].copy(),
            directions=_with_fixed_signs(right[:num_components][::-1].T),
            mean=mean,
        )


def _with_fixed_signs(directions: DoubleMatrix) -> DoubleMatrix:
    """Return the columns, each with its largest absolute entry positive, so that runs repeat."""
    largest = directions[np.abs(directions).argmax(axis=0), np.arange(directions.shape[1])]
    return directions * np.where(largest < 0, -1.0, 1.0)
