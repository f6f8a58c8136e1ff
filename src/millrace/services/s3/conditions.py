"""Decide conditional requests.

LastModified is told in whole seconds. It is rounded up: `aws s3 sync` takes a file for changed if its time is later
than its object's, so an object uploaded at 10.7 s from a file of 10.5 s must not read 10. A time up to one second ahead
of the clock disturbs no client that we know. Where a client compares with a clock of its own instead of a time that we
told it (If-Unmodified-Since), the benefit of that second is the client's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

__all__ = ["Verdict", "decide", "etag_matches", "told_time"]

_SECOND = timedelta(seconds=1)


class Verdict(Enum):
    """What becomes of a conditional request."""

    PROCEED = "proceed"
    NOT_MODIFIED = "not modified"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict, and the header that led to it."""

    verdict: Verdict
    condition: str = ""


def told_time(time: datetime) -> datetime:
    """Return a time as clients are told it: the next whole second, or this one if it is whole."""
    whole = time.replace(microsecond=0)
    return whole if whole == time else whole + _SECOND


def etag_matches(header: str, etag: str) -> bool:
    """Tell whether an If-Match or If-None-Match header names the ETag: quoted or not, in a list, or "*"."""
    names = [name.strip().removeprefix("W/").strip('"') for name in header.split(",")]
    return "*" in names or etag in names


def decide(params: Mapping[str, Any], etag: str, modified_at: datetime, *, prefix: str = "") -> Decision:
    """Decide a request on an object that exists.

    Args:
        params: Has IfMatch, IfNoneMatch, IfModifiedSince, IfUnmodifiedSince where the client sent them.
        etag: The object's ETag, without quotes.
        modified_at: When it was stored.
        prefix: Stands before the members' names: "CopySource" for the source of a copy.

    Source:
        S3 GetObject: "If both of the If-Match and If-Unmodified-Since headers are present in the request [and]
        If-Match condition evaluates to true, and If-Unmodified-Since condition evaluates to false; then, S3 returns
        200 OK"; "If-None-Match condition evaluates to false, and If-Modified-Since condition evaluates to true; then,
        S3 returns 304 Not Modified".
    """
    if_match, if_none_match = params.get(f"{prefix}IfMatch"), params.get(f"{prefix}IfNoneMatch")
    if if_match is not None:
        if not etag_matches(if_match, etag):
            return Decision(Verdict.FAILED, "If-Match")
    elif (since := params.get(f"{prefix}IfUnmodifiedSince")) is not None and modified_at.replace(microsecond=0) > since:
        return Decision(Verdict.FAILED, "If-Unmodified-Since")
    if if_none_match is not None:
        if etag_matches(if_none_match, etag):
            return Decision(Verdict.NOT_MODIFIED, "If-None-Match")
    elif (since := params.get(f"{prefix}IfModifiedSince")) is not None and told_time(modified_at) <= since:
        return Decision(Verdict.NOT_MODIFIED, "If-Modified-Since")
    return Decision(Verdict.PROCEED)
