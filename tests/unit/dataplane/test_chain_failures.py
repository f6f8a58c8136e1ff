"""Tests of what is made of an answer that a chain gave in a container's place."""

import pytest

from millrace.dataplane.chain_failures import failure_in_place
from millrace.dataplane.retry import failure_of_status


@pytest.mark.parametrize(
    ("status", "why", "may_retry", "text"),
    [
        (504, b"timeout", True, "Model server did not respond to /invocations request within 7 seconds"),
        (502, b"no-answer", True, "Unable to get response from algorithm"),
        (500, b"too-large", False, "Answer too large"),
    ],
)
def test_the_header_counts_not_the_status(status: int, why: bytes, may_retry: bool, text: str) -> None:
    """It is the chain's; the words are those for a container that is asked directly."""
    told = failure_of_status(status)
    assert told is not None
    failure = failure_in_place(told, why, timeout_seconds=7)
    assert (failure.label, failure.may_retry, failure.message, failure.status) == (
        "AlgorithmError",
        may_retry,
        text,
        None,
    )


@pytest.mark.parametrize("why", [None, b"", b"boredom", b"\xff"])
def test_without_a_known_reason_the_status_counts(why: bytes | None) -> None:
    """A container may send a header of this name, too."""
    told = failure_of_status(429)
    assert told is not None
    assert failure_in_place(told, why, timeout_seconds=7) is told
