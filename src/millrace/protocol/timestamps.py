"""Timestamps as the protocols write them: epoch seconds, ISO 8601, RFC 822."""

from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any

__all__ = ["TimestampFormat", "format_timestamp", "parse_timestamp", "timestamp_format", "told_micros"]


class TimestampFormat(StrEnum):
    """The three formats of the `timestampFormat` trait, and S3's own variant of ISO 8601."""

    EPOCH = "unixTimestamp"
    ISO8601 = "iso8601"
    RFC822 = "rfc822"
    ISO8601_MILLIS = "iso8601-millis"


def timestamp_format(shape: Any, default: TimestampFormat) -> TimestampFormat:
    """Return the format that a shape asks for, or the protocol's default for its place."""
    named = shape.serialization.get("timestampFormat")
    return TimestampFormat(named) if named is not None else default


def parse_timestamp(value: Any) -> datetime:
    """Parse any of the formats, as the services do, into UTC.

    Raises:
        ValueError: The value is no time, or none that a datetime can hold.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"expected a timestamp, got {value!r}")
    try:
        if not isinstance(value, str):
            return datetime.fromtimestamp(value, UTC)
        return _parse_text(value.strip())
    except (ValueError, OverflowError, OSError, TypeError, IndexError) as exc:
        raise ValueError(f"expected a timestamp, got {value!r}") from exc


def _parse_text(text: str) -> datetime:
    if text[:1].isalpha():
        moment = parsedate_to_datetime(text)
    elif text.replace(".", "", 1).lstrip("-").isdigit():
        return datetime.fromtimestamp(float(text), UTC)
    else:
        moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def told_micros(micros: int) -> float:
    """Return the epoch seconds, rounded to milliseconds, of a time in microseconds: what JSON tells of it."""
    return (micros + 500) // 1000 / 1000


@lru_cache(maxsize=1024)
def _format_rfc822(seconds: int) -> str:
    # Kept, for it takes longer than all other headers of an object together, and objects come in crowds.
    return format_datetime(datetime.fromtimestamp(seconds, UTC), usegmt=True)


def format_timestamp(moment: datetime | float, style: TimestampFormat) -> str | int | float:
    """Write a time, or epoch seconds; the latter are rounded to milliseconds and whole ones are an int."""
    if not isinstance(moment, datetime):
        moment = datetime.fromtimestamp(moment, UTC)
    if style is TimestampFormat.EPOCH:
        seconds = round(moment.timestamp(), 3)
        whole = int(seconds)
        return whole if whole == seconds else seconds
    utc = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    if style is TimestampFormat.RFC822:
        return _format_rfc822(int(utc.timestamp() // 1))
    if style is TimestampFormat.ISO8601_MILLIS:
        return f"{utc.isoformat(timespec='milliseconds')[:23]}Z"  # a third of the time of strftime
    return utc.replace(tzinfo=None).isoformat(timespec="milliseconds" if utc.microsecond else "seconds") + "Z"
