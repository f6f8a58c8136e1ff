"""Laws of reading tables as text and writing text as tables."""

import csv
import io
import math
from collections.abc import AsyncGenerator
from datetime import UTC, date, datetime
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from millrace.dataplane.formats.columns import OutputColumn
from millrace.dataplane.formats.convert import TableOutput, table_of_rows
from millrace.dataplane.formats.options import TableForm
from millrace.dataplane.formats.row_text import csv_rows, json_rows
from millrace.dataplane.formats.table_reader import table_lines
from millrace.dataplane.formats.unreadable import UnfitFormat
from millrace.testing.objects import MemoryObjects

CSV, JSON = "text/csv", "application/jsonlines"

TYPES: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "bool": (pa.bool_(), st.booleans()),
    "int8": (pa.int8(), st.integers(-128, 127)),
    "int64": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "uint64": (pa.uint64(), st.integers(0, 2**64 - 1)),
    "float": (pa.float32(), st.floats(width=32, allow_nan=False, allow_infinity=False)),
    "double": (pa.float64(), st.floats(allow_nan=False, allow_infinity=False)),
    "string": (pa.string(), st.text(st.characters(codec="utf-8"), max_size=8)),
    "date": (pa.date32(), st.dates(date(1, 1, 1), date(9999, 12, 31))),
    "timestamp": (
        pa.timestamp("us", "UTC"),
        st.datetimes(timezones=st.just(UTC)),
    ),
}
LISTS = {
    f"list<{name}>": (pa.list_(kind), st.lists(st.none() | values, max_size=3))
    for name, (kind, values) in TYPES.items()
}


@st.composite
def tables(draw: st.DrawFn, types: dict[str, tuple[Any, st.SearchStrategy[Any]]]) -> tuple[Any, list[OutputColumn]]:
    """A table of at least two columns, and the columns by name and type."""
    names = draw(st.lists(st.sampled_from(sorted(types)), min_size=2, max_size=4))
    rows = draw(st.integers(0, 6))
    columns = {}
    for at, name in enumerate(names):
        kind, values = types[name]
        columns[f"c{at}"] = pa.array(draw(st.lists(st.none() | values, min_size=rows, max_size=rows)), kind)
    return pa.table(columns), [OutputColumn(name=f"c{at}", type=name) for at, name in enumerate(names)]


def stored(table: Any, form: TableForm, group: int) -> bytes:
    file = io.BytesIO()
    if form is TableForm.PARQUET:
        pq.write_table(table, file, row_group_size=group)
    else:
        with pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table, group)
    return file.getvalue()


def read(data: bytes, form: TableForm) -> Any:
    source = pa.BufferReader(data)
    return pq.read_table(source) if form is TableForm.PARQUET else pa.ipc.open_file(source).read_all()


async def text_of(data: bytes, form: TableForm, media_type: str, chunk_bytes: int) -> bytes:
    objects = MemoryObjects(chunk_bytes=100)
    ref = objects.add("s3://shop/t", data)
    lines = table_lines(objects, ref, form, media_type=media_type, chunk_bytes=chunk_bytes)
    chunks = [chunk async for chunk in lines]
    assert all(0 < len(chunk) <= chunk_bytes for chunk in chunks)
    return b"".join(chunks)


async def table_of(text: bytes, media_type: str, columns: list[OutputColumn], form: TableForm, step: int) -> bytes:
    async def rows() -> AsyncGenerator[bytes, None]:
        for at in range(0, len(text), step):
            yield text[at : at + step]

    output = TableOutput(form=form, media_type=media_type, columns=columns, more=False)
    return b"".join([piece async for piece in table_of_rows(rows, output)])


forms = st.sampled_from(TableForm)


@given(tables(TYPES), forms, forms, st.integers(1, 4), st.integers(1, 30))
async def test_a_table_passes_csv(
    given_table: tuple[Any, list[OutputColumn]], source: TableForm, target: TableForm, group: int, step: int
) -> None:
    """Table to CSV to table gives the same table, for the types that columns of an output may have."""
    table, columns = given_table
    text = await text_of(stored(table, source, group), source, CSV, step)
    assert read(await table_of(text, CSV, columns, target, step), target).equals(table)


@given(tables({**TYPES, **LISTS}), forms, forms, st.integers(1, 4), st.integers(1, 30))
async def test_a_table_passes_json(
    given_table: tuple[Any, list[OutputColumn]], source: TableForm, target: TableForm, group: int, step: int
) -> None:
    """Table to JSON lines to table gives the same table, lists included."""
    table, columns = given_table
    text = await text_of(stored(table, source, group), source, JSON, step)
    again = read(await table_of(text, JSON, columns, target, step), target)
    assert again.to_pydict() == table.to_pydict()
    assert [str(kind).replace("element:", "item:") for kind in again.schema.types] == [
        str(kind) for kind in table.schema.types
    ]


@given(tables({name: kind for name, kind in {**TYPES, **LISTS}.items() if "float" not in name}))
def test_json_says_what_the_table_says(given_table: tuple[Any, list[OutputColumn]]) -> None:
    """Each line is a JSON object with the values of its row."""
    table, _ = given_table
    for batch in table.to_batches():
        lines = json_rows(batch).splitlines()
        assert [orjson.loads(line) for line in lines] == [_jsonable(row) for row in batch.to_pylist()]


@given(tables({"string": TYPES["string"]}))
def test_other_readers_take_our_csv(given_table: tuple[Any, list[OutputColumn]]) -> None:
    """Python's own reader gives the same strings; a null is an empty field."""
    table, _ = given_table
    for batch in table.to_batches():
        text = io.StringIO(csv_rows(batch).decode(), newline="")
        expected = [[value or "" for value in row.values()] for row in batch.to_pylist()]
        if any("\r" in value or "\0" in value for row in expected for value in row):
            continue  # which that reader takes for line ends, or not at all
        assert list(csv.reader(text)) == expected


@given(forms, st.binary(max_size=400), st.integers(0, 1 << 12), st.integers(1, 8))
async def test_damaged_tables_are_told(form: TableForm, noise: bytes, at: int, group: int) -> None:
    """Whatever the bytes of an object are, they are read or it is told that they can't: nothing else is raised."""
    table = pa.table({"a": list(range(20)), "b": [str(n) for n in range(20)], "c": [[n] for n in range(20)]})
    whole = stored(table, form, group)
    at %= len(whole)
    for damaged in (noise, whole[:at] + noise + whole[at + len(noise) :], whole[:at], whole[:at] + whole[at + 1 :]):
        try:
            await text_of(damaged, form, JSON, 1000)
        except UnfitFormat as exc:
            assert str(exc)


@given(forms, st.sampled_from([CSV, JSON]), st.binary(max_size=60), st.integers(1, 9))
async def test_rows_of_any_bytes_are_written_or_told(form: TableForm, media_type: str, text: bytes, step: int) -> None:
    """Whatever answers hold, they become a table or the row is told that does not: nothing else is raised."""
    output = TableOutput(form=form, media_type=media_type)

    async def rows() -> AsyncGenerator[bytes, None]:
        for at in range(0, len(text), step):
            yield text[at : at + step]

    try:
        data = b"".join([piece async for piece in table_of_rows(rows, output)])
    except UnfitFormat as exc:
        assert str(exc)
    else:
        read(data, form)


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _jsonable(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_jsonable(element) for element in value]
    if isinstance(value, datetime):
        return value.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
