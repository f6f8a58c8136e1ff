"""Tests of time bounds of lists."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from millrace.protocol.timestamps import told_micros
from millrace.services.sagemaker.told_times import told_after, told_before

START = datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC)
MICROS = st.integers(0, 3000)


def at(micros: int) -> datetime:
    return START + timedelta(microseconds=micros)


@given(MICROS, MICROS)
def test_bounds_are_those_of_the_times_that_are_told(stored: int, asked: int) -> None:
    """What lies behind a bound, or before it, is what a client would find there by the times it was told."""
    told = round(told_micros(stored) * 1_000_000)
    assert (at(stored) > told_after(at(asked))) == (told > asked)
    assert (at(stored) < told_before(at(asked))) == (told < asked)
