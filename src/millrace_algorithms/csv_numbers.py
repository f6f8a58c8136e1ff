"""Read rows of numbers from CSV."""

import csv
import io
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from millrace_algorithms.delimited_numbers import BLOCK_BYTES, HEAD, TAIL, DelimitedParser
from millrace_algorithms.errors import BadCell, BadLine, BadRowWidth
from millrace_algorithms.lines import line_blocks, with_line_feeds

__all__ = ["CsvReader"]


class CsvReader:
    """Reads blocks of lines as float64 matrices of one width, which the first row decides unless it is given.

    Three readers, each taking what the one before refuses: JSON's numbers at compiled speed, numpy's text reader (`.5`,
    `1.`, `+1`, `nan`, leading zeros, spaces, quotes), and Python cell by cell, which finds the words for an error.
    """

    def __init__(self, *, width: int | None = None, ignored_columns: int = 0) -> None:
        """Start before the first row.

        Args:
            width: Numbers expected in each row.
            ignored_columns: Leading columns of `width` that messages don't count as features.
        """
        self._parser = DelimitedParser()
        self._width = width
        self._ignored_columns = ignored_columns
        self.rows = 0
        """Rows read so far."""
        self.fits_float32 = False
        """Whether the numbers of the last matrix are known to be finite as float32."""

    def read(self, chunks: Iterable[bytes], block_bytes: int = BLOCK_BYTES) -> Iterator[npt.NDArray[np.float64]]:
        """Yield matrices of shape (rows of the block, width), in order.

        Raises:
            BadCell: A cell is no number.
            BadLine: A line is blank, or is no text of cells.
            BadRowWidth: A row has another width.
        """
        for framed in line_blocks(chunks, block_bytes, head=HEAD, tail=TAIL):
            matrix = self._parser.parse(framed, b"\n")
            self.fits_float32 = matrix is not None and self._parser.fits_float32
            if matrix is None or (self._width is not None and matrix.shape[1] != self._width):
                matrix = self._read_slowly(framed[len(HEAD) : -len(TAIL)])
            self._width = matrix.shape[1]
            self.rows += len(matrix)
            yield matrix

    def _read_slowly(self, lines: bytes) -> npt.NDArray[np.float64]:
        block = with_line_feeds(lines)  # to JSON a carriage return is a space, to other readers it is not
        matrix = _read_with_numpy(block)
        if matrix is None or (self._width is not None and matrix.shape[1] != self._width):
            return self.read_cell_by_cell(block)
        return matrix

    def read_cell_by_cell(self, block: bytes) -> npt.NDArray[np.float64]:
        """Read one block of lines the slow way, which decides what is right; raises as `read` does."""
        rows = []
        for number, line in enumerate(block.decode("utf-8", "replace").split("\n"), self.rows + 1):
            row = [_number(cell, number, column) for column, cell in enumerate(_cells(line, number), 1)]
            if self._width is None:
                self._width = len(row)
            if len(row) != self._width:
                raise BadRowWidth(
                    row=number, expected=self._width - self._ignored_columns, got=len(row) - self._ignored_columns
                )
            rows.append(row)
        return np.array(rows, np.float64)


def _read_with_numpy(block: bytes) -> npt.NDArray[np.float64] | None:
    # numpy skips blank lines, which here are errors with a row number.
    if b"\n\n" in block or block.startswith(b"\n") or b"\n " in block or b"\n\t" in block:
        return None
    try:
        matrix = np.loadtxt(io.BytesIO(block), delimiter=",", comments=None, quotechar='"', ndmin=2, encoding="latin-1")
    except ValueError:
        return None
    return matrix if len(matrix) == block.count(b"\n") + 1 else None


def _cells(line: str, row: int) -> list[str]:
    if not line.strip():
        raise BadLine("blank line", row=row)
    try:
        return next(csv.reader([line], skipinitialspace=True))
    except csv.Error as exc:
        # Python's own advice for the first kind is how to open the file, which here nobody can follow.
        what = "carriage return without a line feed" if "\r" in line else f"not CSV: {exc}"
        raise BadLine(what, row=row) from exc


def _number(cell: str, row: int, column: int) -> float:
    try:
        if "_" in cell:  # Python's digit groups are no numbers in CSV
            raise ValueError
        return float(cell)
    except ValueError:
        raise BadCell(row=row, column=column, text=cell) from None
