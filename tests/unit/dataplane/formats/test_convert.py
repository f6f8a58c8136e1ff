"""Rows of answers as tables."""

import asyncio
import gc
import io
import threading
from typing import Any

import pyarrow as pa
import pytest
from tests.unit.dataplane.formats.tables import joined, parquet, read, rows, views

from millrace.dataplane.formats.absent_rows import ABSENT_ROW
from millrace.dataplane.formats.answer_columns import answer_columns
from millrace.dataplane.formats.columns import parse_output_columns
from millrace.dataplane.formats.convert import TableOutput, joined_table, table_of_rows
from millrace.dataplane.formats.options import Codec, TableForm
from millrace.dataplane.formats.row_blocks import BLOCK_BYTES
from millrace.dataplane.formats.unreadable import UnfitFormat
from millrace.testing.objects import MemoryObjects

CSV, JSON = "text/csv", "application/jsonlines"


def output(media_type: str, columns: str = "", form: TableForm = TableForm.PARQUET, **more: Any) -> TableOutput:
    named = parse_output_columns(columns) if columns else ()
    return TableOutput(form=form, media_type=media_type, columns=named, more=not named, **more)


async def table(text: bytes, media_type: str, columns: str = "", form: TableForm = TableForm.PARQUET) -> Any:
    return read(await joined(table_of_rows(rows(text), output(media_type, columns, form))), form)


def types(found: Any) -> dict[str, str]:
    return {field.name: str(field.type) for field in found.schema}


@pytest.mark.parametrize(
    ("text", "columns", "expected"),
    [
        (b"1\n2\n", "", {"SageMakerOutput": "int64"}),
        (b"1\n\n2.5\n", "", {"SageMakerOutput": "double"}),
        (b"1,a\n2,b\n", "", {"SageMakerOutput_1": "int64", "SageMakerOutput_2": "string"}),
        (b"1,true\nx,1\n", "a,b", {"a": "string", "b": "string"}),
        (b"2024-01-01,\n", "day,nothing", {"day": "string", "nothing": "null"}),
        (b"2024-01-01,3\n", "day:date,n:float", {"day": "date32[day]", "n": "float"}),
        (b"nan,inf\n", "a,b", {"a": "double", "b": "double"}),
        (b"", "a:int8,b", {"a": "int8", "b": "null"}),
    ],
)
async def test_types_of_csv_are_those_of_all_rows(text: bytes, columns: str, expected: dict[str, str]) -> None:
    """A type that is not stated fits every row of the output, not only the first ones."""
    for form in TableForm:
        assert types(await table(text, CSV, columns, form)) == expected


async def test_values_of_csv_are_kept() -> None:
    """An empty field is null, one between quotes an empty string; quoted fields hold commas and line feeds."""
    found = await table(b'1,"a,\nb"\n,""\n3,\r\n', CSV, "n:int8,s")
    assert found.to_pydict() == {"n": [1, None, 3], "s": ["a,\nb", "", None]}
    found = await table(b'1\n""\n3', CSV, "n")
    assert found.to_pydict() == {"n": [1, None, 3]}


@pytest.mark.parametrize(("answer", "width"), [(b"1,a\n", 2), (b"1\n", 1), (b"", 1)])
def test_columns_are_named_by_the_first_row_of_an_answer(answer: bytes, width: int) -> None:
    """Rows that stand for bad records tell nothing of columns, however many blocks of them come first."""
    columns = answer_columns(CSV, (), more=True)
    assert columns.look(b'""\n""\n', 1) == 2
    columns.look(answer, 3)
    columns.settle()
    assert len(columns.schema) == width
    assert columns.parse(b'""\n""\n', 1).to_pylist() == 2 * [dict.fromkeys(columns.schema.names)]


async def test_times_are_of_any_iso_form() -> None:
    """A column of times is UTC; a time that tells no zone is taken for it."""
    found = await table(b"2024-01-01T12:00:00+02:00\n2024-01-01 10:00:00.5\n2024-01-01T10:00:00Z\n", CSV, "t:timestamp")
    assert [str(moment) for moment in found.column("t").to_pylist()] == [
        "2024-01-01 10:00:00+00:00",
        "2024-01-01 10:00:00.500000+00:00",
        "2024-01-01 10:00:00+00:00",
    ]


