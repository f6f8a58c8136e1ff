"""What every peer computes: the projection of rows onto the components of a trained PCA."""

import json
from pathlib import Path

import numpy as np

__all__ = ["COMPONENTS", "load", "project"]

COMPONENTS = 10


def load(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Return directions of shape (columns, components) and the offset after the product."""
    model = json.loads(Path(path).read_text("utf-8"))
    return np.asarray(model["directions"]), np.asarray(model["offset"])


def project(rows: np.ndarray, directions: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Return float64 of shape (rows, components)."""
    projected: np.ndarray = rows @ directions - offset
    return projected
