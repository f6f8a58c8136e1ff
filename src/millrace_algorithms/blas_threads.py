"""Choose how many threads the linear algebra may use, which must be done before numpy is loaded.

Small matrices don't gain from threads and lose much when other jobs keep the cores busy, because the threads wait for
each other spinning: training PCA on 100 000 x 100 took 0.3 s with one thread, 0.7 to 2.1 s with two on a busy machine
of two cores. So threads are left to the library only where a single product is large.
"""

from collections.abc import Mapping, MutableMapping
from typing import Any

__all__ = ["limit_threads_of_serving", "limit_threads_of_training"]

THREADED_FEATURE_DIM = 1024
"""From this many features on, training uses as many threads as the library likes."""


def limit_threads_of_training(environ: MutableMapping[str, str], hyperparameters: Mapping[str, Any]) -> None:
    """Set what the job's Environment does not set; faiss's own threads (OMP_NUM_THREADS) are left alone."""
    feature_dim = str(hyperparameters.get("feature_dim", ""))
    if not (feature_dim.isdigit() and int(feature_dim) >= THREADED_FEATURE_DIM):
        environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def limit_threads_of_serving(environ: MutableMapping[str, str]) -> None:
    """Serving uses cores by processes; threads of the libraries would not survive the fork and only compete."""
    environ.setdefault("OMP_NUM_THREADS", "1")
    environ.setdefault("OPENBLAS_NUM_THREADS", "1")
