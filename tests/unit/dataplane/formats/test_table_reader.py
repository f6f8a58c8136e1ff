"""Tables as text."""

import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.unit.dataplane.formats.tables import arrow, joined, parquet, views

from millrace.dataplane.formats.object_file import ObjectFile, open_object
from millrace.dataplane.formats.one_thread import OneThread
from millrace.dataplane.formats.options import TableForm
from millrace.dataplane.formats.table_reader import table_batches, table_lines
from millrace.dataplane.formats.unreadable import UnfitFormat
from millrace.names import ObjectRef
from millrace.ports.objects import NoSuchKey, ObjectInfo
from millrace.store.filesystem import FilesystemObjects
from millrace.testing.objects import MemoryObjects

TABLE = pa.table({"id": [1, 2, 3], "x": [0.5, None, 2.0], "s": ["a", "b,c", "d"]})
TEXT = b'1,0.5,a\n2,,"b,c"\n3,2,d\n'
CSV = "text/csv"
JSON_LINES = "application/jsonlines"


async def text_of(data: bytes, form: TableForm, columns: tuple[str, ...] = (), *, header: bool = False) -> bytes:
    objects = MemoryObjects(chunk_bytes=64)
    ref = objects.add("s3://shop/t", data)
    return await joined(table_lines(objects, ref, form, columns=columns, media_type=CSV, header=header, chunk_bytes=10))


@pytest.mark.parametrize(
    ("form", "data"),
    [
        (TableForm.PARQUET, parquet(TABLE)),
        (TableForm.ARROW, arrow(TABLE)),
        (TableForm.ARROW, arrow(TABLE, stream=True)),
    ],
)
async def test_rows_are_read_in_order(form: TableForm, data: bytes) -> None:
    """Row groups and batches follow each other; columns come as they stand, or as they are asked for."""
    assert await text_of(data, form) == TEXT
    assert await text_of(data, form, ("s", "id"), header=True) == b's,id\na,1\n"b,c",2\nd,3\n'


async def test_categories_that_are_views_are_read() -> None:
    """Polars writes its categories as dictionaries of string views, also within lists and structs."""
    categories = views(pa.array(["u", "v,w", None]))
    bits = views(pa.array([b"\0", None, b"a"]), pa.binary_view())
    lists = pa.LargeListArray.from_arrays([0, 1, 1, 3], categories)
    table = pa.table({"c": categories, "b": bits})
    assert await text_of(arrow(table), TableForm.ARROW) == b'u,AA==\n"v,w",\n,YQ==\n'
    assert await text_of(arrow(table, stream=True), TableForm.ARROW, ("c",)) == b'u\n"v,w"\n""\n'
    nested = pa.table({"l": lists, "s": pa.StructArray.from_arrays([categories], ["c"])})
    objects = MemoryObjects()
    ref = objects.add("s3://shop/t", arrow(nested))
    lines = table_lines(objects, ref, TableForm.ARROW, media_type=JSON_LINES, chunk_bytes=1000)
    assert await joined(lines) == (
        b'{"l":["u"],"s":{"c":"u"}}\n{"l":[],"s":{"c":"v,w"}}\n{"l":["v,w",null],"s":{"c":null}}\n'
    )


async def test_a_table_without_rows_has_a_header() -> None:
    """Names of columns come even if no row does."""
    for form, data in ((TableForm.PARQUET, parquet(TABLE.slice(0, 0))), (TableForm.ARROW, arrow(TABLE.slice(0, 0)))):
        assert await text_of(data, form, header=True) == b"id,x,s\n"
        assert await text_of(data, form) == b""


async def test_a_column_that_is_not_there_is_told() -> None:
    """The error names the column and those that there are."""
    with pytest.raises(UnfitFormat) as caught:
        await text_of(parquet(TABLE), TableForm.PARQUET, ("id", "price"))
    assert str(caught.value) == (
        'column "price" of MILLRACE_INPUT_COLUMNS must be in the table once, but is there 0 times; '
        "the table has [id, x, s]"
    )


async def test_a_column_whose_values_are_broken_is_told_by_its_name() -> None:
    """An Arrow file may claim that bytes are text which they are not."""
    offsets, data = pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")
    table = pa.table({"id": [1], "words": pa.StringArray.from_buffers(1, offsets, data)})
    with pytest.raises(UnfitFormat) as caught:
        await text_of(arrow(table), TableForm.ARROW)
    assert str(caught.value) == 'Failed to read arrow: column "words": Invalid UTF8 sequence at string index 0'


@pytest.mark.parametrize("form", TableForm)
@pytest.mark.parametrize("data", [b"", b"id,x\n1,2\n", parquet(TABLE)[:-9], arrow(TABLE, stream=True)[:50]])
async def test_what_is_no_table_is_told(form: TableForm, data: bytes) -> None:
    """An object of another format, or half of one, fails with a message that says what was to be read."""
    with pytest.raises(UnfitFormat, match=f"Failed to read {form}: "):
        await text_of(data, form)


