"""Write tables as Parquet or Arrow, piece by piece."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

from millrace.dataplane.formats.arrow_errors import arrow_errors
from millrace.dataplane.formats.freed_memory import release_freed
from millrace.dataplane.formats.options import Codec, TableForm

__all__ = ["ROW_GROUP_BYTES", "ROW_GROUP_ROWS", "TableWriter"]

ROW_GROUP_BYTES = 32 * 1024 * 1024
"""Bytes of decoded rows that become one row group of Parquet; as much is held."""

ROW_GROUP_ROWS = 1024 * 1024
"""Most rows of a row group."""

DICTIONARY_BYTES = 1_000_000
"""Longest dictionary of a column in a row group of Parquet: the column's further values have none.

At 2^17 values of 8 bytes, which pyarrow's own bound allows, the table in which it looks them up grows to 32 MB.
"""

BATCH_BYTES = 1024 * 1024
"""Bytes of decoded rows that become one record batch of Arrow."""

COMBINED_BYTES = 4 * 1024 * 1024
"""Bytes of held rows that are put together: until then they keep all that they were read and parsed with.

Of fewer the memory that they took is not given back to the system at once.
"""

PIECE_BYTES = 1024 * 1024
"""Bytes of a file that are given away at a time, while a row group is written."""

Give = Callable[[bytes], None]


class _Sink(io.RawIOBase):
    """Gives away what a writer writes, in pieces of some length."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []
        self._part_bytes = self._position = 0
        self._give: Give | None = None

    @contextmanager
    def given_to(self, give: Give) -> Iterator[None]:
        """Say what takes the pieces for a time; else they wait."""
        self._give = give
        try:
            yield
        finally:
            self._give = None

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._part_bytes += len(part)
        self._position += len(part)
        if self._part_bytes >= PIECE_BYTES:
            self.give_rest()
        return len(part)

    def tell(self) -> int:
        return self._position

    def give_rest(self) -> None:
        """Give away what waits, if there is anything and something takes it."""
        if self._give is not None and self._parts:
            piece = b"".join(self._parts)
            self._parts.clear()
            self._part_bytes = 0
            self._give(piece)


class TableWriter:
    """Makes one file of the rows that it is given; what it holds back is at most a row group.

    The same rows in the same tables give the same bytes.
    """

    def __init__(self, form: TableForm, schema: Any, codec: Codec | None) -> None:
        self._sink = _Sink()
        self._loose: list[Any] = []
        self._held: list[Any] = []
        self._loose_bytes = self._held_bytes = self._held_rows = 0
        with arrow_errors(f"Failed to write {form}"):
            if form is TableForm.PARQUET:
                self._group_bytes, self._group_rows = ROW_GROUP_BYTES, ROW_GROUP_ROWS
                self._writer: Any = pq.ParquetWriter(
                    self._sink,
                    schema,
                    compression=str(codec or "snappy"),
                    dictionary_pagesize_limit=DICTIONARY_BYTES,
                )
            else:
                self._group_bytes, self._group_rows = BATCH_BYTES, ROW_GROUP_ROWS
                self._writer = ipc.new_file(
                    self._sink, schema, options=ipc.IpcWriteOptions(compression=codec and str(codec))
                )
        self._form = form

    def add(self, table: Any) -> bool:
        """Hold rows; return whether they are enough to be written."""
        self._loose.append(table)
        self._loose_bytes += table.nbytes
        self._held_bytes += table.nbytes
        self._held_rows += table.num_rows
        if self._loose_bytes >= COMBINED_BYTES:
            self._combine()
        return self._held_bytes >= self._group_bytes or self._held_rows >= self._group_rows

    def write(self, give: Give) -> None:
        """Write what is held, and give away the pieces of the file that are ready."""
        with self._sink.given_to(give):
            self._write_held()

    def finish(self, give: Give) -> None:
        """Write what is held and complete the file, and give away the last pieces of it."""
        with self._sink.given_to(give):
            self._write_held()
            with arrow_errors(f"Failed to write {self._form}"):
                self._writer.close()
            self._sink.give_rest()

    def _combine(self) -> None:
        with arrow_errors(f"Failed to write {self._form}"):
            self._held.append(pa.concat_tables(self._loose).combine_chunks())
        self._loose.clear()
        self._loose_bytes = 0
        if self._held_bytes >= COMBINED_BYTES:
            release_freed()

    def _write_held(self) -> None:
        if self._loose:
            self._combine()
        if not self._held:
            return
        many = self._held_bytes >= COMBINED_BYTES
        with arrow_errors(f"Failed to write {self._form}"):
            rows = pa.concat_tables(self._held).unify_dictionaries()  # parts may have come with their own
            self._held.clear()
            self._held_bytes = self._held_rows = 0
            if rows.num_rows:
                self._writer.write_table(rows, self._group_rows)
            del rows
        if many:
            release_freed()
