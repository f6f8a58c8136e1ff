"""The policy of an upload by form: what its signer lets the browser send.

Source:
    "Creating a POST policy", S3 API reference.
"""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from millrace.errors import S3Error
from millrace.services.s3.faults import fault

__all__ = ["PostPolicy", "check_policy", "check_signing_date", "parse_post_policy"]

_NEEDS_NO_CONDITION = ("x-ignore-", "x-amz-checksum-")
"""Starts of field names that a policy need not cover: they can't change whose or what object it is."""

_MAX_SIGNATURE_AGE = timedelta(days=7)
"""S3's own limit: "the signing key is valid for up to seven days. Therefore, the signatures are also valid"."""

_SIGNING_FIELDS = frozenset({"awsaccesskeyid", "file", "policy", "signature", "x-amz-signature"})


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition: `operator` is eq or starts-with, `field` without its dollar sign, in lower case."""

    operator: str
    field: str
    value: str

    def holds(self, fields: Mapping[str, str]) -> bool:
        """Tell whether the form's field is as it has to be."""
        given = fields.get(self.field, "")
        if self.operator == "eq":
            return given == self.value
        if self.field == "content-type":
            # "The Content-Type condition may be a comma-separated list": each of them has to start so.
            return all(part.strip().startswith(self.value) for part in given.split(","))
        return given.startswith(self.value)


@dataclass(frozen=True, kw_only=True, slots=True)
class PostPolicy:
    """Until when, what, and how many bytes may be uploaded."""

    expires_at: datetime
    conditions: tuple[Condition, ...]
    least_bytes: int | None = None
    most_bytes: int | None = None


def parse_post_policy(encoded: str) -> PostPolicy:
    """Read the policy field of a form.

    Raises:
        S3Error: InvalidPolicyDocument; the message says what is wrong with it.
    """
    try:
        document = json.loads(base64.b64decode(encoded, validate=False))
    except (binascii.Error, ValueError):
        raise _invalid("it is no JSON in base64") from None
    if not isinstance(document, dict):
        raise _invalid(f"it must be an object, got {document!r}")
    entries = document.get("conditions")
    if not isinstance(entries, list):
        raise _invalid("it must have a list of 'conditions'")
    conditions: list[Condition] = []
    ranges: list[tuple[int, int]] = []
    for entry in entries:
        if isinstance(entry, list) and len(entry) == 3 and str(entry[0]).lower() == "content-length-range":
            ranges.append((_byte_count(entry[1]), _byte_count(entry[2])))
        else:
            conditions += _conditions(entry)
    return PostPolicy(
        expires_at=_moment(document.get("expiration")),
        conditions=tuple(conditions),
        # All conditions have to hold: of several ranges, what is in each.
        least_bytes=max((least for least, _ in ranges), default=None),
        most_bytes=min((most for _, most in ranges), default=None),
    )


def _invalid(reason: str) -> S3Error:
    return fault("InvalidPolicyDocument", f"Invalid Policy: {reason}")


def _moment(text: Any) -> datetime:
    if not isinstance(text, str):
        raise _invalid("it must have an 'expiration'")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise _invalid(f"'expiration' must be a time in ISO 8601, got {text[:50]!r}") from None
    if "T" not in text:
        raise _invalid(f"'expiration' must be a time in ISO 8601, got {text[:50]!r}")
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _byte_count(value: Any) -> int:
    text = str(value)
    if isinstance(value, bool) or not (text.isascii() and text.isdigit() and len(text) < 19):
        raise _invalid(f"content-length-range must have two numbers of bytes, got {value!r}")
    return int(text)


def _conditions(entry: Any) -> Sequence[Condition]:
    if isinstance(entry, dict) and entry and all(isinstance(value, str) for value in entry.values()):
        return [Condition("eq", name.lower(), value) for name, value in entry.items()]
    if isinstance(entry, list) and len(entry) == 3 and all(isinstance(part, str) for part in entry):
        operator, field, value = entry
        if operator.lower() in ("eq", "starts-with") and field.startswith("$"):
            return [Condition(operator.lower(), field[1:].lower(), value)]
    raise _invalid(f"the condition {json.dumps(entry)[:200]} is not of a known form")


def check_signing_date(day: str, timestamp: str, *, now: datetime, skew_seconds: int) -> None:
    """Raise AccessDenied unless a form was signed on the day of its credential, not in the future, not too long ago."""
    try:
        signed_at = datetime.strptime(timestamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise fault(
            "InvalidArgument",
            f"x-amz-date must be in the ISO8601 format YYYYMMDD'T'HHMMSS'Z', got {timestamp[:50]!r}",
            ArgumentName="x-amz-date",
        ) from None
    if day != timestamp[:8]:
        raise fault(
            "InvalidArgument",
            f"the date of x-amz-credential must be that of x-amz-date, got {day[:20]!r} and {timestamp!r}",
            ArgumentName="x-amz-credential",
        )
    if signed_at - now > timedelta(seconds=skew_seconds):
        raise fault("AccessDenied", f"Request is not yet valid: x-amz-date is {timestamp}, it is {now:%Y%m%dT%H%M%SZ}")
    if now - signed_at > _MAX_SIGNATURE_AGE:
        raise fault("AccessDenied", f"Request has expired: x-amz-date {timestamp} is more than 7 days ago")


def check_policy(policy: PostPolicy, fields: Mapping[str, str], *, bucket: str, now: datetime) -> None:
    """Raise AccessDenied unless the policy is current and lets the form send what it does."""
    if policy.expires_at <= now:
        raise fault("AccessDenied", "Invalid according to Policy: Policy expired.")
    given = {**fields, "bucket": bucket}
    for condition in policy.conditions:
        if not condition.holds(given):
            shown = json.dumps([condition.operator, f"${condition.field}", condition.value])
            raise fault("AccessDenied", f"Invalid according to Policy: Policy Condition failed: {shown}")
    covered = {condition.field for condition in policy.conditions} | _SIGNING_FIELDS
    extra = [name for name in given if name not in covered and not name.startswith(_NEEDS_NO_CONDITION)]
    if extra:
        raise fault(
            "AccessDenied", f"Invalid according to Policy: Extra input fields: {', '.join(sorted(extra))[:200]}"
        )
