"""Tests of filters that say more than SageMaker's may."""

import json
from typing import Any

import pytest

from millrace.dataplane.jsonpath import FilterError, InvalidFilter, parse_filter
from millrace.dataplane.payload import Payload
from millrace.dataplane.processing import Processing
from millrace.dataplane.validate import validate_spec
from millrace.errors import ValidationError
from millrace.jobs.transform import AssembleWith, DataProcessing, JoinSource, SplitType, TransformSpec
from millrace.names import ObjectPrefix

ROW = ["c0", "c1", "c2", "c3", "c4", "c5"]
RECORD = {"account_id": 7, "user-name": "é", "naïve ø": [1, 2, 3, 4], "_": {"x_y": True}}


def job(environment: dict[str, str], **processing: Any) -> TransformSpec:
    return TransformSpec(
        model="m",
        source=ObjectPrefix("shop", "in/"),
        output=ObjectPrefix("shop", "out"),
        split=SplitType.LINE,
        assemble_with=AssembleWith.LINE,
        content_type="application/jsonlines",
        accept="application/jsonlines",
        environment=environment,
        processing=DataProcessing(**processing),
    )


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("$[0,2:]", ["c0", "c2", "c3", "c4", "c5"]),
        ("$[0:2,5:]", ["c0", "c1", "c2", "c5"]),
        ("$[ 4: , 0 ]", ["c4", "c5", "c0"]),
        ("$[:1,-1]", ["c0", "c1", "c5"]),
    ],
)
def test_a_bracket_takes_several_ranges(text: str, columns: list[str]) -> None:
    """They come in the order written, both ends included."""
    assert parse_filter(text, "text/csv", extended=True).columns(ROW) == columns
    assert parse_filter(text, "application/json", extended=True).select(ROW) == columns


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("content_type", ["text/csv", "application/json"])
@pytest.mark.parametrize("text", ["$[99999999999]", "$[-99999999999]", "$[0,99999999999]", "$[:99999999999]"])
def test_no_column_has_a_number_beyond_all_rows(text: str, content_type: str, extended: bool) -> None:
    """A number that no row can be cut by is refused with the filter, not met while the job runs."""
    with pytest.raises(InvalidFilter, match=r"must be between -2147483647 and 2147483647, got -?99999999999"):
        parse_filter(text, content_type, extended=extended)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$.account_id", 7),
        ("$['user-name']", "é"),
        ("$['account_id','user-name']", {"account_id": 7, "user-name": "é"}),
        ("$['naïve ø'][0,2:]", [1, 3, 4]),
        ("$._.x_y", True),
    ],
)
def test_names_have_any_characters(text: str, value: object) -> None:
    """What SageMaker refuses by its characters selects as other names do."""
    assert parse_filter(text, "application/jsonlines", extended=True).select(RECORD) == value


@pytest.mark.parametrize("text", ["$[0,5:]", "$.account_id", "$['user_name']"])
def test_without_the_option_they_are_refused(text: str) -> None:
    """Jobs are refused as they are on SageMaker."""
    with pytest.raises(InvalidFilter, match=r"only single range filters|Unexpected"):
        parse_filter(text, "application/json")


@pytest.mark.parametrize(
    ("text", "media_type"),
    [("$.a_b", "text/csv"), ("$['a']", "text/csv"), ("$[a]", "application/json"), ("$[0,a:]", "application/json"),
     ("$[1:2:3,4]", "text/csv"), ("$x" * 32, "application/json"), ("$[0,1:", "text/csv")],
)  # fmt: skip
def test_what_is_no_filter_is_refused_in_any_case(text: str, media_type: str) -> None:
    """Rows of CSV have no names; a filter has at most 63 characters."""
    with pytest.raises(InvalidFilter):
        parse_filter(text, media_type, extended=True)


def test_what_is_not_there_is_told() -> None:
    """As for any filter."""
    with pytest.raises(FilterError, match="index 9 is outside of 6 elements"):
        parse_filter("$[0,9:]", "text/csv", extended=True).columns(ROW)


def test_a_job_asks_for_them_by_a_variable() -> None:
    """Both filters are taken then, when the job is created and when it runs."""
    filters = {"input_filter": "$['naïve ø'][0,2:]", "output_filter": "$['account_id','SageMakerOutput']"}
    extended = job({"MILLRACE_FILTERS": "extended"}, join_source=JoinSource.INPUT, **filters)
    validate_spec(extended)
    with pytest.raises(ValidationError, match="only single range filters"):
        validate_spec(job({}, join_source=JoinSource.INPUT, **filters))
    with pytest.raises(ValidationError, match=r"MILLRACE_FILTERS must be one of \[sagemaker, extended\]"):
        validate_spec(job({"MILLRACE_FILTERS": "all"}))
    processing = Processing(extended)
    body = json.dumps(RECORD).encode() + b"\n"
    payload = Payload(body, len(body), 1, 0, 1)
    assert processing.prepare(payload)
    assert payload.joined() == b"[1,3,4]\n"
    assert processing.complete(payload, b"0.5\n") == b'{"SageMakerOutput":0.5,"account_id":7}\n'
