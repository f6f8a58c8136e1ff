"""Read what a chain of containers tells of one that gave no answer: a header of the answer in its place. Pure.

Such an answer has a status of the chain's own, which is not the container's. So it is worded, and tried again or not,
as if the data plane had asked the container itself.
"""

from enum import StrEnum

from millrace.dataplane.retry import AttemptFailure, Trouble, failure_of_trouble

__all__ = ["FAILURE_HEADER", "Absence", "failure_in_place"]

FAILURE_HEADER = b"x-millrace-failure"
"""In an answer that a chain had to give in a container's place: why."""


class Absence(StrEnum):
    """Why a container of a chain has no answer of its own."""

    TIMED_OUT = "timeout"
    NO_ANSWER = "no-answer"
    TOO_LARGE = "too-large"


def failure_in_place(failure: AttemptFailure, why: bytes | None, *, timeout_seconds: float) -> AttemptFailure:
    """Return what an answer that is no success means, given the header; None if there is none.

    Args:
        failure: What its status means.
        why: The header's value. One that is none of ours is a container's own, and means nothing.
        timeout_seconds: How long a request may take.
    """
    match None if why is None else why.decode("latin-1"):
        case Absence.TIMED_OUT:
            return failure_of_trouble(Trouble.TIMEOUT, timeout_seconds=timeout_seconds)
        case Absence.NO_ANSWER:
            return failure_of_trouble(Trouble.NO_ANSWER, timeout_seconds=timeout_seconds)
        case Absence.TOO_LARGE:
            text = "Answer too large"  # the body says whose, and by how much
            return AttemptFailure(label="AlgorithmError", message=text, log_text=text, may_retry=False)
        case _:
            return failure
