"""Conditions of bucket policies: operators over what is known about a request.

Source:
    IAM user guide, "Condition operators"; S3 user guide, "Amazon S3 policy keys".
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from ipaddress import ip_address, ip_network
from typing import Any

from millrace.services.s3.faults import fault
from millrace.services.s3.wildcards import matches

__all__ = ["Condition", "Facts", "parse_conditions"]

Facts = Mapping[str, tuple[str, ...]]
"""Values of a request's condition keys, by the key in lower case; a key that the request has not is missing."""

_KEYS = frozenset(
    {
        "aws:currenttime",
        "aws:epochtime",
        "aws:principalaccount",
        "aws:principalarn",
        "aws:referer",
        "aws:securetransport",
        "aws:sourceip",
        "aws:useragent",
        "s3:delimiter",
        "s3:locationconstraint",
        "s3:max-keys",
        "s3:prefix",
        "s3:requestobjecttagkeys",
        "s3:signatureversion",
        "s3:x-amz-acl",
        "s3:x-amz-content-sha256",
        "s3:x-amz-copy-source",
        "s3:x-amz-grant-full-control",
        "s3:x-amz-grant-read",
        "s3:x-amz-grant-read-acp",
        "s3:x-amz-grant-write",
        "s3:x-amz-grant-write-acp",
        "s3:x-amz-metadata-directive",
        "s3:x-amz-server-side-encryption",
        "s3:x-amz-server-side-encryption-aws-kms-key-id",
        "s3:x-amz-server-side-encryption-customer-algorithm",
        "s3:x-amz-storage-class",
        "s3:x-amz-website-redirect-location",
    }
)
_KEY_STARTS = ("s3:existingobjecttag/", "s3:requestobjecttag/")
_CALLER_KEYS = frozenset({"aws:principalaccount", "aws:principalarn", "aws:sourceip"})


def _number(compare: Callable[[float, float], bool], wanted: str, given: str) -> bool:
    return compare(float(given), float(wanted))


def _date(compare: Callable[[float, float], bool], wanted: str, given: str) -> bool:
    return compare(_moment(given), _moment(wanted))


def _moment(text: str) -> float:
    if text.replace(".", "", 1).isdigit():
        return float(text)
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


