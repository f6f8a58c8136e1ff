"""Turn the labels of neighbours into a prediction."""

import numpy as np
import numpy.typing as npt

from millrace_algorithms.tables import FloatVector

__all__ = ["mean", "vote"]

_COUNTERS = 4_000_000
"""Vote counters held at once: rows times classes."""


def vote(neighbours: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the most frequent label of each row; a tie goes to the smallest.

    Args:
        neighbours: Labels of shape (rows, k); NaN where an index found fewer than k. A row of NaN gives NaN.
    """
    classes, flat = np.unique(neighbours[~np.isnan(neighbours)], return_inverse=True)
    if not len(classes):
        return np.full(len(neighbours), np.nan, np.float32)
    # One more class, the last, counts the missing.
    indices = np.full(neighbours.shape, len(classes), np.int64)
    indices[~np.isnan(neighbours)] = flat
    winners = np.empty(len(neighbours), np.float32)
    step = max(1, _COUNTERS // (len(classes) + 1))
    for start in range(0, len(neighbours), step):
        block = indices[start : start + step]
        offsets = np.arange(len(block))[:, None] * (len(classes) + 1)
        counts = np.bincount((block + offsets).ravel(), minlength=len(block) * (len(classes) + 1))
        votes = counts.reshape(len(block), -1)[:, :-1]
        winners[start : start + step] = np.where(votes.any(axis=1), classes[votes.argmax(axis=1)], np.nan)
    return winners


def mean(neighbours: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the mean label of each row, missing ones left out; a row of NaN gives NaN."""
    found = ~np.isnan(neighbours)
    total = np.where(found, neighbours, 0).sum(axis=1, dtype=np.float64)
    counts = found.sum(axis=1)
    means: FloatVector = np.divide(total, counts, out=np.full(len(total), np.nan), where=counts > 0)
    return means.astype(np.float32)
