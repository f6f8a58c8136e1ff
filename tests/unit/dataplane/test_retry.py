"""Tests of what an attempt's outcome means."""

from datetime import UTC, datetime

import pytest

from millrace.dataplane.retry import Trouble, failure_of_status, failure_of_trouble, retry_after_seconds, retry_delay


@pytest.mark.spec("B §4.5")
@pytest.mark.parametrize(
    ("status", "label", "may_retry", "log"),
    [
        (301, "AlgorithmError", False, "Bad HTTP status received from algorithm: 301"),
        (400, "ClientError", False, "ClientError: 400"),
        (404, "ClientError", False, "ClientError: 404"),
        (413, "ClientError", False, "ClientError: 413"),
        (429, "ClientError", True, "ClientError: 429"),
        (500, "AlgorithmError", True, "Bad HTTP status received from algorithm: 500"),
        (503, "AlgorithmError", True, "Bad HTTP status received from algorithm: 503"),
    ],
)
def test_a_status_tells_whose_fault_it_is(status: int, label: str, may_retry: bool, log: str) -> None:
    """Retries and blame follow the table of section 4.5."""
    failure = failure_of_status(status)
    assert failure is not None
    assert (failure.label, failure.may_retry, failure.log_text, failure.status) == (label, may_retry, log, status)


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_any_2xx_is_success(status: int) -> None:
    """Success is not 200 alone."""
    assert failure_of_status(status) is None


def test_no_answer_may_be_asked_again() -> None:
    """A dropped connection and a time-out are the algorithm's fault, and are retried."""
    dropped = failure_of_trouble(Trouble.NO_ANSWER, timeout_seconds=600)
    late = failure_of_trouble(Trouble.TIMEOUT, timeout_seconds=0.5)
    assert dropped.log_text == "Unable to get response from algorithm"
    assert late.log_text == "Model server did not respond to /invocations request within 0.5 seconds"
    assert all(one.may_retry and one.label == "AlgorithmError" for one in (dropped, late))


def test_the_back_off_doubles() -> None:
    """Waits are about 1, 2 and 4 seconds, spread by a quarter, never above the ceiling."""
    assert [retry_delay(attempt, jitter=0.5) for attempt in (1, 2, 3)] == [1, 2, 4]
    assert retry_delay(1, jitter=0.0) == 0.75
    assert retry_delay(3, jitter=1.0) == 5.0
    assert retry_delay(3, jitter=0.5, ceiling=1.0) == 1.0


def test_the_containers_wish_counts_up_to_the_timeout() -> None:
    """Retry-After replaces the back-off, up to the time-out."""
    assert retry_delay(1, jitter=0.5, retry_after=30.0) == 30
    assert retry_delay(1, jitter=0.5, retry_after=9999.0, ceiling=600.0) == 600
    assert retry_delay(3, jitter=0.5, retry_after=0.0) == 0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        (b"7", 7.0),
        (b" 7 ", 7.0),
        (b"soon", None),
        (b"-1", None),
        (b"1 Oct 5 03333333333333333:2", None),
        (b"Wed, 01 Jan 2020 00:00:10 GMT", 10.0),
        (b"Wed, 01 Jan 2019 00:00:10 GMT", 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: bytes | None, seconds: float | None) -> None:
    """What cannot be read counts as not said."""
    assert retry_after_seconds(value, datetime(2020, 1, 1, tzinfo=UTC)) == seconds
