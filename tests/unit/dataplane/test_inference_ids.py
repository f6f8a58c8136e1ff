"""Ids and time of rows."""

import uuid
from datetime import UTC, datetime, timedelta, timezone

import pytest

from millrace.dataplane.inference_ids import InferenceIds

START = datetime(2024, 2, 29, 23, 59, 58, 999_999, UTC)


def counting(count: int) -> bytes:
    """Return known bytes in place of random ones."""
    return bytes(n % 256 for n in range(count))


@pytest.mark.spec("B §6.7")
def test_a_csv_row_gets_two_columns() -> None:
    """The id comes first, then the time; the row's own bytes stay."""
    rows = InferenceIds(START, counting).csv_rows([b"1,2", b'"a,b"'])
    assert rows == [
        b"1,2,00010203-0405-4607-8809-0a0b0c0d0e0f,2024-02-29T23:59:58Z",
        b'"a,b",10111213-1415-4617-9819-1a1b1c1d1e1f,2024-02-29T23:59:58Z',
    ]


@pytest.mark.spec("B §6.7")
def test_a_json_row_gets_two_members() -> None:
    """An object keeps its members, and is not changed itself; another value becomes a member."""
    row = {"y": 1}
    added = {
        "SageMakerInferenceId": "00010203-0405-4607-8809-0a0b0c0d0e0f",
        "SageMakerInferenceTime": "2024-02-29T23:59:58Z",
    }
    assert InferenceIds(START, counting).json_row(row) == {"y": 1, **added}
    assert row == {"y": 1}
    assert InferenceIds(START, counting).json_row([1]) == {"SageMakerOutput": [1], **added}
    assert InferenceIds(START, counting).json_row(None) == {"SageMakerOutput": None, **added}


def test_ids_are_random_uuids() -> None:
    """Every id is a UUID of version 4 in its canonical form, and none comes twice."""
    rows = InferenceIds(START).csv_rows([b"x"] * 500)
    found = [row.split(b",")[1].decode() for row in rows]
    assert len(set(found)) == 500
    for text in found:
        made = uuid.UUID(text)
        assert (str(made), made.version, made.variant) == (text, 4, uuid.RFC_4122)


def test_the_time_is_told_in_utc() -> None:
    """A start in another zone is told in UTC, cut to the second."""
    assert InferenceIds(START.astimezone(timezone(timedelta(hours=5, minutes=30)))).time == "2024-02-29T23:59:58Z"
