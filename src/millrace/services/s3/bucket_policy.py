"""Bucket policies: read one, refuse what would not be enforced, evaluate it for a request.

A policy is what the owner of a bucket relies on to keep others out, so nothing in it is ignored: an element, principal,
condition operator or condition key that is not evaluated here is refused when the policy is put.

Source:
    IAM user guide, "Policy evaluation logic" and "JSON policy element reference".
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any

from millrace.services.s3.faults import fault
from millrace.services.s3.policy_conditions import Condition, Facts, parse_conditions
from millrace.services.s3.wildcards import matches

__all__ = ["Effect", "Policy", "Statement", "Subject", "parse_policy", "stored_policy"]

MAX_POLICY_BYTES = 20 * 1024
"""S3's own limit."""

_VERSIONS = ("2008-10-17", "2012-10-17")
_ELEMENTS = frozenset(
    {
        "Sid",
        "Effect",
        "Principal",
        "NotPrincipal",
        "Action",
        "NotAction",
        "Resource",
        "NotResource",
        "Condition",
    }
)
_ARN = "arn:aws:s3:::"


class Effect(Enum):
    """What a policy says about a request."""

    ALLOW = "Allow"
    DENY = "Deny"
    NOTHING = "nothing"


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """Who asks: the ways in which a policy may name the caller; an anonymous one has none."""

    account: str | None = None
    arns: tuple[str, ...] = ()
    canonical_id: str | None = None

    @property
    def names(self) -> frozenset[str]:
        """All names of the caller."""
        if self.account is None:
            return frozenset()
        return frozenset({self.account, f"arn:aws:iam::{self.account}:root", *self.arns, self.canonical_id or ""})


@dataclass(frozen=True, kw_only=True, slots=True)
class Statement:
    """One statement. `principals` None stands for everybody; `not_*` turn the list after them round."""

    effect: Effect
    principals: frozenset[str] | None
    not_principals: bool
    actions: tuple[str, ...]
    not_actions: bool
    resources: tuple[str, ...]
    not_resources: bool
    conditions: tuple[Condition, ...]

    def applies(self, subject: Subject, action: str, resource: str, facts: Facts) -> bool:
        """Tell whether the statement is about a request."""
        named = self.principals is None or not self.principals.isdisjoint(subject.names)
        if named == self.not_principals:
            return False
        lowered = action.lower()
        if any(matches(pattern.lower(), lowered) for pattern in self.actions) == self.not_actions:
            return False
        if any(matches(pattern, resource) for pattern in self.resources) == self.not_resources:
            return False
        return all(condition.holds(facts) for condition in self.conditions)

    @property
    def is_public(self) -> bool:
        """Whether it lets in anybody, whatever else is true of the request.

        Source:
            S3 user guide, "The meaning of 'public'": a condition on the caller's account or address with a fixed value
            makes a statement not public.
        """
        if self.effect is not Effect.ALLOW or (self.principals is not None and not self.not_principals):
            return False
        return not any(condition.limits_callers for condition in self.conditions)


@dataclass(frozen=True, slots=True)
class Policy:
    """The statements of a policy."""

    statements: tuple[Statement, ...]

    def evaluate(self, subject: Subject, action: str, resource: str, facts: Facts) -> Effect:
        """Return what the policy says: one denial outweighs everything."""
        effects = {
            statement.effect for statement in self.statements if statement.applies(subject, action, resource, facts)
        }
        return Effect.DENY if Effect.DENY in effects else Effect.ALLOW if effects else Effect.NOTHING

    @property
    def is_public(self) -> bool:
        """Whether a statement lets in anybody."""
        return any(statement.is_public for statement in self.statements)


@lru_cache(maxsize=256)
def stored_policy(text: str, bucket: str) -> Policy:
    """Return a policy that was accepted once."""
    return parse_policy(text, bucket)