_TESTS: Mapping[str, Callable[[str, str], bool]] = {
    "stringequals": lambda wanted, given: wanted == given,
    "stringequalsignorecase": lambda wanted, given: wanted.lower() == given.lower(),
    "stringlike": matches,
    "numericequals": partial(_number, float.__eq__),
    "numericlessthan": partial(_number, float.__lt__),
    "numericlessthanequals": partial(_number, float.__le__),
    "numericgreaterthan": partial(_number, float.__gt__),
    "numericgreaterthanequals": partial(_number, float.__ge__),
    "dateequals": partial(_date, float.__eq__),
    "datelessthan": partial(_date, float.__lt__),
    "datelessthanequals": partial(_date, float.__le__),
    "dategreaterthan": partial(_date, float.__gt__),
    "dategreaterthanequals": partial(_date, float.__ge__),
    "bool": lambda wanted, given: wanted.lower() == given.lower(),
    "ipaddress": lambda wanted, given: ip_address(given) in ip_network(wanted, strict=False),
    "arnequals": matches,
    "arnlike": matches,
}
_OPPOSITES = {
    "stringnotequals": "stringequals",
    "stringnotequalsignorecase": "stringequalsignorecase",
    "stringnotlike": "stringlike",
    "numericnotequals": "numericequals",
    "datenotequals": "dateequals",
    "notipaddress": "ipaddress",
    "arnnotequals": "arnequals",
    "arnnotlike": "arnlike",
}
_OF_TRUTHS = frozenset({"bool", "null"})
_TRUTHS = frozenset({"true", "false"})
_SAMPLES = {"numeric": "1", "date": "2020-01-01T00:00:00Z", "ipaddress": "127.0.0.1"}
"""A value to try an operator's wanted values on, by the start of its name: one that does not parse is refused."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """One operator over one key."""

    operator: str
    is_opposite: bool
    if_exists: bool
    for_all: bool
    key: str
    values: tuple[str, ...]

    def holds(self, facts: Facts) -> bool:
        """Tell whether it holds. A key that is missing fails a test and passes its opposite."""
        given = facts.get(self.key)
        if self.operator == "null":
            return (given is None) == (self.values[0].lower() == "true")
        if given is None:
            return self.if_exists or self.is_opposite or self.for_all
        test = _TESTS[self.operator]
        found = [any(_holds(test, wanted, value) for wanted in self.values) != self.is_opposite for value in given]
        return all(found) if self.for_all else any(found)

    @property
    def limits_callers(self) -> bool:
        """Whether it lets through only callers with fixed properties."""
        return (
            self.key in _CALLER_KEYS
            and not self.is_opposite
            and not self.if_exists
            and self.operator != "null"
            and not any("*" in value or value.endswith("/0") for value in self.values)
        )


def _holds(test: Callable[[str, str], bool], wanted: str, given: str) -> bool:
    try:
        return test(wanted, given)
    except (ValueError, TypeError):  # the request's value is no number, date or address
        return False


def parse_conditions(where: str, document: Any) -> tuple[Condition, ...]:
    """Read a statement's Condition.

    Raises:
        S3Error: MalformedPolicy, for an operator or key that is not evaluated, too.
    """
    if not isinstance(document, dict):
        raise fault("MalformedPolicy", f"{where} must be an object, got {document!r}")
    conditions = []
    for name, keys in document.items():
        if not isinstance(keys, dict) or not keys:
            raise fault("MalformedPolicy", f"{where}.{name} must be an object of condition keys, got {keys!r}")
        conditions += [_condition(f"{where}.{name}", name, key, values) for key, values in keys.items()]
    return tuple(conditions)


def _condition(where: str, name: str, key: str, values: Any) -> Condition:
    operator = name.lower()
    for_all = operator.startswith("forallvalues:")
    operator = operator.removeprefix("forallvalues:").removeprefix("foranyvalue:")
    if_exists = operator.endswith("ifexists")
    operator = operator.removesuffix("ifexists")
    is_opposite = operator in _OPPOSITES
    operator = _OPPOSITES.get(operator, operator)
    if operator != "null" and operator not in _TESTS:
        raise fault("MalformedPolicy", f"{where}: Policy has an invalid condition operator: {name!r}")
    lowered = key.lower()
    if lowered not in _KEYS and not lowered.startswith(_KEY_STARTS):
        raise fault("MalformedPolicy", f"{where}: Policy has an invalid condition key: {key!r} is not evaluated here")
    if lowered.startswith(_KEY_STARTS):  # the tag's own name counts as it is written
        lowered = lowered.partition("/")[0] + "/" + key.partition("/")[2]
    texts = tuple(_text(where, key, value) for value in (values if isinstance(values, list) else [values]))
    if not texts:
        raise fault("MalformedPolicy", f"{where}.{key} must have a value")
    for text in texts if operator in _OF_TRUTHS else ():
        if text.lower() not in _TRUTHS:
            raise fault("MalformedPolicy", f"{where}.{key}: {name} takes true or false, got {text[:50]!r}")
    for start, sample in _SAMPLES.items():
        if operator.startswith(start):
            for text in texts:
                try:
                    _TESTS[operator](text, sample)
                except ValueError:
                    raise fault("MalformedPolicy", f"{where}.{key}: {text!r} is no value for {name}") from None
    return Condition(
        operator=operator, is_opposite=is_opposite, if_exists=if_exists, for_all=for_all, key=lowered, values=texts
    )


def _text(where: str, key: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | float):
        raise fault("MalformedPolicy", f"{where}.{key} must be a text, a number or true or false, got {value!r}")
    text = str(value)
    if "${" in text:
        raise fault("MalformedPolicy", f"{where}.{key}: policy variables are not supported, got {text!r}")
    return text
