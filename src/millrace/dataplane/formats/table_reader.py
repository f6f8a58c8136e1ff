"""Read Parquet and Arrow objects as batches of bounded size, and as text.

Of Parquet, one row group is read at a time and pages of it as they are needed, of the columns that are asked for only.
Batches are cut so that their text is about as long as a chunk.
"""

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from itertools import accumulate, chain
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

from millrace.dataplane.formats.arrow_errors import arrow_errors
from millrace.dataplane.formats.dictionaries import decodable_batch, decodable_schema
from millrace.dataplane.formats.object_file import ObjectFile, open_object
from millrace.dataplane.formats.one_thread import OneThread
from millrace.dataplane.formats.options import TableForm
from millrace.dataplane.formats.output_names import check_joined_names
from millrace.dataplane.formats.row_text import header_row, row_writer
from millrace.dataplane.formats.unreadable import UnfitFormat
from millrace.names import ObjectRef
from millrace.ports.objects import ObjectInfo, ObjectStore

__all__ = ["BATCH_BYTES", "BATCH_ROWS", "table_batches", "table_lines"]

BATCH_ROWS = 8192
"""Most rows that are decoded at a time."""

BATCH_BYTES = 2 * 1024 * 1024
"""Bytes that a decoded batch should have at most, by the sizes that the file tells; one row is always let through."""

TEXT_BATCH_BYTES = 1024 * 1024
"""The same of a batch that becomes text, of which there is more; joins work column by column, on fewer longer ones."""

PAGE_READ_BYTES = 64 * 1024
"""Bytes of each column of Parquet that are read ahead from a file on this machine."""

PAGE_REQUEST_BYTES = 256 * 1024
"""The same of an object elsewhere, where each read is a request."""

_ARROW_FILE = b"ARROW1"

TEXT_GROWTH = 2
"""Bytes of text to be expected for each of a decoded batch."""

Item = TypeVar("Item")
Seen = Callable[[Any], None]
Part = tuple[int, int] | None
"""A range of an object: its first byte, and the first one behind it; None is all of it."""


def _ignore(_: object) -> None:
    """Take what nobody wants to know."""


