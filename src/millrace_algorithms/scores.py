"""Measure predictions against labels."""

import numpy as np

from millrace_algorithms.tables import FloatVector

__all__ = ["accuracy", "macro_f1", "mean_squared_error"]


def accuracy(labels: FloatVector, predicted: FloatVector) -> float:
    """Return the share of rows predicted right."""
    return float(np.mean(labels == predicted))


def macro_f1(labels: FloatVector, predicted: FloatVector) -> float:
    """Return the mean over classes of the harmonic mean of precision and recall.

    Every class that occurs among the labels or the predictions counts alike; one that is never predicted right has 0.
    """
    classes, codes = np.unique(np.concatenate([labels, predicted]), return_inverse=True)
    true, guessed = codes[: len(labels)], codes[len(labels) :]
    hits = np.bincount(true[true == guessed], minlength=len(classes))
    total = np.bincount(true, minlength=len(classes)) + np.bincount(guessed, minlength=len(classes))
    return float(np.mean(2 * hits / total))


def mean_squared_error(labels: FloatVector, predicted: FloatVector) -> float:
    """Return the mean squared difference."""
    return float(np.mean(np.square(labels.astype(np.float64) - predicted)))
