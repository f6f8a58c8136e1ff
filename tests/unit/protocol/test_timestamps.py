"""Timestamps in all of the protocols' formats."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.protocol.timestamps import TimestampFormat, format_timestamp, parse_timestamp

MOMENT = datetime(2026, 3, 4, 5, 6, 7, 890000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("style", "text"),
    [
        (TimestampFormat.EPOCH, 1772600767.89),
        (TimestampFormat.ISO8601, "2026-03-04T05:06:07.890Z"),
        (TimestampFormat.ISO8601_MILLIS, "2026-03-04T05:06:07.890Z"),
        (TimestampFormat.RFC822, "Wed, 04 Mar 2026 05:06:07 GMT"),
    ],
)
def test_each_format_is_written(style: TimestampFormat, text: str | float) -> None:
    """A time in any zone is written in UTC."""
    assert format_timestamp(MOMENT, style) == text
    assert format_timestamp(MOMENT.astimezone(timezone(timedelta(hours=5))), style) == text


@given(
    st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(2200, 1, 1)),  # noqa: DTZ001 - made aware below
    st.sampled_from(list(TimestampFormat)),
)
def test_what_is_written_is_read(moment: datetime, style: TimestampFormat) -> None:
    """Every format gives the time back, to the second."""
    whole = moment.replace(microsecond=0, tzinfo=UTC)
    assert parse_timestamp(format_timestamp(whole, style)) == whole
    assert parse_timestamp(str(format_timestamp(whole, style))) == whole


@pytest.mark.parametrize(
    "value", ["", "yesterday", "2026-13-01T00:00:00Z", 1e300, float("nan"), True, None, [], "Mon, 99"]
)
def test_what_is_no_time_is_refused(value: object) -> None:
    """The refusal shows the value."""
    with pytest.raises(ValueError, match="expected a timestamp, got"):
        parse_timestamp(value)
