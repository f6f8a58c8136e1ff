"""Input that no client of good will sends."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.errors import ApiError, ValidationError
from millrace.protocol import json, query, xml
from millrace.protocol.bindings import Arguments
from millrace.protocol.bodies import MemoryBody, gunzip
from millrace.protocol.faults import MalformedRequest
from millrace.protocol.operations import service
from millrace.protocol.targets import BadTarget, decode_component, parse_pairs
from millrace.protocol.wire_values import BadValue

BOMB = b"""<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<Delete><Object><Key>&b;</Key></Object></Delete>"""
OUTSIDE = b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><Delete><Object><Key>&e;</Key></Object></Delete>'


@pytest.mark.parametrize(
    "content",
    [
        BOMB,
        OUTSIDE,
        b"<Delete",
        b"<a></b>",
        b"not xml",
        b"<Delete><Object><Key>&undefined;</Key></Object></Delete>",
        b"<a>" * 5000,
        b"\xff\xfe<",
        b"\x00",
        b'<?xml version="1.0" encoding="no-such"?><a/>',
        b"<Delete>\x01</Delete>",
        b"<a/><b/>",
    ],
)
def test_bad_xml_is_refused(content: bytes) -> None:
    """Entities, document types, deep nesting and broken XML are MalformedXML, and nothing is expanded or fetched."""
    with pytest.raises(MalformedRequest):
        service("s3").operation("DeleteObjects").parse(Arguments(labels={"Bucket": "b"}, content=content))


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[]",
        b'"text"',
        b"null",
        b"{'a': 1}",
        b"\xff",
        b'{"TransformJobName": 5}',
        b'{"TransformJobName": ["a"]}',
        b'{"MaxPayloadInMB": 1.5}',
        b'{"MaxPayloadInMB": "6"}',
        b'{"MaxPayloadInMB": true}',
        b'{"MaxPayloadInMB": 1e300}',
        b'{"Environment": []}',
        b'{"Tags": {}}',
        b'{"Tags": ["a"]}',
        b'{"TransformJobName": "\\ud800"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
)
def test_bad_json_is_refused(content: bytes) -> None:
    """What is no JSON, or of another type than the model says, is a SerializationException."""
    with pytest.raises(MalformedRequest):
        service("sagemaker").operation("CreateTransformJob").parse(Arguments(content=content))


def test_the_refusal_names_path_rule_and_value() -> None:
    """A wrong type deep in the input is told with its path, what was expected and what came."""
    content = b'{"Tags": [{"Key": "a"}, {"Key": 7}]}'
    with pytest.raises(MalformedRequest) as caught:
        service("sagemaker").operation("CreateTransformJob").parse(Arguments(content=content))
    assert caught.value.message == "Tags.2.Key: expected a string, got 7 (number)"


def test_recursive_shapes_do_not_overflow() -> None:
    """A search expression nested beyond any use is refused, not a crash."""
    content = b'{"Resource":"x","SearchExpression":' + b'{"SubExpressions":[' * 500 + b"]}" * 500 + b"}"
    with pytest.raises(MalformedRequest):
        service("sagemaker").operation("Search").parse(Arguments(content=content))


@pytest.mark.parametrize("raw", [b"%", b"a%2", b"%zz", b"%%41", b"%ff", b"\xff", b"%c3"])
def test_bad_percent_escapes_are_refused(raw: bytes) -> None:
    """Cut escapes and bytes that are no UTF-8 are an InvalidURI."""
    with pytest.raises(BadTarget):
        decode_component(raw)


@given(st.text())
def test_percent_coding_round_trips(text: str) -> None:
    """Every text comes back from its percent-encoded form."""
    from urllib.parse import quote, quote_plus

    assert decode_component(quote(text, safe="", errors="surrogatepass").encode()) == text
    assert parse_pairs(f"k={quote_plus(text)}&x".encode()) == [("k", text), ("x", "")]


def test_forms_are_bounded() -> None:
    """Too many parameters and too deep names are refused."""
    with pytest.raises(BadTarget):
        parse_pairs(b"&".join([b"a=1"] * 20_002))
    with pytest.raises(BadValue):
        query.parse_form_tree([(".".join("a" * 100), "x")])


@pytest.mark.parametrize(
    "pairs",
    [
        [("Tags.member.x.Key", "a")],
        [("Tags.member.1.Key", "a"), ("Tags.member.01.Key", "b")],
        [("DurationSeconds", "ten")],
        [("DurationSeconds", "9" * 30)],
    ],
)
def test_bad_forms_are_refused(pairs: list[tuple[str, str]]) -> None:
    """Indices that are no numbers, or twice the same, and numbers that are none are refused."""
    with pytest.raises(MalformedRequest):
        service("sts").operation("AssumeRole").parse(Arguments(query=pairs))


def test_gzip_bombs_are_refused() -> None:
    """A small body that unpacks beyond the limit, or is no gzip, is refused without being unpacked whole."""
    import gzip

    assert gunzip(gzip.compress(b"abc"), 10) == b"abc"
    for content in (gzip.compress(bytes(10_000_000)), b"no gzip", gzip.compress(b"abc")[:-9]):
        with pytest.raises(ValidationError):
            gunzip(content, 1000)


async def test_bodies_beyond_the_limit_are_refused() -> None:
    """A body is never held beyond its limit."""
    with pytest.raises(ValidationError, match="at most 3 bytes"):
        await MemoryBody(b"abcd").read(3)


@given(st.binary(max_size=200))
def test_parsers_raise_their_own_errors_only(content: bytes) -> None:
    """Whatever the bytes, a parser either reads them or refuses them."""
    for name, operation in (
        ("sagemaker", "CreateTransformJob"),
        ("s3", "DeleteObjects"),
        ("s3", "PutBucketTagging"),
        ("lambda", "CreateFunction"),
    ):
        with suppress(ApiError):
            service(name).operation(operation).parse(
                Arguments(labels={"Bucket": "b", "FunctionName": "f"}, content=content)
            )
    for parse in (json.decode, xml.parse_document):
        with suppress(BadValue):
            parse(content)
