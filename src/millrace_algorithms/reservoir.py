"""Keep a uniform sample of rows from a stream of unknown length."""

import numpy as np
import numpy.typing as npt

from millrace_algorithms.tables import FloatMatrix, FloatVector

__all__ = ["Reservoir"]


class Reservoir:
    """Holds at most `size` rows with their labels, float32; all rows, in order, if there are no more.

    Source: J. S. Vitter, "Random Sampling with a Reservoir", ACM TOMS 1985, algorithm R, a table at a time.
    """

    def __init__(self, size: int, *, seed: int = 0) -> None:
        self._size = size
        self._random = np.random.default_rng(seed)
        self._filling: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]] = []
        self._full: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None = None
        self.seen = 0
        """Rows offered so far."""

    def add(self, features: FloatMatrix, labels: FloatVector) -> None:
        """Offer rows; they are copied."""
        room = max(0, self._size - self.seen)
        if room:
            self._filling.append((features[:room].astype(np.float32), labels[:room].astype(np.float32)))
        rest = len(features) - room
        if rest > 0:
            kept_features, kept_labels = self._full = self.sample()
            self._filling.clear()
            # Row number t (from 0) replaces a kept one with probability size / (t + 1).
            numbers = np.arange(self.seen + room, self.seen + len(features))
            places = self._random.integers(0, numbers + 1)
            chosen = np.flatnonzero(places < self._size)
            # A place drawn twice keeps the later row, as one step after the other would.
            kept_features[places[chosen]] = features[room:][chosen]
            kept_labels[places[chosen]] = labels[room:][chosen]
        self.seen += len(features)

    def sample(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return features of shape (rows, width) and labels of shape (rows,); raises ValueError before any row."""
        if self._full is not None:
            return self._full
        features, labels = zip(*self._filling, strict=True)
        return np.concatenate(features), np.concatenate(labels)
