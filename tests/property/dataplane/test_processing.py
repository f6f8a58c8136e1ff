"""Laws of filters and joins: they do what a naive model does."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.property.dataplane.processing_jobs import processing_job

from millrace.dataplane.batch import Payload
from millrace.dataplane.jsonpath import Filter, FilterError, Format, InvalidFilter, parse_filter
from millrace.dataplane.processing import Processing, locate
from millrace.dataplane.rows import RowError, parse_csv, parse_json, serialize_csv, serialize_json

cell = st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), max_size=6) | st.sampled_from(
    ['"', ",", '""', '","', " a "]
)
rows = st.lists(cell, min_size=1, max_size=6).filter(lambda cells: cells != [""])
value = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


class Token(str):
    """A number as it was written."""

    __slots__ = ()


def naive(text: str) -> bytes:
    """Return compact, sorted JSON with its number tokens, the slow and plain way."""

    def write(value: Any) -> str:
        if isinstance(value, Token):
            return str(value)
        if isinstance(value, dict):
            members = sorted(value.items(), key=lambda member: member[0].encode())
            return "{" + ",".join(f"{write(key)}:{write(member)}" for key, member in members) + "}"
        if isinstance(value, list):
            return "[" + ",".join(map(write, value)) + "]"
        return json.dumps(value, ensure_ascii=False)

    return write(json.loads(text, parse_float=Token, parse_int=Token)).encode()


def payload(body: bytes) -> Payload:
    return Payload(body, len(body), 1, 0, body.count(b"\n"))


@given(rows)
def test_csv_rows_survive_a_round_trip(cells: list[str]) -> None:
    """What is written for a row reads as the row."""
    assert parse_csv(serialize_csv(cells)) == cells


@given(st.binary(max_size=30).filter(lambda line: b"\n" not in line))
def test_any_bytes_are_a_csv_row_or_an_error(line: bytes) -> None:
    """A line without quotes keeps its bytes; any other is read, or refused with a reason."""
    try:
        fields = parse_csv(line)
    except RowError as exc:
        assert b'"' in line
        assert "quoted field found near" in str(exc)
    else:
        assert b'"' in line or b",".join([serialize_csv([one]) for one in fields]) == serialize_csv(fields)


@given(st.lists(st.tuples(rows, rows), min_size=1, max_size=4), st.sampled_from(["\n", "\r\n"]))
def test_a_csv_join_is_the_rows_side_by_side(pairs: list[tuple[list[str], list[str]]], end: str) -> None:
    """Each output row is the input row followed by the answer's row, whichever way is quick enough to write it."""
    body = "".join(serialize_csv(one).decode() + end for one, _ in pairs).encode()
    answer = "\n".join(serialize_csv(other).decode() for _, other in pairs).encode()
    one_payload = payload(body)
    processing = Processing(processing_job(Format.CSV))
    assert processing.prepare(one_payload)
    assert one_payload.joined() == body
    expected = b"".join(serialize_csv(one + other) + b"\n" for one, other in pairs)
    assert processing.complete(one_payload, answer) == expected


@given(value, st.sampled_from([None, 1]), st.booleans())
def test_json_keeps_its_tokens(document: Any, indent: int | None, escaped: bool) -> None:
    """Reading and writing JSON sorts members and drops white space; numbers stay as written."""
    text = json.dumps(document, indent=indent, ensure_ascii=escaped)
    assert serialize_json(parse_json(text.encode())) == naive(text)