async def test_a_damaged_footer_of_parquet_ends_no_process() -> None:
    """Arrow ends the process where some facts of columns are asked for that are wrong; it must not come to that."""
    data = parquet(pa.table({"tags": [["a"], ["b", "c"], None]}))
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    objects = MemoryObjects()
    refused = 0
    for place in range(footer, len(data) - 8):
        ref = objects.add("s3://shop/t", data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        try:
            await joined(table_lines(objects, ref, TableForm.PARQUET, media_type=JSON_LINES, chunk_bytes=1000))
        except UnfitFormat:
            refused += 1
    assert refused


async def test_a_table_without_row_groups_has_no_rows() -> None:
    """Nothing is asked of a group that is not there."""
    file = io.BytesIO()
    pq.ParquetWriter(file, TABLE.schema).close()
    assert await text_of(file.getvalue(), TableForm.PARQUET) == b""


async def test_progress_ends_at_the_size_of_the_object() -> None:
    """Bytes that were read are told as they are; columns that nobody asked for count at the end."""
    objects = MemoryObjects()
    data = parquet(TABLE)
    ref = objects.add("s3://shop/t", data)
    read: list[int] = []
    opened: list[ObjectInfo] = []
    lines = table_lines(
        objects,
        ref,
        TableForm.PARQUET,
        columns=("id",),
        media_type=CSV,
        chunk_bytes=10,
        on_open=opened.append,
        on_read=read.append,
    )
    assert await joined(lines) == b"1\n2\n3\n"
    assert sum(read) == len(data)
    assert all(size >= 0 for size in read)
    assert [info.etag for info in opened] == [(await objects.get(ref)).etag]


async def test_an_object_that_is_missing_is_told_by_the_store() -> None:
    """What the store says of a missing object passes."""
    objects = MemoryObjects()
    await objects.create_bucket("shop", region="us-east-1", owner="0")
    with pytest.raises(NoSuchKey):
        await joined(table_lines(objects, ObjectRef("shop", "t"), TableForm.ARROW, media_type=CSV, chunk_bytes=10))


async def test_a_replaced_object_is_noticed() -> None:
    """Ranges of two versions are no table: an object that is replaced meanwhile fails."""
    objects = MemoryObjects()
    ref = objects.add("s3://shop/t", parquet(TABLE))
    lines = table_lines(objects, ref, TableForm.PARQUET, media_type=CSV, chunk_bytes=10)
    assert await anext(lines) == TEXT[:10]
    objects.add("s3://shop/t", parquet(TABLE.slice(1)))
    with pytest.raises(UnfitFormat):
        await joined(lines)


async def test_only_the_version_that_was_transformed_is_joined() -> None:
    """Whoever reads a table again may name the version; another one is refused."""
    objects = MemoryObjects()
    ref = objects.add("s3://shop/t", parquet(TABLE))
    refused = pytest.raises(UnfitFormat, match="was replaced while the job ran: its ETag was abc, is ")
    with OneThread() as thread, refused:
        await anext(table_batches(objects, ref, TableForm.PARQUET, thread=thread, etag="abc"))


async def test_a_file_on_disk_is_one_version(tmp_path: Path) -> None:
    """A local object is read from the file that was opened, whatever takes its place; the file is closed at the end."""
    objects = FilesystemObjects(tmp_path)
    await objects.create_bucket("shop", region="us-east-1", owner="0")
    ref = ObjectRef("shop", "t.parquet")

    async def put(data: bytes) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            yield data

        await objects.put(ref, chunks())

    await put(parquet(TABLE))
    lines = table_lines(objects, ref, TableForm.PARQUET, media_type=CSV, chunk_bytes=10)
    first = await anext(lines)
    await put(b"other")
    assert first + await joined(lines) == TEXT


async def test_reading_that_is_broken_off_closes_the_file() -> None:
    """Whoever stops in the middle leaves nothing open: the file is closed on its thread."""
    closed = asyncio.Event()
    loop = asyncio.get_running_loop()
    file = ObjectFile(3, lambda start, length: b"abc"[start:][:length], lambda: None, one_version=True)

    def items() -> Iterator[bytes]:
        try:
            with file:
                yield file.read(1)
                yield file.read(1)
        finally:
            loop.call_soon_threadsafe(closed.set)

    with OneThread() as thread:
        stream = thread.stepped(items)
        assert await anext(stream) == b"a"
        await stream.aclose()
    await closed.wait()
    assert file.closed


async def test_a_stretch_that_is_too_long_is_refused() -> None:
    """What must be read as a whole has a bound, whatever length the object tells."""
    objects = MemoryObjects()
    ref = objects.add("s3://shop/t", bytes(100))
    _, file = await open_object(objects, ref, read_bytes=99)
    with pytest.raises(UnfitFormat, match="may have at most 99 bytes, got 100"):
        file.read()
