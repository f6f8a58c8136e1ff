"""CORS: which rule lets which page do what."""

from typing import Any

import pytest

from millrace.errors import S3Error
from millrace.services.s3.cors import allowing_headers, check_cors, find_rule

RULES: list[dict[str, Any]] = [
    {"AllowedMethods": ["GET", "HEAD"], "AllowedOrigins": ["https://*.example.com"], "ExposeHeaders": ["ETag"]},
    {"AllowedMethods": ["PUT"], "AllowedOrigins": ["*"], "AllowedHeaders": ["x-amz-*"], "MaxAgeSeconds": 60},
]


@pytest.mark.parametrize(
    ("origin", "method", "headers", "rule"),
    [
        ("https://a.example.com", "GET", [], 0),
        ("https://example.org", "GET", [], None),
        ("https://a.example.com", "DELETE", [], None),
        ("https://a.example.com", "GET", ["x-other"], None),
        ("null", "PUT", ["x-amz-acl"], 1),
        ("null", "PUT", ["content-type"], None),
    ],
)
def test_the_first_rule_that_fits_decides(origin: str, method: str, headers: list[str], rule: int | None) -> None:
    """Origin, method and every header have to fit."""
    found = find_rule(RULES, origin=origin, method=method, headers=headers)
    assert found is (None if rule is None else RULES[rule])


def test_the_answer_names_the_origin_unless_all_are_meant() -> None:
    """Credentials go with a named origin only."""
    named = dict(allowing_headers(RULES[0], origin="https://a.example.com", headers=[]))
    assert named["Access-Control-Allow-Origin"] == "https://a.example.com"
    assert named["Access-Control-Allow-Credentials"] == "true"
    assert named["Access-Control-Expose-Headers"] == "ETag"
    anybody = dict(allowing_headers(RULES[1], origin="null", headers=["x-amz-acl"]))
    assert anybody["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in anybody
    assert anybody["Access-Control-Allow-Headers"] == "x-amz-acl"
    assert anybody["Access-Control-Max-Age"] == "60"


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"AllowedMethods": ["PATCH"], "AllowedOrigins": ["*"]}, "Unsupported method is PATCH"),
        ({"AllowedMethods": ["GET"], "AllowedOrigins": ["*.*"]}, "can not have more than one wildcard"),
    ],
)
def test_rules_that_s3_refuses_are_refused(rule: dict[str, Any], words: str) -> None:
    """The message names the value."""
    with pytest.raises(S3Error, match=words):
        check_cors({"CORSRules": [rule]})