@given(st.from_regex(r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?", fullmatch=True))
def test_numbers_stay_as_written(token: str) -> None:
    """Any JSON number is written as it was read, alone or within."""
    assert serialize_json(parse_json(token.encode())) == token.encode()
    assert serialize_json(parse_json(b'{"n": [%b]}' % token.encode())) == b'{"n":[%b]}' % token.encode()


@given(st.binary(max_size=20))
def test_any_bytes_are_json_or_an_error(text: bytes) -> None:
    """Bytes are one JSON document, or are refused with a reason."""
    try:
        parsed = parse_json(text)
    except RowError:
        return
    serialize_json(parsed)


@given(st.lists(st.tuples(value, value), min_size=1, max_size=3))
def test_a_json_join_adds_a_member(pairs: list[tuple[Any, Any]]) -> None:
    """An object gets the answer as SageMakerOutput; any other value stands beside it as SageMakerInput."""
    body = b"".join(json.dumps(record).encode() + b"\n" for record, _ in pairs)
    answer = b"\n".join(json.dumps(row).encode() for _, row in pairs)
    one_payload = payload(body)
    processing = Processing(processing_job(Format.JSON_LINES))
    assert processing.prepare(one_payload)
    expected = []
    for record, row in pairs:
        joined = dict(record) if isinstance(record, dict) else {"SageMakerInput": record}
        joined["SageMakerOutput"] = row
        expected.append(naive(json.dumps(joined)) + b"\n")
    assert processing.complete(one_payload, answer) == b"".join(expected)


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=4), st.lists(cell, min_size=1, max_size=5))
def test_indexes_select_columns_in_the_order_written(indexes: list[int], row: list[str]) -> None:
    """Columns come as written, negative ones from the end; one that is not there is an error."""
    chosen = parse_filter(f"$[{','.join(map(str, indexes))}]", Format.CSV)
    if all(-len(row) <= index < len(row) for index in indexes):
        assert chosen.columns(row) == [row[index] for index in indexes]
    else:
        with pytest.raises(FilterError):
            chosen.columns(row)


@given(st.none() | st.integers(-6, 6), st.none() | st.integers(-6, 6), st.lists(cell, min_size=1, max_size=5))
def test_slices_include_both_ends(start: int | None, end: int | None, row: list[str]) -> None:
    """A slice takes its first and its last column too; bounds outside of the row and empty slices are errors."""
    chosen = parse_filter(f"$[{'' if start is None else start}:{'' if end is None else end}]", Format.CSV)
    size = len(row)
    first = 0 if start is None else start + size * (start < 0)
    last = size - 1 if end is None else end + size * (end < 0)
    if 0 <= first <= last < size:
        assert chosen.columns(row) == [row[index] for index in range(first, last + 1)]
    else:
        with pytest.raises(FilterError):
            chosen.columns(row)


@given(st.text(alphabet="$[]*.,:-' 01ab_?@é", max_size=20), st.sampled_from(Format.ALL), value)
def test_any_text_is_a_filter_or_an_error(text: str, content_type: str, document: Any) -> None:
    """A filter text is parsed or refused; a parsed one selects or says what is missing. Nothing else can happen."""
    try:
        parsed = parse_filter(text, content_type)
    except InvalidFilter as exc:
        assert text in str(exc)
        return
    assert isinstance(parsed, Filter)
    for given_value in (document, [document], {"a": document}):
        try:
            parsed.select(given_value)
        except FilterError as exc:
            assert str(exc)


@given(st.lists(st.sampled_from([b"a\n", b"\n", b"\r\n", b"bb\r\n"]), max_size=8))
def test_a_record_is_found_among_blank_lines(lines: list[bytes]) -> None:
    """The n-th record's place counts the blank lines before it."""
    raw = b"".join(lines)
    positions = [number for number, line in enumerate(lines) if line.strip()]
    for position, number in enumerate(positions):
        assert locate(raw, position) == (number, sum(map(len, lines[:number])))


@given(
    depth=st.integers(200, 1100),
    leaf=st.sampled_from([b"1", b"1.0e400", b'"\\ud800"', b'[1.50,"\\ud800"]']),
    brackets=st.sampled_from([(b"[", b"]"), (b'{"a":', b"}")]),
)
def test_json_is_nested_as_deeply_as_it_can_be_written_again(
    depth: int, leaf: bytes, brackets: tuple[bytes, bytes]
) -> None:
    """What is parsed can be serialized; anything deeper is refused as a bad row."""
    text = brackets[0] * depth + leaf + brackets[1] * depth
    try:
        value = parse_json(text)
    except RowError as exc:
        assert "nested too deeply" in str(exc)
    else:
        assert serialize_json(value)
