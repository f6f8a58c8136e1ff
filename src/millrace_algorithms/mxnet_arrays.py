"""Read and write MXNet's array file format, in which SageMaker keeps the arrays of PCA, k-means and LDA models.

Source: MXNet `ndarray.cc`. All integers little-endian: uint64 0x112, uint64 0, uint64 number of arrays, the arrays,
uint64 number of names (0 for a plain list), the names, each a uint64 length and its bytes.
"""

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace_algorithms.errors import ModelError

__all__ = ["decode", "encode"]

_FILE_MAGIC = 0x112
_VERSION_1, _VERSION_2 = 0xF993FAC8, 0xF993FAC9
_DENSE, _CPU = 0, 1
_ELEMENT_TYPES: tuple[type, ...] = (np.float32, np.float64, np.float16, np.uint8, np.int32, np.int8, np.int64)

Array = npt.NDArray[Any]


def encode(arrays: Mapping[str, Array] | list[Array]) -> bytes:
    """Return the file of a dictionary of arrays, or of a nameless list."""
    names = list(arrays) if isinstance(arrays, Mapping) else []
    values = list(arrays.values()) if isinstance(arrays, Mapping) else arrays
    parts = [struct.pack("<QQQ", _FILE_MAGIC, 0, len(values))]
    for array in values:
        element_type = _ELEMENT_TYPES.index(array.dtype.type)
        parts.append(struct.pack(f"<IiI{array.ndim}q", _VERSION_2, _DENSE, array.ndim, *array.shape))
        parts.append(struct.pack("<iii", _CPU, 0, element_type))
        parts.append(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
    parts.append(struct.pack("<Q", len(names)))
    parts.extend(struct.pack("<Q", len(name.encode())) + name.encode() for name in names)
    return b"".join(parts)


def decode(content: bytes) -> dict[str, Array]:
    """Return the arrays by name; those of a nameless list are called "0", "1", ... Raises ModelError."""
    try:
        return _decode(_Cursor(content))
    except (struct.error, UnicodeDecodeError, ValueError, IndexError) as exc:
        raise ModelError(f"damaged MXNet array file: {exc}") from exc


class _Cursor:
    """Reads a file from front to back."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._position = 0

    def unpack(self, layout: str) -> tuple[int, ...]:
        values = struct.unpack_from(f"<{layout}", self._content, self._position)
        self._position += struct.calcsize(f"<{layout}")
        return values

    def take(self, length: int) -> bytes:
        if length > len(self._content) - self._position:
            raise ValueError(f"expected {length} more bytes, got {len(self._content) - self._position}")
        taken = self._content[self._position : self._position + length]
        self._position += length
        return taken


def _decode(cursor: _Cursor) -> dict[str, Array]:
    magic, _, count = cursor.unpack("QQQ")
    if magic != _FILE_MAGIC:
        raise ValueError(f"expected magic {_FILE_MAGIC:#x}, got {magic:#x}")
    arrays = [_decode_array(cursor) for _ in range(count)]
    (name_count,) = cursor.unpack("Q")
    names = [cursor.take(cursor.unpack("Q")[0]).decode() for _ in range(name_count)]
    return dict(zip(names or map(str, range(count)), arrays, strict=True))


def _decode_array(cursor: _Cursor) -> Array:
    (version,) = cursor.unpack("I")
    if version == _VERSION_2:
        (storage,) = cursor.unpack("i")
        if storage != _DENSE:
            raise ValueError(f"expected dense storage 0, got {storage}")
    if version in (_VERSION_1, _VERSION_2):
        (dimensions,) = cursor.unpack("I")
        shape = cursor.unpack(f"{dimensions}q")
    else:  # the oldest form: the first word is the number of dimensions itself
        if version > 32:
            raise ValueError(f"unknown array version {version:#x}")
        shape = cursor.unpack(f"{version}I")
    _, _, element_type = cursor.unpack("iii")
    dtype = np.dtype(_ELEMENT_TYPES[element_type]).newbyteorder("<")
    size = 1
    for extent in shape:
        size *= extent
    return np.frombuffer(cursor.take(size * dtype.itemsize), dtype).reshape(shape)
