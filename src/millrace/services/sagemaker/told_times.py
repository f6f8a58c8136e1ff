"""Compare times that clients ask for with times as they were told: rounded to milliseconds. Pure.

A client that asks for what was created after the last time it saw would get the same again, if the microseconds counted
that it was not told.

Source:
    batch-transform.md 1.6: "time bounds exclusive".
"""

from datetime import datetime, timedelta

__all__ = ["told_after", "told_before"]

_MILLISECOND = 1000
"""In microseconds. `told_micros` tells half of one, and what is above, as a whole one."""


def told_after(moment: datetime) -> datetime:
    """Return the time behind which are the times that are told as ones behind `moment`."""
    return moment + timedelta(microseconds=_MILLISECOND // 2 - 1 - moment.microsecond % _MILLISECOND)


def told_before(moment: datetime) -> datetime:
    """Return the time before which are the times that are told as ones before `moment`."""
    return moment + timedelta(microseconds=-moment.microsecond % _MILLISECOND - _MILLISECOND // 2)
