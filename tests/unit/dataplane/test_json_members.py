"""Records of JSON are filtered and joined by the text of their members."""

import pytest

from millrace.dataplane.json_members import JsonMembers
from millrace.dataplane.json_text import all_written, canonical, is_text, is_worth_searching, may_nest_deeply
from millrace.dataplane.jsonpath import Format, parse_filter
from millrace.dataplane.payload import Payload
from millrace.dataplane.processing import Processing
from millrace.jobs.transform import AssembleWith, BatchStrategy, DataProcessing, JoinSource, SplitType, TransformSpec
from millrace.names import ObjectPrefix

NUMBERS = b"[%b]" % b",".join([b"1.50"] * 200)


def members(input_filter: str, output_filter: str, *, joins: bool = True) -> JsonMembers:
    return JsonMembers(
        parse_filter(input_filter, Format.JSON_LINES), parse_filter(output_filter, Format.JSON_LINES), joins=joins
    )


def test_one_pass_gives_what_is_sent_and_the_frames() -> None:
    """Where both filters begin with names, what is sent comes with what the answers will be joined with."""
    all_sent = members("$.x", "$['id','SageMakerOutput']").all_sent
    assert all_sent is not None
    assert all_sent([b'{"id":1,"x":[1.0]}', b'{"x":{"b":1, "a":2},"id":"\\u0041"}'], True) == (
        b'[1.0]\n{"a":2,"b":1}\n',
        [(b'{"SageMakerOutput":', b',"id":1}'), (b'{"SageMakerOutput":', b',"id":"A"}')],
    )
    assert all_sent([b'{"id":7,"x":1}'], True) == (b"1\n", [(b'{"SageMakerOutput":', b',"id":7}')])


def test_values_may_hold_percent_signs() -> None:
    """Values stand in the text of rows as they are, whatever they hold."""
    spelled = members("$['a','b']", "$", joins=False).all_sent
    assert spelled is not None
    assert spelled([b'{"b":"%b","a":1}'] * 2, False) == (b'{"a":1,"b":"%b"}\n' * 2, [])


def test_frames_have_members_on_both_sides() -> None:
    """Members stand before and behind the answer, sorted by name; one of the answer's own name gives way to it."""
    framed = members("$", "$['id','A','SageMakerOutput']").framed
    assert framed is not None
    assert framed(b'{"id":1,"SageMakerOutput":3,"A":"x y"}') == (b'{"A":"x y","SageMakerOutput":', b',"id":1}')


@pytest.mark.parametrize(
    ("record", "frame"),
    [
        (b'{"SageMakerOutput":0,"Z":%b,"A": 1}' % NUMBERS, (b'{"A":1,"SageMakerOutput":', b',"Z":%b}' % NUMBERS)),
        (NUMBERS, (b'{"SageMakerInput":%b,"SageMakerOutput":' % NUMBERS, b"}")),
        (b'{"short":1}', None),
        (NUMBERS[:-1], None),
        (b'{"wide":%b}' % NUMBERS.replace(b",", b',{"a":1},'), None),
    ],
)
def test_whole_records_are_framed_where_that_takes_less(record: bytes, frame: tuple[bytes, bytes] | None) -> None:
    """A record with few long members, much of them numbers, is put together from text; others are left to be parsed."""
    framed = members("$", "$").framed
    assert framed is not None
    assert framed(record) == frame


@pytest.mark.parametrize(
    ("document", "written"),
    [
        (b'{"score": 0.50}', b'{"score":0.50}'),
        (b'{"b":1,"a":2}', b'{"a":2,"b":1}'),
        (NUMBERS, NUMBERS),
        (b'{"b":%b, "a":1}' % NUMBERS, b'{"a":1,"b":%b}' % NUMBERS),
        (b"1 2", None),
        (NUMBERS + b"]", None),
    ],
)
def test_documents_are_rewritten(document: bytes, written: bytes | None) -> None:
    """A document is written without white space, members sorted, numbers as they came; what is none gives None."""
    assert canonical(document) == written


def test_texts_are_written_one_by_one_where_one_is_not_yet() -> None:
    """All values come as they are to be written, alone and as lines."""
    assert all_written([b"1.0", b'"x"']) == ([b"1.0", b'"x"'], b'1.0\n"x"')
    assert all_written([b"[1, 2]", b'"x y"', b"\t3"]) == ([b"[1,2]", b'"x y"', b"3"], b'[1,2]\n"x y"\n3')


def test_text_is_utf_8() -> None:
    """Bytes that are no UTF-8 are no text."""
    assert is_text("é".encode())
    assert not is_text(b"\xe9")


def test_a_matrix_does_not_nest_deeply() -> None:
    """Rows of a matrix stand beside each other, however many there are."""
    assert not may_nest_deeply(b"[%b]" % b",".join([b"[1,2]"] * 1000))
    assert may_nest_deeply(b"[" * 300 + b"]" * 300)


def test_texts_and_columns_are_not_searched() -> None:
    """Documents of texts, and of many short members, are parsed."""
    assert is_worth_searching(NUMBERS)
    assert not is_worth_searching(b'{"text":"%b"}' % (b"a few words, " * 20))
    assert not is_worth_searching(b"{%b}" % b",".join(b'"column %d":1.5' % number for number in range(100)))


@pytest.mark.parametrize(("size", "keeps"), [(600, True), (100, False)])
def test_frames_are_kept_with_long_records_only(size: int, keeps: bool) -> None:
    """What answers are joined with waits for them only where it is little beside the payload."""
    record = b'{"id":1,"x":"%b"}\n' % (b"y" * size)
    processing = Processing(
        TransformSpec(
            model="m",
            source=ObjectPrefix("shop", ""),
            output=ObjectPrefix("shop", "o"),
            split=SplitType.LINE,
            assemble_with=AssembleWith.LINE,
            strategy=BatchStrategy.MULTI_RECORD,
            content_type=Format.JSON_LINES,
            accept=Format.JSON_LINES,
            processing=DataProcessing(
                input_filter="$.x", output_filter="$['id','SageMakerOutput']", join_source=JoinSource.INPUT
            ),
        )
    )
    payload = Payload(record * 2, 2 * len(record), 1, 0, 2)
    assert processing.prepare(payload)
    assert (payload.frames is not None) is keeps
    assert processing.complete(payload, b"1\n2\n") == b'{"SageMakerOutput":1,"id":1}\n{"SageMakerOutput":2,"id":1}\n'
