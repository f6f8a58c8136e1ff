"""Decide what web pages of other origins may do with a bucket.

Source:
    "Using cross-origin resource sharing (CORS)", S3 user guide; the Fetch standard.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from millrace.services.s3.faults import fault
from millrace.services.s3.wildcards import matches

__all__ = ["allowing_headers", "check_cors", "find_rule"]

MAX_RULES = 100
_METHODS = frozenset({"GET", "PUT", "HEAD", "POST", "DELETE"})

Rule = Mapping[str, Any]


def check_cors(document: Mapping[str, Any]) -> None:
    """Refuse a CORSConfiguration that S3 refuses."""
    rules = document.get("CORSRules") or ()
    if not 1 <= len(rules) <= MAX_RULES:
        raise fault("MalformedXML")
    for rule in rules:
        for method in rule.get("AllowedMethods") or ():
            if method not in _METHODS:
                raise fault(
                    "InvalidRequest", f"Found unsupported HTTP method in CORS config. Unsupported method is {method}"
                )
        for member in ("AllowedOrigins", "AllowedHeaders"):
            for text in rule.get(member) or ():
                if text.count("*") > 1:
                    raise fault("InvalidRequest", f'{member[:-1]} "{text}" can not have more than one wildcard.')


def find_rule(rules: Sequence[Rule], *, origin: str, method: str, headers: Sequence[str]) -> Rule | None:
    """Return the first rule that lets an origin use a method with these headers."""
    for rule in rules:
        if (
            method in rule["AllowedMethods"]
            and any(matches(pattern, origin) for pattern in rule["AllowedOrigins"])
            and all(
                any(matches(pattern.lower(), name) for pattern in rule.get("AllowedHeaders") or ()) for name in headers
            )
        ):
            return rule
    return None


def allowing_headers(rule: Rule, *, origin: str, headers: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return the headers that tell the browser so."""
    anybody = "*" in rule["AllowedOrigins"]
    told = [
        ("Access-Control-Allow-Origin", "*" if anybody else origin),
        ("Access-Control-Allow-Methods", ", ".join(rule["AllowedMethods"])),
    ]
    if headers:
        told.append(("Access-Control-Allow-Headers", ", ".join(headers)))
    if rule.get("ExposeHeaders"):
        told.append(("Access-Control-Expose-Headers", ", ".join(rule["ExposeHeaders"])))
    if rule.get("MaxAgeSeconds") is not None:
        told.append(("Access-Control-Max-Age", str(rule["MaxAgeSeconds"])))
    if not anybody:
        told.append(("Access-Control-Allow-Credentials", "true"))
    told.append(("Vary", "Origin, Access-Control-Request-Headers, Access-Control-Request-Method"))
    return tuple(told)
