"""Build a faiss index from a sample."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace_algorithms.errors import InputError

__all__ = ["build_index", "check", "index_width"]

_PQ_BITS = 8
"""Bits of a product quantizer's code, as SageMaker's; it needs 2**8 rows to learn from."""


def check(hyperparameters: Mapping[str, Any]) -> None:
    """Raise InputError for index settings that do not go together."""
    index_type, metric = hyperparameters["index_type"], hyperparameters["index_metric"]
    if index_type != "faiss.IVFPQ":
        return
    if metric != "L2":
        raise InputError(f"index_metric must be L2 for index_type faiss.IVFPQ, got {metric}")
    if hyperparameters["faiss_index_pq_m"] is None:
        raise InputError("'faiss_index_pq_m' is a required property for index_type faiss.IVFPQ")


def index_width(hyperparameters: Mapping[str, Any], dimension: int) -> int:
    """Return the width of indexed vectors: a product quantizer needs a multiple of m, reached with zeros."""
    if hyperparameters["index_type"] != "faiss.IVFPQ":
        return dimension
    parts: int = hyperparameters["faiss_index_pq_m"]
    return -(-dimension // parts) * parts


def build_index(vectors: npt.NDArray[np.float32], hyperparameters: Mapping[str, Any]) -> Any:
    """Return a trained faiss index that holds the vectors, float32 of shape (rows, width).

    Raises:
        InputError: There are too few rows for the index asked for.
    """
    import faiss

    rows, width = vectors.shape
    metric = faiss.METRIC_L2 if hyperparameters["index_metric"] == "L2" else faiss.METRIC_INNER_PRODUCT
    flat = faiss.IndexFlatL2(width) if metric == faiss.METRIC_L2 else faiss.IndexFlatIP(width)
    if hyperparameters["index_type"] == "faiss.Flat":
        flat.add(vectors)
        return flat
    lists = hyperparameters["faiss_index_ivf_nlists"]
    lists = max(1, math.isqrt(rows)) if lists == "auto" else lists
    if lists > rows:
        raise InputError(f"faiss_index_ivf_nlists must be at most the {rows} rows of the sample, got {lists}")
    index: Any
    if hyperparameters["index_type"] == "faiss.IVFFlat":
        index = faiss.IndexIVFFlat(flat, width, lists, metric)
    else:
        if rows < 1 << _PQ_BITS:
            raise InputError(f"index_type faiss.IVFPQ needs a sample of at least {1 << _PQ_BITS} rows, got {rows}")
        index = faiss.IndexIVFPQ(flat, width, lists, hyperparameters["faiss_index_pq_m"], _PQ_BITS)
    index.train(vectors)
    index.add(vectors)
    index.nprobe = hyperparameters["_faiss_index_nprobe"]
    return index
