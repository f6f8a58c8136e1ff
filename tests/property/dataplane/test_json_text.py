"""Laws of rows of JSON that are worked on as text: they come out as if each record had been parsed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.property.dataplane.processing_jobs import outcome, processing_job

from millrace.dataplane.jsonpath import Format
from millrace.dataplane.processing import Processing
from millrace.dataplane.rows import PIECE_BYTES
from millrace.jobs.transform import SplitType

INPUT_FILTERS = ["$", "$.features", "$['id','features']", "$['id','id']", "$.features[0]", "$.a.b", "$.*", "$.é"]
OUTPUT_FILTERS = [
    "$",
    "$['id','SageMakerOutput']",
    "$['A','id','SageMakerOutput','a']",
    "$['id']",
    "$['a','id']",
    "$.SageMakerOutput",
    "$.SageMakerOutput.score",
    "$.id",
    "$.a.b",
    "$['a','SageMakerOutput'].b",
    "$.*",
    "$.SageMakerInput",
]
space = st.sampled_from([b"", b"", b"", b"", b" ", b"\t", b"  ", b"\r"])
number = st.from_regex(rb"\A-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?\Z") | st.sampled_from(
    [b"0", b"1", b"-0", b"1.50", b"0.25", b"1e400", b"1E5", b"123456789012345678901234567890"]
)
string = st.sampled_from(
    [
        b'""',
        b'"x"',
        b'"two words"',
        b'"\\u0041"',
        b'"\\n\\"\\/\\\\"',
        b'"\\ud83d\\ude00"',
        b'"\\ud800"',
        b'"\\udc00x"',
        '"é€😀\u2028\x7f"'.encode(),
        b'"{[,]}"',
        b'"],[],[],["',
    ]
)
names = [b"id", b"features", b"a", b"b", b"A", b"score", b"SageMakerOutput", b"SageMakerInput", "é".encode(), b""]
name = st.sampled_from([b'"%b"' % one for one in (*names, b"\\u0069d", b"with space", b"\\ud800")])
paddings = [b"", b"", b'"p":"%b",' % (b"x" * 500), b'"p":[%b[]],' % (b"[1,2]," * 90), b'"p":[%b2],' % (b"1.5," * 150)]


@st.composite
def array_of(draw: st.DrawFn, inner: st.SearchStrategy[bytes]) -> bytes:
    elements = draw(st.lists(inner, max_size=3))
    return b"[%b]" % b",".join(draw(space) + element + draw(space) for element in elements) if elements else b"[]"


@st.composite
def object_of(draw: st.DrawFn, inner: st.SearchStrategy[bytes]) -> bytes:
    members = draw(st.lists(st.tuples(name, inner), max_size=4))
    return b"{%b}" % b",".join(draw(space) + key + draw(space) + b":" + draw(space) + one for key, one in members)


scalar = number | string | st.sampled_from([b"null", b"true", b"false"])
text = st.recursive(scalar, lambda inner: array_of(inner) | object_of(inner), max_leaves=8)


@st.composite
def good_record(draw: st.DrawFn) -> bytes:
    """Return a record that all filters can take."""
    members = [
        b'"id":' + draw(space) + draw(scalar),
        b'"features":[%b,%b]' % (draw(space) + draw(text), draw(text)),
        b'"a":{"b":%b,%b:%b}' % (draw(text), draw(name.filter(lambda one: one != b'"b"')), draw(text)),
        b'"A":' + draw(text),
        '"é":'.encode() + draw(text),
        draw(name) + b":" + draw(text),
    ]
    ordered = draw(st.permutations(members[:5]))
    return b"{%b%b}" % (draw(st.sampled_from(paddings)), b",".join(draw(st.sampled_from([members[5:], []])) + ordered))


@st.composite
def bad_record(draw: st.DrawFn) -> bytes:
    """Return a record that some filters can't take, or that is none."""
    kind = draw(st.integers(0, 2))
    if kind < 2:
        return draw(text if kind else object_of(text))
    found = draw(good_record())
    at = draw(st.integers(0, len(found)))
    changed = draw(st.sampled_from([b"", b"\xff", b"{", b"}", b'"', b"\\", b",", b"\x00"]))
    return found[:at] + changed + found[at + 1 :]


good_answer = st.sampled_from([b'{"score":0.5}', b'{"score": 0.50}', b'{"b":1,"a":2,"score":[1]}']) | text.map(
    lambda one: b'{"score":%b}' % one
)
good_pairs = st.lists(st.tuples(good_record(), good_answer), min_size=1, max_size=4)
any_pairs = st.lists(
    st.tuples(good_record() | bad_record(), good_answer | text | object_of(text)), min_size=1, max_size=4
)


