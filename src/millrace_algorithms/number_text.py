"""Print arrays of numbers as CSV and as JSON records at compiled speed.

orjson prints a whole array at once, each number in the fewest digits that read back as the same float32 or float64. For
CSV the rows are printed as one flat list in which every so-many-th comma is then overwritten; for JSON the brackets
between rows are replaced. No Python object is made for a cell.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import orjson

from millrace_algorithms.tables import FloatMatrix, FloatVector

__all__ = ["Column", "print_csv", "print_json_records"]

_COMMA, _LINE_FEED = b",\n"


@dataclass(frozen=True, slots=True)
class Column:
    """One member of every record of an answer: shape (rows,) for numbers, (rows, k) for lists of k numbers."""

    name: str
    values: FloatMatrix | FloatVector


def _print(values: FloatMatrix | FloatVector) -> bytes:
    return orjson.dumps(np.ascontiguousarray(values), option=orjson.OPT_SERIALIZE_NUMPY)


def print_csv(columns: Sequence[Column]) -> bytes:
    """Return a line for each row, all members one after the other; what is no finite number becomes `nan`."""
    parts = [c.values if c.values.ndim == 2 else c.values[:, None] for c in columns]
    matrix = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
    if not len(matrix):
        return b""
    text = _print_lines(matrix)
    # One letter is found at memory speed, and no number has it.
    return text.replace(b"null", b"nan") if b"n" in text else text


def _print_lines(matrix: FloatMatrix) -> bytes:
    """Return a line for each row. Replacing the brackets of nested lists took as long as printing the numbers."""
    width = matrix.shape[1]
    if not width:
        return b"\n" * len(matrix)
    if width == 1:
        return _print(matrix.reshape(-1))[1:-1].replace(b",", b"\n") + b"\n"
    printed = np.frombuffer(_print(matrix.reshape(-1)), np.uint8)
    lines: npt.NDArray[np.uint8] = printed[1:].copy()
    commas = np.flatnonzero(lines == _COMMA)
    lines[commas[width - 1 :: width]] = _LINE_FEED
    lines[-1] = _LINE_FEED  # where the list was closed
    return lines.tobytes()


def print_json_records(columns: Sequence[Column], separator: bytes) -> bytes:
    """Return an object for each row with `separator` between them; what is no finite number becomes null."""
    if not len(columns[0].values):
        return b""
    if len(columns) > 1:
        return _print_members(columns, separator)
    column = columns[0]
    head = b"{" + orjson.dumps(column.name) + b":"
    if column.values.ndim == 2:
        text = _print(column.values)[2:-2].replace(b"],[", b"]}" + separator + head + b"[")
        return head + b"[" + text + b"]}"
    return head + _print(column.values)[1:-1].replace(b",", b"}" + separator + head) + b"}"


def _print_members(columns: Sequence[Column], separator: bytes) -> bytes:
    """Return records of several members, a little Python for each row."""
    template = []
    cells = []
    for column in columns:
        name = orjson.dumps(column.name).replace(b"%", b"%%")
        if column.values.ndim == 2:
            template.append(name + b":[%b]")
            cells.append(_print(column.values)[2:-2].split(b"],["))
        else:
            template.append(name + b":%b")
            cells.append(_print(column.values)[1:-1].split(b","))
    record = b"{" + b",".join(template) + b"}"
    return separator.join([record % row for row in zip(*cells, strict=True)])