def _parquet_batches(
    file: ObjectFile, columns: Sequence[str], part: Part, seen: Seen, batch_bytes: int
) -> Iterator[Any]:
    ahead = PAGE_READ_BYTES if file.one_version else PAGE_REQUEST_BYTES
    parquet = pq.ParquetFile(file, buffer_size=ahead, pre_buffer=False)
    schema = parquet.schema_arrow
    seen(schema)
    _check_columns(schema, columns)
    for group, place in enumerate(_group_places(parquet.metadata, file.size)):
        if not _is_in(part, place):
            continue
        facts = parquet.metadata.row_group(group)
        row_bytes = max(1, facts.total_byte_size // max(1, facts.num_rows))
        yield from _selected(
            parquet.iter_batches(
                batch_size=max(1, min(BATCH_ROWS, batch_bytes // row_bytes)),
                row_groups=[group],
                columns=list(columns) or None,
                use_threads=False,
            ),
            columns,
        )


def _group_places(facts: Any, size: int) -> list[int]:
    """Return where the row groups of a Parquet file of `size` bytes begin, by what their rows take.

    The file tells their first bytes too, but whoever asks pyarrow 26 for them has the process ended if the file tells
    anything wrong about a column; what reads the rows raises instead.
    """
    lengths = [max(0, facts.row_group(group).total_byte_size) for group in range(facts.num_row_groups)]
    total = sum(lengths) or 1
    return [min(size * before // total, size - 1) for before in [0, *accumulate(lengths)][:-1]]


def _is_in(part: Part, place: int) -> bool:
    return part is None or part[0] <= place < part[1]


def _arrow_batches(file: ObjectFile, columns: Sequence[str], part: Part, seen: Seen, batch_bytes: int) -> Iterator[Any]:
    """Yield the batches of an IPC file or stream, whichever it is, that begin in a part of it.

    Where the batches of a file begin pyarrow does not say: they are taken to be of one length. A stream is read from
    its beginning, whichever part is wanted. Its batches are as long as they are: decoding them takes no more.
    """
    del batch_bytes
    magic = file.read(len(_ARROW_FILE))
    file.seek(0)
    if magic == _ARROW_FILE:
        opened = ipc.open_file(file)
        batches = _file_batches(opened, file.size, part)
    else:
        opened = ipc.open_stream(file)
        batches = _stream_batches(opened, file, part)
    schema = decodable_schema(opened.schema)
    seen(schema)
    _check_columns(schema, columns)
    schema = pa.schema([schema.field(name) for name in columns], schema.metadata) if columns else schema
    for batch in _selected(batches, columns):
        with arrow_errors(f"Failed to read {TableForm.ARROW}", columns=batch.schema.names):
            batch.validate(full=True)  # the reader trusts offsets and lengths, and what follows would read anywhere
            batch = decodable_batch(batch, schema)
        for start in range(0, batch.num_rows, BATCH_ROWS):
            yield batch.slice(start, BATCH_ROWS)


def _file_batches(opened: Any, size: int, part: Part) -> Iterator[Any]:
    count = opened.num_record_batches
    for index in range(count):
        if _is_in(part, size * index // count):
            yield opened.get_batch(index)


def _stream_batches(opened: Any, file: ObjectFile, part: Part) -> Iterator[Any]:
    while True:
        begin = file.tell()  # it reads message by message
        if part is not None and begin >= part[1]:
            return
        try:
            batch = opened.read_next_batch()
        except StopIteration:
            return
        if _is_in(part, begin):
            yield batch


_BATCHES = {TableForm.PARQUET: _parquet_batches, TableForm.ARROW: _arrow_batches}


def _selected(batches: Iterator[Any], columns: Sequence[str]) -> Iterator[Any]:
    for batch in batches:
        yield batch.select(list(columns)) if columns else batch


def _check_columns(schema: Any, columns: Sequence[str]) -> None:
    for name in columns:
        found = len(schema.get_all_field_indices(name))
        if found != 1:
            listed = ", ".join(schema.names[:20]) + (", ..." if len(schema.names) > 20 else "")
            raise UnfitFormat(
                f'column "{name}" of MILLRACE_INPUT_COLUMNS must be in the table once, but is there {found} times; '
                f"the table has [{listed}]"
            )


def _read(
    file: ObjectFile,
    form: TableForm,
    columns: Sequence[str],
    part: Part,
    seen: Seen,
    *,
    batch_bytes: int,
) -> Iterator[Any]:
    """Yield the batches of a table, or of a part of it, that have rows, and close the file."""
    with file, arrow_errors(f"Failed to read {form}"):
        for batch in _BATCHES[form](file, columns, part, seen, batch_bytes):
            if batch.num_rows:
                yield batch


async def _stepped_through(
    objects: ObjectStore,
    ref: ObjectRef,
    make: Callable[[ObjectFile], Iterator[Item]],
    *,
    thread: OneThread,
    on_open: Callable[[ObjectInfo], None],
    on_read: Callable[[int], None],
    etag: str | None = None,
) -> AsyncGenerator[Item, None]:
    """Yield what is made of an object's file, whose bytes are of one version."""
    info, file = await open_object(objects, ref)
    if etag is not None and info.etag != etag:
        file.close()
        raise UnfitFormat(f"{ref} was replaced while the job ran: its ETag was {etag}, is {info.etag}")
    on_open(info)
    told = 0
    items = thread.stepped(lambda: make(file))
    try:
        async for item in items:
            reached = min(file.bytes_read, info.size)
            on_read(reached - told)
            told = reached
            yield item
    finally:
        file.abandon()
        await items.aclose()
    if not file.one_version and (now := (await objects.get(ref)).etag) != info.etag:
        raise UnfitFormat(f"{ref} was replaced while it was read: its ETag was {info.etag}, is {now}")
    on_read(info.size - told)  # columns that nobody asked for count as read


def table_batches(
    objects: ObjectStore, ref: ObjectRef, form: TableForm, *, thread: OneThread, etag: str | None = None
) -> AsyncGenerator[Any, None]:
    """Return the record batches of a table, all columns; `etag` is that of the only version to be read.

    The first item is the table's schema. It raises UnfitFormat, and NoSuchKey as the store does.
    """
    return _stepped_through(
        objects, ref, lambda file: _with_schema(file, form), thread=thread, on_open=_ignore, on_read=_ignore, etag=etag
    )


def _with_schema(file: ObjectFile, form: TableForm) -> Iterator[Any]:
    schemas: list[Any] = []
    batches = _read(file, form, (), None, schemas.append, batch_bytes=BATCH_BYTES)
    first = next(batches, None)
    yield schemas[0]
    if first is not None:
        yield first
        yield from batches


async def table_lines(
    objects: ObjectStore,
    ref: ObjectRef,
    form: TableForm,
    *,
    columns: Sequence[str] = (),
    media_type: str,
    header: bool = False,
    joined: Sequence[str] = (),
    chunk_bytes: int,
    part: Part = None,
    on_open: Callable[[ObjectInfo], None] = _ignore,
    on_read: Callable[[int], None] = _ignore,
) -> AsyncGenerator[bytes, None]:
    """Yield the rows of a table as chunks of text of at most `chunk_bytes`, cut anywhere.

    Args:
        objects: Where the table is.
        ref: The table.
        form: Its format.
        columns: Those that are read, in this order; all if there are none.
        media_type: What a row becomes: a record of text/csv, or a line of JSON.
        header: Whether the names of the columns come first, as a record of CSV.
        joined: Names of columns that will be joined to the table, as far as they are known: it may not have them.
        chunk_bytes: Also about as much is decoded and written at a time.
        part: Where the row groups, or batches, begin that are read; all of them if None.
        on_open: Told the facts of the version that is read.
        on_read: Told how many stored bytes were read; all of the object's at the end.

    Raises:
        UnfitFormat: The object is no such table, has not the columns, has one that will be joined to it, or has a value
            that has no text.
        NoSuchKey, NoSuchBucket: It is not there.
    """
    write = row_writer(media_type)

    def text(file: ObjectFile) -> Iterator[bytes]:
        return _text(file, form, columns, part, write, header=header, joined=joined, chunk_bytes=chunk_bytes)

    with OneThread() as thread:
        chunks = _stepped_through(objects, ref, text, thread=thread, on_open=on_open, on_read=on_read)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk


def _text(
    file: ObjectFile,
    form: TableForm,
    columns: Sequence[str],
    part: Part,
    write: Callable[[Any], bytes],
    *,
    header: bool,
    joined: Sequence[str],
    chunk_bytes: int,
) -> Iterator[bytes]:
    """Yield the text of all rows, in chunks that are full but for the last one."""
    names: list[str] = []
    waiting = bytearray()

    def see(schema: Any) -> None:
        check_joined_names(schema.names, joined)
        names.extend(columns or schema.names)

    batches = _read(file, form, columns, part, see, batch_bytes=TEXT_BATCH_BYTES)
    first = next(batches, None)
    if header:
        waiting += header_row(names)
    for batch in batches if first is None else chain([first], batches):
        with arrow_errors("Failed to write rows as text"):
            rows = max(1, batch.num_rows * chunk_bytes // max(1, TEXT_GROWTH * batch.nbytes))
            for start in range(0, batch.num_rows, rows):
                waiting += write(batch.slice(start, rows))
                while len(waiting) >= chunk_bytes:
                    yield bytes(waiting[:chunk_bytes])
                    del waiting[:chunk_bytes]
    if waiting:
        yield bytes(waiting)
