"""Moments as whole microseconds since the epoch: the form in which they are stored and compared."""

from datetime import UTC, datetime

__all__ = ["from_micros", "to_micros"]


def to_micros(moment: datetime) -> int:
    """Return a timezone-aware moment as microseconds."""
    return round(moment.timestamp() * 1_000_000)


def from_micros(micros: int) -> datetime:
    """Return the moment, in UTC."""
    return datetime.fromtimestamp(micros / 1_000_000, UTC)
