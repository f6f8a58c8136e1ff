"""Random projections that shorten vectors and nearly keep their distances.

Sources: D. Achlioptas, "Database-friendly random projections", JCSS 2003 (sign); N. Ailon, B. Chazelle, "The Fast
Johnson-Lindenstrauss Transform", SIAM J. Comput. 2009 (fjlt, with a Hadamard transform). A model keeps the seed only:
the matrix is drawn from the generator's raw bits, whose stream numpy promises never to change.
"""

from enum import Enum

import numpy as np
import numpy.typing as npt

__all__ = ["ProjectionType", "projection_matrix"]


class ProjectionType(Enum):
    """As the hyperparameter dimension_reduction_type names them."""

    SIGN = "sign"
    FJLT = "fjlt"


def projection_matrix(kind: ProjectionType, *, input_dim: int, target_dim: int, seed: int) -> npt.NDArray[np.float32]:
    """Return the matrix of shape (input_dim, target_dim) whose product shortens rows; same arguments, same matrix."""
    bits = np.random.PCG64(seed)
    if kind is ProjectionType.SIGN:
        signs = _signs(bits, input_dim * target_dim).reshape(input_dim, target_dim)
        matrix: npt.NDArray[np.float32] = (signs / np.sqrt(target_dim)).astype(np.float32)
        return matrix
    padded_dim = 1 << (input_dim - 1).bit_length()
    signs = _signs(bits, input_dim)
    coordinates = np.argsort(bits.random_raw(padded_dim), kind="stable")[:target_dim]
    # Entry (i, j) of a Hadamard matrix is -1 to the number of bits that i and j share.
    shared = np.bitwise_count(np.arange(input_dim)[:, None] & coordinates[None, :])
    hadamard = 1.0 - 2.0 * (shared & 1)
    fast: npt.NDArray[np.float32] = (signs[:, None] * hadamard / np.sqrt(target_dim)).astype(np.float32)
    return fast


def _signs(bits: np.random.PCG64, count: int) -> npt.NDArray[np.float64]:
    words = bits.random_raw(-(-count // 64)).astype("<u8")
    drawn = np.unpackbits(words.view(np.uint8))[:count]
    return drawn.astype(np.float64) * 2 - 1
