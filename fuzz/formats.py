"""Targets: objects that are compressed or tables, and answers that become tables."""

import asyncio
import gzip
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from functools import partial

import pyarrow as pa

from fuzz.source import Source
from millrace.dataplane.formats.columns import OutputColumn
from millrace.dataplane.formats.convert import TableOutput, table_of_rows
from millrace.dataplane.formats.header import HeaderLine, without_header
from millrace.dataplane.formats.options import CsvHeader, TableForm
from millrace.dataplane.formats.table_reader import table_lines
from millrace.dataplane.formats.unreadable import UNREADABLE, UnfitFormat
from millrace.dataplane.gzip import gunzip
from millrace.dataplane.jsonpath import Format, parse_filter
from millrace.dataplane.zstd import unzstd
from millrace.testing.objects import MemoryObjects

__all__ = ["arrow_tables", "gzip_objects", "headers", "parquet_tables", "tables_of_rows", "zstd_objects"]

_CHUNK_BYTES = 4096
_MOST_TEXT = 8 * 1024 * 1024
"""Of a small table that expands beyond this, nothing more is read."""


async def _plain(
    read: Callable[[AsyncIterator[bytes]], AsyncGenerator[bytes, None]], chunks: Sequence[bytes]
) -> tuple[bytes, str | None]:
    """Return what comes out, and what is told if it does not end well."""

    async def stream() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    out: list[bytes] = []
    size = 0
    try:
        async for plain in read(stream()):
            assert 0 < len(plain) <= _CHUNK_BYTES, "bounded memory"
            out.append(plain)
            size += len(plain)
            if size > _MOST_TEXT:
                break
    except UNREADABLE as exc:
        return b"".join(out), str(exc)
    return b"".join(out), None


def gzip_objects(data: bytes) -> None:
    """Decompress gzip."""
    source = Source(data)
    cuts = source.cuts()
    data = source.rest()
    read = partial(gunzip, chunk_bytes=_CHUNK_BYTES)
    plain, error = asyncio.run(_plain(read, [data]))
    if len(plain) > _MOST_TEXT:
        return
    assert asyncio.run(_plain(read, cuts.apply(data))) == (plain, error), "chunks change nothing"
    if error is None and data:
        assert gzip.decompress(data) == plain


def zstd_objects(data: bytes) -> None:
    """Decompress Zstandard."""
    source = Source(data)
    cuts = source.cuts()
    data = source.rest()
    read = partial(unzstd, chunk_bytes=_CHUNK_BYTES)
    plain, error = asyncio.run(_plain(read, [data]))
    if len(plain) > _MOST_TEXT:
        return
    again, also = asyncio.run(_plain(read, cuts.apply(data)))
    if error is None and also is None:
        # libzstd does not miss what a frame with an empty last block lacks of its stated size, unless it has it whole.
        assert again == plain, "chunks change nothing"


def headers(data: bytes) -> None:
    """Take the header off an object of CSV."""
    source = Source(data)
    cuts, quoted = source.cuts(), bool(source.number(1))
    text, body = source.parts(2)
    try:
        chosen = parse_filter(text.decode("utf-8", "replace"), Format.CSV)
    except ValueError:
        chosen = parse_filter("$", Format.CSV)
    header = HeaderLine(CsvHeader.REPEAT, chosen)

    async def joined() -> bytes:
        async def stream() -> AsyncIterator[bytes]:
            for chunk in cuts.apply(body):
                yield chunk

        return b"".join([chunk async for chunk in without_header(stream(), header, quoted_newlines=quoted)])

    try:
        rest = asyncio.run(joined())
        header.names()
    except UnfitFormat:
        return
    assert header.record + rest == body, "no byte is lost"


def parquet_tables(data: bytes) -> None:
    """Read damaged Parquet."""
    _read_table(data, TableForm.PARQUET)


def arrow_tables(data: bytes) -> None:
    """Read damaged Arrow IPC."""
    _read_table(data, TableForm.ARROW)


def _read_table(data: bytes, form: TableForm) -> None:
    source = Source(data)
    media_type = source.choice((Format.CSV, Format.JSON_LINES))
    objects = MemoryObjects(chunk_bytes=1000)
    ref = objects.add("s3://shop/t", source.rest())

    async def read() -> None:
        size = 0
        lines = table_lines(objects, ref, form, media_type=media_type, header=False, chunk_bytes=_CHUNK_BYTES)
        try:
            async for text in lines:
                assert 0 < len(text) <= _CHUNK_BYTES
                size += len(text)
                if size > _MOST_TEXT:
                    break
        finally:
            await lines.aclose()

    try:
        asyncio.run(read())
    except UnfitFormat as exc:
        assert str(exc)


def tables_of_rows(data: bytes) -> None:
    """Make a table of what models answered."""
    source = Source(data)
    media_type = source.choice((Format.CSV, Format.JSON_LINES, Format.JSON))
    kinds = (None, "int64", "double", "string", "bool", "timestamp", "date", "list<double>")
    columns = [OutputColumn(name=f"c{at}", type=source.choice(kinds)) for at in range(source.number(2))]
    cuts = source.cuts()
    text = source.rest()

    async def rows() -> AsyncGenerator[bytes, None]:
        for chunk in cuts.apply(text):
            yield chunk

    async def made() -> bytes:
        output = TableOutput(form=TableForm.ARROW, media_type=media_type, columns=columns)
        return b"".join([piece async for piece in table_of_rows(rows, output)])

    try:
        with warnings.catch_warnings():
            table = pa.ipc.open_file(pa.BufferReader(asyncio.run(made()))).read_all()
    except UnfitFormat as exc:
        assert str(exc)
        return
    table.validate(full=True)
