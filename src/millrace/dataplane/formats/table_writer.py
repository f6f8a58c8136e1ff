"""Write tables as Parquet or Arrow, piece by piece."""

import io
from typing import Any

import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

from millrace.dataplane.formats.arrow_errors import arrow_errors
from millrace.dataplane.formats.options import Codec, TableForm

__all__ = ["ROW_GROUP_BYTES", "ROW_GROUP_ROWS", "TableWriter"]

ROW_GROUP_BYTES = 32 * 1024 * 1024
"""Bytes of decoded rows that become one row group of Parquet; as much is held."""

ROW_GROUP_ROWS = 1024 * 1024
"""Most rows of a row group."""

BATCH_BYTES = 1024 * 1024
"""Bytes of decoded rows that become one record batch of Arrow."""


class _Sink(io.RawIOBase):
    """Takes what a writer writes until it is taken away."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self._position = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        piece = bytes(data)
        self._pieces.append(piece)
        self._position += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self._position

    def take(self) -> list[bytes]:
        """Return the pieces written since, and forget them."""
        taken = self._pieces
        self._pieces = []
        return taken


class TableWriter:
    """Makes one file of the rows that it is given; what it holds back is at most a row group.

    The same rows in the same tables give the same bytes.
    """

    def __init__(self, form: TableForm, schema: Any, codec: Codec | None) -> None:
        self._sink = _Sink()
        self._schema = schema
        self._held: list[Any] = []
        self._held_bytes = self._held_rows = 0
        with arrow_errors(f"Failed to write {form}"):
            if form is TableForm.PARQUET:
                self._group_bytes, self._group_rows = ROW_GROUP_BYTES, ROW_GROUP_ROWS
                self._writer: Any = pq.ParquetWriter(self._sink, schema, compression=str(codec or "snappy"))
            else:
                self._group_bytes, self._group_rows = BATCH_BYTES, ROW_GROUP_ROWS
                self._writer = ipc.new_file(
                    self._sink, schema, options=ipc.IpcWriteOptions(compression=codec and str(codec))
                )
        self._form = form

    def add(self, table: Any) -> list[bytes]:
        """Add rows and return pieces of the file that are ready, perhaps none."""
        self._held.append(table)
        self._held_bytes += table.nbytes
        self._held_rows += table.num_rows
        if self._held_bytes < self._group_bytes and self._held_rows < self._group_rows:
            return []
        self._write_held()
        return self._sink.take()

    def finish(self) -> list[bytes]:
        """Return the last pieces of the file."""
        self._write_held()
        with arrow_errors(f"Failed to write {self._form}"):
            self._writer.close()
        return self._sink.take()

    def _write_held(self) -> None:
        held = pa.concat_tables(self._held) if self._held else self._schema.empty_table()
        self._held.clear()
        self._held_bytes = self._held_rows = 0
        if held.num_rows:
            with arrow_errors(f"Failed to write {self._form}"):
                held = held.combine_chunks()  # what it was put together of may go before it is encoded
                self._writer.write_table(held, self._group_rows)
