"""Tests of failure texts, counters and the latency histogram."""

from datetime import UTC, datetime

import pytest

from millrace.dataplane.failures import data_log_line, failure_lines, select_failures
from millrace.dataplane.jsonpath import InvalidFilter, parse_filter
from millrace.dataplane.progress import LatencyHistogram
from millrace.jobs.transform import ObjectFailure
from millrace.names import ObjectRef


def failure(key: str, label: str = "ClientError", **more: object) -> ObjectFailure:
    return ObjectFailure(key=key, label=label, message="it broke", **more)  # type: ignore[arg-type]


def test_kept_failures_hold_one_of_each_class() -> None:
    """However many fail, the first by key are kept, and one of a class that is not among them."""
    many = [failure(f"k{n:02d}") for n in range(20)] + [failure("z", "AlgorithmError")]
    assert [one.key for one in select_failures(many, 3)] == ["k00", "k01", "k02", "z"]


def test_the_data_log_is_in_sagemakers_form() -> None:
    """Each line has the time in UTC to the millisecond; the container's message follows in a block of lines."""
    now = datetime(2020, 1, 2, 3, 4, 5, 67_999, tzinfo=UTC)
    assert data_log_line(now, "x") == "2020-01-02T03:04:05.067:[sagemaker logs]: x"
    assert list(failure_lines(ObjectRef("b", "k"), "ClientError: 400", "one\ntwo")) == [
        "b/k: ClientError: 400",
        "b/k: ",
        "b/k: Message:",
        "b/k: one",
        "b/k: two",
    ]
    assert list(failure_lines(ObjectRef("b", "k"), "Unable to get response from algorithm", None)) == [
        "b/k: Unable to get response from algorithm"
    ]


def test_percentiles_are_right_within_a_bucket() -> None:
    """Half of the latencies are at most the median, and it is off by less than an eighth, from 1 us to an hour."""
    for scale in (1e-5, 1e-3, 1.0, 36.0):
        histogram = LatencyHistogram()
        for step in range(1, 101):
            histogram.add(step * scale)
        assert histogram.count == 100
        assert 50 <= histogram.percentile_ms(0.5) / 1000 / scale <= 50 * 1.13 + 1
        assert 99 <= histogram.percentile_ms(0.99) / 1000 / scale <= 99 * 1.13 + 1
    assert LatencyHistogram().percentile_ms(0.5) == 0.0


@pytest.mark.parametrize(
    ("text", "content_type", "why"),
    [
        ("", "text/csv", 'must start with "$"'),
        ("[0]", "text/csv", 'must start with "$"'),
        ("$0", "text/csv", 'expected "." or "["'),
        ("$[0", "text/csv", "is not closed"),
        ("$[0][1]", "text/csv", "one bracket is allowed"),
        ("$[]", "text/csv", 'expected a column number, got ""'),
        ("$[1:2:3]", "text/csv", "only single range filters"),
        ("$..id", "application/json", "expected a name"),
        ("$.a b", "application/json", 'expected "." or "["'),
        ("$['a','b.c']", "application/json", "nested name 'b.c'"),
        ("$['a' 'b']", "application/json", "separated by commas"),
        ("$['']", "application/json", "empty name"),
        ("$.[0]", "application/json", "only names in quotes"),
        ("$.a?", "application/json", 'Unexpected "?" in JsonPath'),
        ("$[0]", "image/png", "need a content type"),
    ],
)
def test_a_bad_filter_says_why(text: str, content_type: str, why: str) -> None:
    """What is wrong with a filter is told, with the filter's text."""
    with pytest.raises(InvalidFilter) as caught:
        parse_filter(text, content_type)
    assert why in str(caught.value)
    assert text in str(caught.value)


def test_media_types_compare_without_parameters_and_case() -> None:
    """`Text/CSV; charset=utf-8` is text/csv."""
    assert parse_filter("$[0]", "Text/CSV; charset=utf-8").columns(["a", "b"]) == ["a"]


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        ("$.a.b", 1),
        ("$['a']['b']", 1),
        ("$.a.['b','c']", {"b": 1, "c": [5, 6, 7]}),
        ("$.a.*", [1, [5, 6, 7]]),
        ("$.a.c[0:1]", [5, 6]),
        ("$.a.c[-1]", 7),
        ("$.l[*].n", [1, 2]),
        ("$.l[0,1].n", [1, 2]),
    ],
)
def test_a_path_leads_through_a_document(text: str, selected: object) -> None:
    """Names, indexes, slices and wildcards follow each other; what selects many goes on in each."""
    document = {"a": {"c": [5, 6, 7], "b": 1}, "l": [{"n": 1}, {"n": 2}]}
    assert parse_filter(text, "application/json").select(document) == selected