@pytest.mark.parametrize(
    ("text", "columns", "expected"),
    [
        (b'{"p":1,"l":"a"}\n{"p":0.5}\n', "", {"p": "double", "l": "string"}),
        (b'{"p":1,"l":"a"}\n{"p":0.5}\n', "l", {"l": "string"}),
        (b'{"p":1}\n', "p:float,q:string,r", {"p": "float", "q": "string", "r": "null"}),
        (b'{"v":[1]}\n{"v":[0.5]}\n', "", {"v": "list<element: double>"}),
        (b'{"o":{"a":1}}\n{"o":{"b":"x"}}\n', "", {"o": "struct<a: int64, b: string>"}),
        (b"[0.5,1]\n[]\n", "vector:list<float>", {"vector": "list<element: float>"}),
        (b"1\n2\n", "", {"SageMakerOutput": "int64"}),
        (b'{"t":"2024-01-01T00:00:00"}\n{"t":"soon"}\n', "", {"t": "string"}),
        (b'{"t":"2024-01-01T00:00:00"}\n', "t:timestamp", {"t": "timestamp[us, tz=UTC]"}),
    ],
)
async def test_members_of_json_become_columns(text: bytes, columns: str, expected: dict[str, str]) -> None:
    """Members are columns; a row that is no object is one column by itself."""
    assert types(await table(text, JSON, columns)) == expected


@pytest.mark.parametrize(
    ("media_type", "text", "columns", "told"),
    [
        (CSV, b"1\n2,3\n", "", "Failed to read rows 1 to 2 of the output: CSV parse error: row 2: Expected 1 columns"),
        (CSV, b"1,2\n", "a", "row 1 of the output must have a column for each of [a], got 2 columns"),
        (CSV, b"x\n", "a:int8", "column \"a\", row 1: CSV conversion error to int8: invalid value 'x'"),
        (CSV, b"1,2\n\n3,x\n", "a,b:double", "column \"b\", row 2: CSV conversion error to double: invalid value 'x'"),
        (
            CSV,
            b"1,2020-01-01\n2,soon\n",
            "a,b:date",
            'row 2 of the output: column "b" must be of type date, got \'soon',
        ),
        (CSV, b"x,\xff\n", "a,b:string", 'column "b", row 1: CSV conversion error to string: invalid UTF8 data'),
        (CSV, b'"x\n', "", "the rows of CSV end between quotes"),
        (CSV, b"\xff\n", "", 'column "SageMakerOutput" of the output has bytes that are not UTF-8'),
        (CSV, b'a"b\n"\n', "", "as CSV: bare"),
        (JSON, b'{"a":1}\n2\n', "", "row 2 is no object, earlier ones are an object"),
        (JSON, b'{"a":1}\n{"a":"x"}\n', "", 'JSON parse error: column "a", row 2: changed from number to string'),
        (JSON, b'{"o":{"a":1}}\n{"o":{"a":"x"}}\n', "", 'column "o.a", row 2: changed from number to string'),
        (JSON, b'{"a":1}\n{"a":}\n', "", "JSON parse error: Invalid value in row 2"),
        (JSON, b'{"a":1,"b":1000}\n', "a:int8,b:int8", 'of the output: column "b": Failed to convert JSON to int8'),
        (JSON, b'{"a":["1999-12-31"]}\n{"a":["soon"]}\n', "a:list<date>", 'row 2 of the output: column "a" must be of'),
        (JSON, b'{"a":1}{"a":2}\n', "", "each line must be one row"),
        (JSON, b'{"a":"x"}\n{"a":"\xff"}\n', "", "row 2 of the output has bytes that are not UTF-8"),
        (JSON, b'"x"\n\n"\xff"\n', "", "row 2 of the output has bytes that are not UTF-8"),
        (JSON, b'{"a\xff":1}\n', "", "row 1 of the output has bytes that are not UTF-8"),
        (JSON, b"{}\n", "", "must have members to become columns"),
        (JSON, b"1\n", "a,b", "must be JSON objects with the members [a, b]"),
    ],
)
async def test_rows_that_are_no_table_are_told(media_type: str, text: bytes, columns: str, told: str) -> None:
    """Rows that don't fit fail the object; the message says which rows and why."""
    with pytest.raises(UnfitFormat) as caught:
        await table(text, media_type, columns)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("media_type", "columns", "row", "bad"),
    [
        (CSV, "a,b:double", b"%d,0.5\n", b"1,x\n"),
        (CSV, "a,b:date", b"%d,2020-01-01\n", b"1,x\n"),
        (JSON, "a:int64,b:date", b'{"a":%d,"b":"2020-01-01"}\n', b'{"a":1,"b":"x"}\n'),
        (JSON, "a,b", b'{"a":%d,"b":1}\n', b'{"a":1,"b":"x"}\n'),
    ],
)
async def test_a_value_far_behind_is_told_with_its_column_and_row(
    media_type: str, columns: str, row: bytes, bad: bytes
) -> None:
    """Rows are counted from the first of the output, not from that of the block they are parsed in."""
    count = 1 + BLOCK_BYTES // (len(row) - 2)
    text = b"".join([row % n for n in range(count)]) + bad
    with pytest.raises(UnfitFormat) as caught:
        await table(text, media_type, columns)
    told = str(caught.value)
    assert 'column "b"' in told
    assert f"row {count + 1}" in told