@given(
    good_pairs | any_pairs,
    st.sampled_from(INPUT_FILTERS),
    st.sampled_from(OUTPUT_FILTERS),
    st.booleans(),
    st.sampled_from([Format.JSON, Format.JSON_LINES, Format.JSON_LINES]),
    st.sampled_from([SplitType.LINE, SplitType.LINE, SplitType.NONE]),
    st.sampled_from([b"\n", b"\n", b"\r\n", b"\n\n"]),
    st.sampled_from([0, 0, 0, 0, 0, 0, 1, -1]),
)
def test_rows_come_out_as_if_each_was_parsed(
    pairs: list[tuple[bytes, bytes]],
    input_filter: str,
    output_filter: str,
    join: bool,
    content_type: str,
    split: SplitType,
    end: bytes,
    too_many: int,
) -> None:
    """What is sent, what is written and what is told of a bad row are the same, whether records are parsed or not."""
    job = processing_job(content_type, split=split, input_filter=input_filter, output_filter=output_filter, join=join)
    body = b"".join(one + end for one, _ in pairs)
    answers = [row for _, row in pairs] + [b"1"] * (too_many > 0)
    answer_text = b"\n".join(answers[: len(answers) - (too_many < 0)])
    assert outcome(Processing(job), body, answer_text) == outcome(Processing(job, parses_all=True), body, answer_text)


@given(
    good_record() | bad_record() | object_of(text),
    good_answer | text | object_of(text) | st.sampled_from([b'{"a":\n1}', b"1 2", b"1\n2", b"", b" "]),
    st.sampled_from([Format.JSON, Format.JSON_LINES]),
    st.sampled_from([b"\n", b"\n", b"\r\n", b"\n\n", b" \n", b""]),
    st.sampled_from([b"\n", b"", b"\r\n", b" ", b"\n\n"]),
)
def test_a_record_takes_its_answer_in_as_if_both_were_parsed(
    record: bytes, answer: bytes, content_type: str, end: bytes, answer_end: bytes
) -> None:
    """A job of one record a request that joins, and filters nothing, writes what it would write of parsed values."""
    job = processing_job(content_type, join=True)
    found = [
        outcome(Processing(job, parses_all=parses_all), record + end, answer + answer_end)
        for parses_all in (False, True)
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
@pytest.mark.parametrize("depth", [100, 199, 200, 253, 254, 255, 600, 1100])
@pytest.mark.parametrize("output_filter", ["$", "$['id','SageMakerOutput']", "$.SageMakerOutput"])
def test_records_nest_as_deeply_as_if_they_were_parsed(opening: bytes, depth: int, output_filter: str) -> None:
    """A record that is nested too deeply to be written is refused even where a filter leaves that part out."""
    deep = opening * depth + b"1" + {b"[": b"]", b'{"a":': b"}"}[opening] * depth
    job = processing_job(Format.JSON_LINES, input_filter="$.id", output_filter=output_filter)
    for body, answer_text in (
        (b'{"id":1,"deep":%b}\n' % deep, b"2"),
        (b'{"id":1}\n', b'{"deep":%b}' % deep),
        (b'{"id":1}\n', deep),
        (b'{"id":1,"rows":[%b]}\n' % b",".join([b"[1,2]"] * 300), b"[%b]" % b",".join([b"[1]"] * 300)),
    ):
        expected = outcome(Processing(job, parses_all=True), body, answer_text)
        assert outcome(Processing(job), body, answer_text) == expected


@pytest.mark.parametrize("input_filter", ["$", "$.features", "$['id','features']"])
@pytest.mark.parametrize("output_filter", ["$", "$['id','SageMakerOutput']"])
@pytest.mark.parametrize("padding", [0, 300])
def test_a_large_payload_comes_out_as_if_each_record_was_parsed(
    input_filter: str, output_filter: str, padding: int
) -> None:
    """It is worked on in pieces; of one record the text doesn't tell, and of one more or less nothing is written."""
    job = processing_job(Format.JSON_LINES, input_filter=input_filter, output_filter=output_filter)
    lines = [b'{"id":%d,"features":[%d,2.50],"p":"%b"}' % (n, n, b"x" * padding) for n in range(9_000)]
    lines[7_000] = b'{"id" : 7000 , "features":{"a" :1e5}, "features":[1]}'
    body = b"\n".join([*lines[:100], b"\n" * PIECE_BYTES, *lines[100:]]) + b"\n"
    for count in (9_000, 8_999, 9_001):
        answer = b"\n".join(b'{"score":%d}' % n for n in range(count))
        expected = outcome(Processing(job, parses_all=True), body, answer)
        for came in (answer, memoryview(answer), [answer[:1000], answer[1000:]]):
            assert outcome(Processing(job), body, came) == expected
