"""Policies of uploads by form."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from millrace.errors import S3Error
from millrace.services.s3.post_policy import check_policy, check_signing_date, parse_post_policy

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def encoded(*conditions: Any, expiration: Any = "2026-01-02T00:00:00Z") -> str:
    """Return a policy as forms carry it."""
    return base64.b64encode(json.dumps({"expiration": expiration, "conditions": list(conditions)}).encode()).decode()


def refused(policy: str, fields: dict[str, str], words: str) -> None:
    """Expect a form to be refused with these words."""
    with pytest.raises(S3Error) as caught:
        check_policy(parse_post_policy(policy), fields, bucket="shop", now=NOW)
    assert words in caught.value.message


COMMON: tuple[Any, ...] = ({"bucket": "shop"}, ["starts-with", "$key", "in/"])


def test_fields_that_are_covered_pass() -> None:
    """Names count without case; signing fields and x-ignore-* need no condition."""
    policy = parse_post_policy(encoded(*COMMON, {"ACL": "private"}, ["content-length-range", 1, "10"]))
    fields = {"key": "in/a", "acl": "private", "policy": "...", "x-amz-signature": "...", "x-ignore-me": "1"}
    check_policy(policy, fields, bucket="shop", now=NOW)
    assert (policy.least_bytes, policy.most_bytes) == (1, 10)


def test_a_form_is_refused_for_what_it_says() -> None:
    """The message shows the condition, or the field that none covers."""
    refused(encoded(*COMMON), {"key": "out/a"}, '["starts-with", "$key", "in/"]')
    refused(encoded({"bucket": "other"}, COMMON[1]), {"key": "in/a"}, "Policy Condition failed")
    refused(encoded(*COMMON), {"key": "in/a", "acl": "public-read"}, "Extra input fields: acl")
    refused(encoded(COMMON[1]), {"key": "in/a"}, "Extra input fields: bucket")
    refused(encoded(*COMMON, expiration="2025-12-31T00:00:00Z"), {"key": "in/a"}, "Policy expired")


@pytest.mark.parametrize(
    "policy",
    [
        "no base64 of json",
        base64.b64encode(b"[]").decode(),
        base64.b64encode(b'{"conditions": []}').decode(),
        base64.b64encode(b'{"expiration": "2026-01-02T00:00:00Z"}').decode(),
        encoded(expiration="tomorrow"),
        encoded({}),
        encoded(["content-length-range", 0]),
        encoded(["content-length-range", -1, 5]),
        encoded(["matches", "$key", "x"]),
    ],
)
def test_a_policy_that_does_not_parse_is_invalid(policy: str) -> None:
    """InvalidPolicyDocument, with the reason."""
    with pytest.raises(S3Error) as caught:
        parse_post_policy(policy)
    assert (caught.value.wire_code, caught.value.wire_status) == ("InvalidPolicyDocument", 400)


def test_of_several_ranges_of_sizes_all_hold() -> None:
    """A second content-length-range narrows the first, whichever is the wider."""
    for ranges in ([[1, 10], [0, 1000]], [[0, 1000], [1, 10]], [[0, 10], [1, 1000]]):
        policy = parse_post_policy(encoded(*COMMON, *(["content-length-range", *sizes] for sizes in ranges)))
        assert (policy.least_bytes, policy.most_bytes) == (1, 10)


@pytest.mark.parametrize(
    ("day", "timestamp", "words"),
    [
        ("20251231", "20260101T000000Z", "must be that of x-amz-date"),
        ("20260101", "2026-01-01T00:00:00Z", "YYYYMMDD'T'HHMMSS'Z'"),
        ("20260101", "20260101T001501Z", "not yet valid"),
        ("20251224", "20251224T235959Z", "more than 7 days ago"),
    ],
)
def test_a_form_is_signed_on_its_day_and_not_long_ago(day: str, timestamp: str, words: str) -> None:
    """The credential's day is that of x-amz-date, which is not in the future and at most seven days ago."""
    with pytest.raises(S3Error, match=words):
        check_signing_date(day, timestamp, now=NOW, skew_seconds=900)


@pytest.mark.parametrize("age", [timedelta(days=7), timedelta(0), timedelta(minutes=-15)])
def test_a_form_is_good_for_a_week(age: timedelta) -> None:
    """A page may show the form that was signed days before, as long as its policy says."""
    signed = NOW - age
    check_signing_date(f"{signed:%Y%m%d}", f"{signed:%Y%m%dT%H%M%SZ}", now=NOW, skew_seconds=900)