@pytest.mark.parametrize("form", TableForm)
async def test_the_same_rows_give_the_same_file(form: TableForm) -> None:
    """However rows are cut into chunks, the file is the same to the byte."""
    text = b"".join([b'%d,"row %d"\n' % (n, n) for n in range(3000)])
    made = {await joined(table_of_rows(rows(text, step), output(CSV, "n,s", form))) for step in (10, 1000, len(text))}
    assert len(made) == 1


@pytest.mark.parametrize(
    ("form", "codec"), [(TableForm.PARQUET, Codec.GZIP), (TableForm.PARQUET, Codec.ZSTD), (TableForm.ARROW, Codec.ZSTD)]
)
async def test_tables_are_compressed_inside(form: TableForm, codec: Codec) -> None:
    """A compressed table is a table to its readers."""
    text = b"0.5\n" * 10_000
    plain = await joined(table_of_rows(rows(text, 9999), output(CSV, "", TableForm.ARROW)))
    small = await joined(table_of_rows(rows(text, 9999), output(CSV, "", form, codec=codec)))
    assert len(small) < len(plain) / 4
    assert read(small, form).num_rows == 10_000


async def test_placeholders_are_rows_of_nulls() -> None:
    """What stands for a record without an answer is a row, however many columns there are."""
    found = await table(b'""\n1,a\n""\n', CSV)
    assert found.to_pydict() == {"SageMakerOutput_1": [None, 1, None], "SageMakerOutput_2": [None, "a", None]}
    assert (await table(b'""\n2\n', CSV, "n:int8")).to_pydict() == {"n": [None, 2]}
    assert (await table(b'""\n""\n', CSV, "a:int8,b:string")).to_pydict() == {"a": [None] * 2, "b": [None] * 2}
    assert (await table(b'null\n{"a":1}\n', JSON)).to_pydict() == {"a": [None, 1]}
    assert (await table(b"null\n2\n", JSON)).to_pydict() == {"SageMakerOutput": [None, 2]}


INPUT = pa.table({"id": [1, 2, 3], "k": pa.array(["u", "v", "u"]).dictionary_encode(), "e": [[1.5], None, []]})


async def join(text: bytes, media_type: str, columns: str = "", form: TableForm = TableForm.PARQUET) -> Any:
    objects = MemoryObjects()
    ref = objects.add("s3://shop/t", parquet(INPUT))
    wanted = output(media_type, columns, form)
    made = joined_table(rows(text), wanted, objects=objects, ref=ref, form=TableForm.PARQUET)
    return read(await joined(made), form)


async def test_a_join_adds_columns() -> None:
    """The input's columns keep their types and values, row by row; the answer's stand behind them."""
    for form in TableForm:
        found = await join(b"0.5\n1\n\n2\n", CSV, "score:float", form)
        assert found.to_pydict() == {**INPUT.to_pydict(), "score": [0.5, 1, 2]}
        assert str(found.schema.field("score").type) == "float"
        assert found.schema.field("e").type.value_type == pa.float64()
    found = await join(b'{"p":1,"l":"a"}\n{"p":2}\n{"l":"x"}\n', JSON)
    assert found.select(["p", "l"]).to_pydict() == {"p": [1, 2, None], "l": ["a", None, "x"]}