def parse_policy(text: str, bucket: str) -> Policy:
    """Read a policy for a bucket.

    Raises:
        S3Error: MalformedPolicy; the message names the statement, the rule and the value.
    """
    if len(text.encode()) > MAX_POLICY_BYTES:
        raise fault("MalformedPolicy", f"A bucket policy may have at most {MAX_POLICY_BYTES} bytes")
    try:
        document = json.loads(text)
    except ValueError:
        raise fault("MalformedPolicy") from None
    if not isinstance(document, dict):
        raise fault("MalformedPolicy")
    version = document.get("Version", _VERSIONS[0])
    if version not in _VERSIONS:
        raise fault("MalformedPolicy", f"Version must be one of {', '.join(_VERSIONS)}, got {version!r}")
    unknown = document.keys() - {"Version", "Id", "Statement"}
    if unknown:
        raise fault("MalformedPolicy", f"Unknown field {min(unknown)!r} in the policy")
    statements = document.get("Statement")
    if isinstance(statements, dict):
        statements = [statements]
    if not isinstance(statements, list) or not statements:
        raise fault("MalformedPolicy", "Missing required field Statement")
    return Policy(tuple(_statement(f"Statement[{at}]", entry, bucket) for at, entry in enumerate(statements)))


def _statement(where: str, document: Any, bucket: str) -> Statement:
    if not isinstance(document, dict):
        raise fault("MalformedPolicy", f"{where} must be an object, got {document!r}")
    unknown = document.keys() - _ELEMENTS
    if unknown:
        raise fault("MalformedPolicy", f"{where}: unknown field {min(unknown)!r}")
    effect = document.get("Effect")
    if effect not in ("Allow", "Deny"):
        raise fault("MalformedPolicy", f"{where}.Effect must be Allow or Deny, got {effect!r}")
    principal, not_principals = _either(where, document, "Principal")
    actions, not_actions = _either(where, document, "Action")
    resources, not_resources = _either(where, document, "Resource")
    if not_principals and effect == "Allow":
        raise fault("MalformedPolicy", f"{where}: Allow with NotPrincipal is not supported")
    return Statement(
        effect=Effect(effect),
        principals=_principals(where, principal),
        not_principals=not_principals,
        actions=_actions(where, _texts(f"{where}.Action", actions)),
        not_actions=not_actions,
        resources=_resources(where, _texts(f"{where}.Resource", resources), bucket),
        not_resources=not_resources,
        conditions=parse_conditions(f"{where}.Condition", document.get("Condition") or {}),
    )


def _either(where: str, document: Mapping[str, Any], name: str) -> tuple[Any, bool]:
    """Return an element, or its opposite and True."""
    if (name in document) == (f"Not{name}" in document):
        raise fault("MalformedPolicy", f"{where} must have either {name} or Not{name}")
    return (document[name], False) if name in document else (document[f"Not{name}"], True)


def _texts(where: str, value: Any) -> Sequence[str]:
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not found or not all(isinstance(text, str) for text in found):
        raise fault("MalformedPolicy", f"{where} must be a text or a list of texts, got {value!r}")
    for text in found:
        if "${" in text:
            raise fault("MalformedPolicy", f"{where}: policy variables are not supported, got {text!r}")
    return found


def _principals(where: str, value: Any) -> frozenset[str] | None:
    if value == "*":
        return None
    if not isinstance(value, dict) or not value:
        raise fault("MalformedPolicy", f"{where}: Invalid principal in policy: {value!r}")
    named: set[str] = set()
    for kind, names in value.items():
        for name in _texts(f"{where}.Principal.{kind}", names):
            if kind == "AWS" and name == "*":
                return None
            is_account = len(name) == 12 and name.isdigit()
            is_arn = name.startswith(("arn:aws:iam::", "arn:aws:sts::")) and "*" not in name
            if not (kind == "CanonicalUser" or (kind == "AWS" and (is_account or is_arn)) or kind == "Service"):
                raise fault("MalformedPolicy", f"{where}: Invalid principal in policy: {kind} {name!r}")
            named.add(name)
    return frozenset(named)


def _actions(where: str, patterns: Sequence[str]) -> tuple[str, ...]:
    for pattern in patterns:
        if pattern != "*" and not pattern.lower().startswith("s3:"):
            raise fault("MalformedPolicy", f"{where}: Policy has invalid action: {pattern!r}")
    return tuple(patterns)


def _resources(where: str, patterns: Sequence[str], bucket: str) -> tuple[str, ...]:
    for pattern in patterns:
        name, slash, _ = pattern.removeprefix(_ARN).partition("/")
        # A wildcard may stand for the bucket's name, but another bucket's name is a mistake.
        if pattern != "*" and not ((pattern.startswith(_ARN) and matches(name, bucket)) or (not slash and name == "*")):
            raise fault("MalformedPolicy", f"{where}: Policy has invalid resource: {pattern!r}")
    return tuple(patterns)
