"""Laws of rows of CSV that are worked on as text: they come out as if each had been parsed."""

from hypothesis import given
from hypothesis import strategies as st
from tests.property.dataplane.processing_jobs import outcome, processing_job

from millrace.dataplane.csv_text import columns_in_text
from millrace.dataplane.jsonpath import FILTER_LIMIT, LARGEST_NUMBER, FilterError, Format, parse_filter
from millrace.dataplane.processing import Processing
from millrace.dataplane.rows import PIECE_BYTES, parse_csv, serialize_csv

columns = st.one_of(st.integers(-4, 4), st.integers(-4, 4), st.sampled_from([LARGEST_NUMBER, -LARGEST_NUMBER])).map(str)
ranges = st.tuples(st.just("") | columns, st.just("") | columns).map(":".join)
filters = st.one_of(
    st.sampled_from(["$", "$[1:]", "$[0,-1]", "$[*]", "$[:-2]", "$[-1]"]),
    ranges.map("$[{}]".format),
    st.lists(columns, min_size=1, max_size=3).map(lambda found: f"$[{','.join(found)}]"),
    st.lists(columns | ranges, min_size=2, max_size=3).map(lambda found: f"$[{','.join(found)}]"),
).filter(lambda text: len(text) <= FILTER_LIMIT)
plain_fields = st.sampled_from([b"", b"0", b"1.50", b" x ", "é".encode(), b"\xff", b"\x00", b"a;b"])
fields = st.one_of(
    plain_fields,
    plain_fields,
    plain_fields,
    st.sampled_from([b'"q"', b'"a,b"', b'"say ""x"""', b'a"b', b'"open', b"\r"]),
)
plain_rows = st.lists(plain_fields, min_size=1, max_size=6).map(b",".join)
rows = plain_rows | st.lists(fields, min_size=1, max_size=6).map(b",".join)
pairs = st.lists(st.tuples(plain_rows, plain_rows), min_size=1, max_size=5) | st.lists(
    st.tuples(rows, rows), min_size=1, max_size=5
)


@given(
    pairs,
    filters,
    filters,
    st.booleans(),
    st.sampled_from([b"\n", b"\n", b"\r\n", b"\n\n"]),
    st.sampled_from([0, 0, 0, 0, 1, -1]),
)
def test_rows_come_out_as_if_each_was_parsed(
    pairs: list[tuple[bytes, bytes]], input_filter: str, output_filter: str, join: bool, end: bytes, too_many: int
) -> None:
    """What is sent, what is written and what is told of a bad row are the same, whether rows are parsed or not."""
    job = processing_job(
        Format.CSV,
        input_filter=input_filter,
        output_filter=output_filter,
        join=join,
        environment={"MILLRACE_FILTERS": "extended"},
    )
    body = b"".join(record + end for record, _ in pairs)
    answers = [row for _, row in pairs] + [b"1"] * (too_many > 0)
    answer = end.join(answers[: len(answers) - (too_many < 0)])
    assert outcome(Processing(job), body, answer) == outcome(Processing(job, parses_all=True), body, answer)


@given(plain_rows, filters)
def test_columns_in_text_are_those_of_the_parsed_row(row: bytes, text: str) -> None:
    """A row that has not all columns of a filter is never cut wrongly: it is left to who parses it."""
    chosen = parse_filter(text, Format.CSV, extended=True)
    select = columns_in_text(chosen)
    if select is None:
        return
    try:
        expected = serialize_csv(chosen.columns(parse_csv(row)))
    except FilterError:
        expected = None
    try:
        found = select(row)
    except IndexError:
        found = None
    assert found == expected


def test_a_large_payload_comes_out_as_if_each_row_was_parsed() -> None:
    """It is worked on in pieces, of which one has a row in quotes, and one no rows at all."""
    lines = [b"id%d,%b,%d" % (n, b"x" * (n % 90), n) for n in range(40_000)]
    lines[30_000] = b'"id,30000",y,1'
    lines[5_000] = b"\n" * (2 * PIECE_BYTES)
    answer = b"\n".join(b"%d,%d" % (n, n * n) for n in range(39_999))
    for output_filter in ("$", "$[0,-1]"):
        for input_filter in ("$", "$[1:]"):
            job = processing_job(Format.CSV, input_filter=input_filter, output_filter=output_filter)
            body = b"\n".join(lines) + b"\n"
            expected = outcome(Processing(job, parses_all=True), body, answer)
            for came in (answer, memoryview(answer), [answer[:1000], answer[1000:]]):
                assert outcome(Processing(job), body, came) == expected
            assert expected[1]
            for bad in (lines[:-1], [*lines, b"x"], [*lines[:-1], b'a"b']):
                body = b"\n".join(bad)
                assert outcome(Processing(job), body, answer) == outcome(Processing(job, parses_all=True), body, answer)