@pytest.mark.parametrize("form", TableForm)
async def test_rows_that_are_left_out_are_left_out_of_the_input(form: TableForm) -> None:
    """A record without an answer has no row in a join; the others keep theirs, and their types."""
    found = await join(b"%s\n2\n%s\n" % (ABSENT_ROW, ABSENT_ROW), CSV, "score", form)
    assert found.to_pydict() == {**INPUT.slice(1, 1).to_pydict(), "score": [2]}
    found = await join(b'{"p":1}\n%s\n{"p":3}\n' % ABSENT_ROW, JSON, "", form)
    assert found.select(["id", "p"]).to_pydict() == {"id": [1, 3], "p": [1, 3]}
    found = await join(b"%s\n" % ABSENT_ROW * 3, CSV, "score:float", form)
    assert (found.num_rows, found.column_names) == (0, ["id", "k", "e", "score"])


@pytest.mark.parametrize("form", TableForm)
async def test_categories_pass_a_join(form: TableForm) -> None:
    """Each batch may have categories of its own, also within lists, and views as their values, as those of Polars."""
    batches = [
        pa.record_batch({"c": views(pa.array(words)), "l": pa.ListArray.from_arrays([0, 1, 2], views(pa.array(words)))})
        for words in (["a", None], ["b", "a"])
    ]
    given = pa.table({"c": ["a", None, "b", "a"], "l": [["a"], [None], ["b"], ["a"]]})
    file = io.BytesIO()
    with pa.ipc.new_stream(file, batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    objects = MemoryObjects()
    ref = objects.add("s3://shop/in.arrow", file.getvalue())
    wanted = output(CSV, "score", form)
    made = joined_table(rows(b"1\n2\n3\n4\n"), wanted, objects=objects, ref=ref, form=TableForm.ARROW)
    found = read(await joined(made), form)
    assert found.to_pydict() == {**given.to_pydict(), "score": [1, 2, 3, 4]}


@pytest.mark.parametrize(
    ("text", "columns", "told"),
    [
        (b"1\n2\n", "s", "a join needs an answer row for each row of s3://shop/t: row 3 has none"),
        (b"1\n2\n3\n4\n", "s", "it has 3 rows, answers have more"),
        (b"1\n2\n3\n", "id", 'the input has a column "id" already; name the answer\'s columns by'),
    ],
)
async def test_a_join_that_does_not_fit_is_told(text: bytes, columns: str, told: str) -> None:
    """Rows join one to one, and columns have names of their own."""
    with pytest.raises(UnfitFormat) as caught:
        await join(text, CSV, columns)
    assert told in str(caught.value)


async def test_writing_that_is_broken_off_ends() -> None:
    """Whoever takes no more pieces of a file ends the work on it, in the middle of a row group, without a trace."""
    text = b"".join(b"%d\n" % (row * 7919 % 1000003) for row in range(300_000))
    pieces = table_of_rows(rows(text, step=100_000), output(CSV))
    await anext(pieces)
    await pieces.aclose()
    assert not [
        thread for thread in threading.enumerate() if thread.name.startswith("formats") and await _lives(thread)
    ]
    gc.collect()


async def _lives(thread: threading.Thread) -> bool:
    await asyncio.to_thread(thread.join, 30)
    return thread.is_alive()


async def test_parts_of_a_row_group_may_have_dictionaries_of_their_own() -> None:
    """Categories that differ from batch to batch are categories of the table that is written."""
    batches = [pa.table({"c": pa.array([f"{at}-{row % 9}" for row in range(900)]).dictionary_encode()}) for at in "abc"]
    source = io.BytesIO()
    with pa.ipc.new_stream(source, batches[0].schema) as writer:
        for batch in batches:
            writer.write_table(batch)
    objects = MemoryObjects()
    ref = objects.add("s3://shop/t", source.getvalue())
    text = b"".join(b"%d\n" % row for row in range(2700))
    written = joined_table(rows(text, 999), output(CSV), objects=objects, ref=ref, form=TableForm.ARROW)
    found = read(await joined(written), TableForm.PARQUET)
    assert found.column("c").to_pylist() == [value for batch in batches for value in batch.column("c").to_pylist()]
    assert found.column("SageMakerOutput").to_pylist() == list(range(2700))
