"""The data of the cases: the same bytes on every machine."""

import json

import numpy as np

__all__ = ["FloatArray", "csv_text", "json_lines", "numbers_of"]

FloatArray = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def csv_text(rows: int, columns: int) -> bytes:
    """Return standard normal numbers with six digits, one row a line."""
    matrix = np.random.default_rng(0).standard_normal((rows, columns))
    line = ",".join(["%.6f"] * columns) + "\n"
    return "".join([line % tuple(row) for row in matrix.tolist()]).encode()


def numbers_of(text: bytes, columns: int) -> FloatArray:
    """Return the numbers of CSV text, read another way than the contenders read them."""
    return np.array(text.replace(b"\n", b",").split(b",")[:-1], np.float64).reshape(-1, columns)


def json_lines(count: int, size: int) -> bytes:
    """Return JSON documents of `size` bytes each, line feed included."""
    return b"".join(_json_line(number, size) for number in range(count))


def _json_line(number: int, size: int) -> bytes:
    head = json.dumps({"id": number, "features": [0.5, 1.25, 3], "text": ""}, separators=(",", ":"))
    return (head[:-2] + "x" * (size - 1 - len(head)) + head[-2:]).encode() + b"\n"
