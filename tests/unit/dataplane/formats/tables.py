"""Tables as objects, and rows as streams, for tests of formats."""

import io
from collections.abc import AsyncGenerator, AsyncIterable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from millrace.dataplane.formats.kept_rows import Rows
from millrace.dataplane.formats.options import TableForm


def parquet(table: Any, group: int = 2) -> bytes:
    """Return a table as a Parquet file of row groups of some length."""
    file = io.BytesIO()
    pq.write_table(table, file, row_group_size=group)
    return file.getvalue()


def arrow(table: Any, *, stream: bool = False) -> bytes:
    """Return a table as an IPC file or stream."""
    file = io.BytesIO()
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(file, table.schema) as writer:
        writer.write_table(table)
    return file.getvalue()


def views(values: Any, kind: Any = None) -> Any:
    """Return an array as a dictionary whose values are views, as Polars has its categories."""
    encoded = values.dictionary_encode()
    return pa.DictionaryArray.from_arrays(encoded.indices, encoded.dictionary.cast(kind or pa.string_view()))


def read(data: bytes, form: TableForm) -> Any:
    """Return the table of a file."""
    source = pa.BufferReader(data)
    return pq.read_table(source) if form is TableForm.PARQUET else pa.ipc.open_file(source).read_all()


def rows(data: bytes, step: int = 7) -> Rows:
    """Return what opens rows, cut anywhere."""

    async def opened() -> AsyncGenerator[bytes, None]:
        for at in range(0, len(data), step):
            yield data[at : at + step]

    return opened


async def joined(chunks: AsyncIterable[bytes]) -> bytes:
    """Return all chunks together."""
    return b"".join([chunk async for chunk in chunks])
