"""Bucket policies: what is accepted, and what it decides."""

import json
from typing import Any

import pytest

from millrace.errors import S3Error
from millrace.services.s3.bucket_policy import Effect, Subject, parse_policy

ANN = Subject(account="111122223333", arns=("arn:aws:iam::111122223333:role/Role",), canonical_id="c0ffee")
NOBODY = Subject()
OBJECT = "arn:aws:s3:::shop/a/b"


def policy(**statement: Any) -> Any:
    """Return the policy of one statement, which lets everybody read unless told otherwise."""
    base = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::shop/*"}
    chosen = {key: value for key, value in {**base, **statement}.items() if value is not None}
    return parse_policy(json.dumps({"Version": "2012-10-17", "Statement": [chosen]}), "shop")


@pytest.mark.parametrize(
    "principal",
    [
        "*",
        {"AWS": "*"},
        {"AWS": ["111122223333"]},
        {"AWS": "arn:aws:iam::111122223333:root"},
        {"CanonicalUser": "c0ffee"},
    ],
)
def test_a_caller_has_several_names(principal: Any) -> None:
    """The account, its root, its role's session and its canonical id are all the same caller."""
    assert policy(Principal=principal).evaluate(ANN, "s3:GetObject", OBJECT, {}) is Effect.ALLOW


def test_a_stranger_is_only_everybody() -> None:
    """Anonymous callers have no name but the star."""
    assert policy().evaluate(NOBODY, "s3:GetObject", OBJECT, {}) is Effect.ALLOW
    named = policy(Principal={"AWS": "111122223333"})
    assert named.evaluate(NOBODY, "s3:GetObject", OBJECT, {}) is Effect.NOTHING


def test_a_denial_outweighs_every_allowance() -> None:
    """Wherever it stands."""
    allow = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": ["arn:aws:s3:::shop", "arn:aws:s3:::shop/*"],
    }
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:Get*", "Resource": "arn:aws:s3:::shop/a/*"}
    both = parse_policy(json.dumps({"Statement": [deny, allow]}), "shop")
    assert both.evaluate(ANN, "s3:GetObject", OBJECT, {}) is Effect.DENY
    assert both.evaluate(ANN, "s3:PutObject", OBJECT, {}) is Effect.ALLOW
    assert both.evaluate(ANN, "s3:GetObject", "arn:aws:s3:::shop/b", {}) is Effect.ALLOW


def test_not_elements_turn_their_list_round() -> None:
    """NotPrincipal, NotAction and NotResource are about all others."""
    denied = policy(Effect="Deny", Principal=None, NotPrincipal={"AWS": "111122223333"})
    assert denied.evaluate(ANN, "s3:GetObject", OBJECT, {}) is Effect.NOTHING
    assert denied.evaluate(NOBODY, "s3:GetObject", OBJECT, {}) is Effect.DENY
    but_deletes = policy(Action=None, NotAction="s3:Delete*")
    assert but_deletes.evaluate(ANN, "s3:DeleteObject", OBJECT, {}) is Effect.NOTHING
    assert but_deletes.evaluate(ANN, "s3:getobject", OBJECT, {}) is Effect.ALLOW
    elsewhere = policy(Resource=None, NotResource="arn:aws:s3:::shop/a/*")
    assert elsewhere.evaluate(ANN, "s3:GetObject", OBJECT, {}) is Effect.NOTHING


@pytest.mark.parametrize(
    ("condition", "facts", "holds"),
    [
        ({"StringEquals": {"s3:prefix": ["a", "b"]}}, {"s3:prefix": ("b",)}, True),
        ({"StringEquals": {"s3:prefix": "a"}}, {}, False),
        ({"StringNotEquals": {"s3:prefix": "a"}}, {}, True),
        ({"StringNotEquals": {"s3:prefix": ["a", "b"]}}, {"s3:prefix": ("b",)}, False),
        ({"StringLike": {"aws:Referer": "http://x.org/*"}}, {"aws:referer": ("http://x.org/page",)}, True),
        ({"StringLikeIfExists": {"aws:Referer": "http://x.org/*"}}, {}, True),
        ({"Null": {"s3:x-amz-acl": "true"}}, {}, True),
        ({"Null": {"s3:x-amz-acl": True}}, {"s3:x-amz-acl": ("private",)}, False),
        ({"NumericLessThanEquals": {"s3:max-keys": "10"}}, {"s3:max-keys": ("10",)}, True),
        ({"NumericLessThanEquals": {"s3:max-keys": 10}}, {"s3:max-keys": ("11",)}, False),
        ({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, {"aws:sourceip": ("10.1.2.3",)}, True),
        ({"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, {"aws:sourceip": ("10.1.2.3",)}, False),
        ({"Bool": {"aws:SecureTransport": "false"}}, {"aws:securetransport": ("false",)}, True),
        (
            {"DateLessThan": {"aws:CurrentTime": "2030-01-01T00:00:00Z"}},
            {"aws:currenttime": ("2026-01-01T00:00:00Z",)},
            True,
        ),
        ({"StringEquals": {"s3:ExistingObjectTag/Team": "x"}}, {"s3:existingobjecttag/Team": ("x",)}, True),
        (
            {"ForAllValues:StringEquals": {"s3:RequestObjectTagKeys": ["a", "b"]}},
            {"s3:requestobjecttagkeys": ("a", "c")},
            False,
        ),
    ],
)
def test_conditions(condition: Any, facts: Any, holds: bool) -> None:
    """A statement is about a request if all its conditions hold."""
    decided = policy(Condition=condition).evaluate(ANN, "s3:GetObject", OBJECT, facts)
    assert decided is (Effect.ALLOW if holds else Effect.NOTHING)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ({"Effect": "Maybe"}, "Effect must be Allow or Deny, got 'Maybe'"),
        ({"Principal": {"AWS": "bob"}}, "Invalid principal in policy: AWS 'bob'"),
        ({"Action": "ec2:Run"}, "invalid action: 'ec2:Run'"),
        ({"Resource": "arn:aws:s3:::other/*"}, "invalid resource: 'arn:aws:s3:::other/"),
        ({"Resource": "arn:aws:s3:::shop/${aws:username}"}, "policy variables are not supported"),
        ({"Condition": {"Sometimes": {"s3:prefix": "a"}}}, "invalid condition operator: 'Sometimes'"),
        ({"Condition": {"StringEquals": {"aws:MultiFactorAuthAge": "1"}}}, "'aws:MultiFactorAuthAge' is not evaluated"),
        ({"Condition": {"IpAddress": {"aws:SourceIp": "here"}}}, "'here' is no value for IpAddress"),
        ({"Condition": {"Bool": {"aws:SecureTransport": "fals"}}}, "Bool takes true or false, got 'fals'"),
        ({"Condition": {"BoolIfExists": {"aws:SecureTransport": ["true", "1"]}}}, "takes true or false, got '1'"),
        ({"Condition": {"Null": {"s3:x-amz-acl": "maybe"}}}, "Null takes true or false, got 'maybe'"),
        ({"NotAction": "s3:*"}, "must have either Action or NotAction"),
        ({"Surprise": 1}, "unknown field 'Surprise'"),
    ],
)
def test_what_would_not_be_enforced_is_refused(statement: Any, words: str) -> None:
    """The message names the statement and the value."""
    with pytest.raises(S3Error) as caught:
        policy(**statement)
    assert caught.value.wire_code == "MalformedPolicy"
    assert words in caught.value.message
    assert "Statement[0]" in caught.value.message


@pytest.mark.parametrize(
    ("statement", "public"),
    [
        ({}, True),
        ({"Principal": {"AWS": "111122223333"}}, False),
        ({"Effect": "Deny"}, False),
        ({"Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}}, False),
        ({"Condition": {"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}}}, True),
        ({"Condition": {"StringLike": {"aws:Referer": "http://x.org/*"}}}, True),
    ],
)
def test_public_is_what_lets_in_anybody(statement: Any, public: bool) -> None:
    """A condition on who or where the caller is makes a statement not public; on what it sends, it does not."""
    assert policy(**statement).is_public is public
