"""What values of tables are written as."""

from datetime import date, time
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from millrace.dataplane.formats.row_text import csv_rows, header_row, json_rows
from millrace.dataplane.formats.unreadable import UnfitFormat

VALUES = [
    (pa.array([1, None], pa.int8()), "1", "1"),
    (pa.array([2**64 - 1, None], pa.uint64()), "18446744073709551615", "18446744073709551615"),
    (pa.array([0.1, None]), "0.1", "0.1"),
    (pa.array([1.0, None]), "1", "1"),
    (pa.array([0.1, None], pa.float32()), "0.1", "0.1"),
    (pa.array([float("nan"), None]), "nan", "null"),
    (pa.array([float("-inf"), None]), "-inf", "null"),
    (pa.array([True, None]), "true", "true"),
    (pa.array([Decimal("1.50"), None]), "1.50", "1.50"),
    (pa.array([date(2024, 2, 29), None]), "2024-02-29", '"2024-02-29"'),
    (pa.array([time(12, 30, 1), None], pa.time32("s")), "12:30:01", '"12:30:01"'),
    (pa.array([0, None], pa.timestamp("ms")), "1970-01-01T00:00:00.000", '"1970-01-01T00:00:00.000"'),
    (pa.array([0, None], pa.timestamp("s", "Asia/Tokyo")), "1970-01-01T00:00:00Z", '"1970-01-01T00:00:00Z"'),
    (pa.array([b"\x00\x01", None]), "AAE=", '"AAE="'),
    (pa.array(["text", None]), "text", '"text"'),
    (pa.array(["", None]), '""', '""'),
    (pa.array(['a "b"', None]), '"a ""b"""', '"a \\"b\\""'),
    (pa.array(["a,b", None], pa.large_string()), '"a,b"', '"a,b"'),
    (pa.array(["é", None], pa.string_view()), "é", '"é"'),
    (pa.array(["x", None]).dictionary_encode(), "x", '"x"'),
    (
        pa.ExtensionArray.from_storage(pa.uuid(), pa.array([bytes(range(16)), None], pa.binary(16))),
        "00010203-0405-0607-0809-0a0b0c0d0e0f",
        '"00010203-0405-0607-0809-0a0b0c0d0e0f"',
    ),
]
NESTED = [
    (pa.array([[1, None], None, []], pa.list_(pa.int32())), b"[[1,null],null,[]]"),
    (pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int32(), 2)), b"[[1,2],null,[3,4]]"),
    (pa.array([[["a"], []], None, [None]], pa.large_list(pa.list_(pa.string()))), b'[[["a"],[]],null,[null]]'),
    (pa.array([{"x": 1, "y": ["é\n"]}, None, {"x": None}]), '[{"x":1,"y":["é\\n"]},null,{"x":null,"y":null}]'.encode()),
    (
        pa.array([[("k", 1), ("l", None)], None, []], pa.map_(pa.string(), pa.int64())),
        b'[{"k":1,"l":null},null,{}]',
    ),
    (pa.array([[(1, "v")], None, []], pa.map_(pa.int8(), pa.string())), b'[{"1":"v"},null,{}]'),
]


@pytest.mark.parametrize(("column", "csv", "json"), VALUES, ids=lambda value: str(getattr(value, "type", value)))
def test_each_type_has_its_text(column: Any, csv: str, json: str) -> None:
    """A value is written in full; a null is an empty field of CSV, and null in JSON."""
    batch = pa.record_batch({"n": [1, 2], "v": column})
    assert csv_rows(batch).decode() == f"1,{csv}\n2,\n"
    assert json_rows(batch).decode() == f'{{"n":1,"v":{json}}}\n{{"n":2,"v":null}}\n'


@pytest.mark.parametrize(("column", "json"), NESTED, ids=lambda value: str(getattr(value, "type", "")))
def test_nested_values_are_json_only(column: Any, json: bytes) -> None:
    """Lists, structs and maps are arrays and objects of JSON; CSV has no place for them, which names the column."""
    for start in (0, 1):
        batch = pa.record_batch({"v": pa.concat_arrays([column, column])}).slice(start, 3)
        lines = json_rows(pa.record_batch({"v": column})).splitlines()
        assert b"[" + b",".join([line[5:-1] for line in lines]) + b"]" == json
        assert json_rows(batch).splitlines() == [*lines, *lines][start : start + 3]
    with pytest.raises(UnfitFormat, match=r'column "v" has type .*, which text/csv cannot hold; take application/json'):
        csv_rows(pa.record_batch({"v": column}))


def test_a_row_of_csv_is_never_an_empty_line() -> None:
    """A null that is all of a row is a pair of quotes: an empty line would be no record to many readers."""
    assert csv_rows(pa.record_batch({"a": [1, None, 3]})) == b'1\n""\n3\n'


def test_names_of_columns_are_a_row_of_csv() -> None:
    """A name is quoted where it must be."""
    assert header_row(["id", "a,b"]) == b'id,"a,b"\n'


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"d": pa.array([1], pa.duration("s"))}, 'column "d" has type duration[s], which has no text'),
        ({"d": pa.array([2**31 - 1], pa.date32())}, "has a value beyond the dates that can be written"),
        ({"s": pa.array([b"\xff"]).view(pa.string())}, 'column "s" has a string that is not UTF-8'),
        ({"s": pa.array([{"d": None}], pa.struct([("d", pa.duration("s"))]))}, 'column "s.d" has type duration[s]'),
    ],
)
def test_what_has_no_text_is_told_by_its_column(columns: dict[str, Any], told: str) -> None:
    """A column that cannot be written fails the object, by its name."""
    with pytest.raises(UnfitFormat) as caught:
        json_rows(pa.record_batch(columns))
    assert told in str(caught.value)


def test_members_of_json_need_names_of_their_own() -> None:
    """Two columns of one name are fine in CSV, and refused in JSON."""
    batch = pa.record_batch([pa.array([1]), pa.array([2])], names=["a", "a"])
    assert csv_rows(batch) == b"1,2\n"
    with pytest.raises(UnfitFormat, match='columns share the name "a"'):
        json_rows(batch)


def test_a_table_without_columns_is_refused() -> None:
    """Rows of nothing have no text."""
    for write in (csv_rows, json_rows):
        with pytest.raises(UnfitFormat, match="must have at least one column"):
            write(pa.record_batch({}))
