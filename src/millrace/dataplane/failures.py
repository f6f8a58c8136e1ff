"""Word the failures of a transform job for its data log. Pure."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from millrace.jobs.transform import FAILURE_PRECEDENCE, ObjectFailure
from millrace.names import ObjectRef

__all__ = ["data_log_line", "failure_lines", "select_failures"]

MESSAGE_LINES = 50
"""Lines of a failing answer that the data log shows."""


def data_log_line(now: datetime, text: str) -> str:
    """Return a line of the data log.

    Source:
        batch-transform.md 4.5: each line is prefixed `YYYY-MM-DDTHH:MM:SS.mmm:[sagemaker logs]: `.
    """
    return f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03d}:[sagemaker logs]: {text}"


def failure_lines(ref: ObjectRef, log_text: str, answer: str | None) -> Iterator[str]:
    """Yield the data-log texts for a failed object: the event, then the container's message if there is one.

    Source:
        batch-transform.md 4.5, as seen in public logs.
    """
    subject = f"{ref.bucket}/{ref.key}"
    yield f"{subject}: {log_text}"
    if answer is None:
        return
    yield f"{subject}: "
    yield f"{subject}: Message:"
    for line in answer.splitlines()[:MESSAGE_LINES]:
        yield f"{subject}: {line}"


def select_failures(failures: Sequence[ObjectFailure], keep: int) -> tuple[ObjectFailure, ...]:
    """Return the first failures by key, and the first of each label if it is not among them."""
    ordered = sorted(failures, key=lambda failure: failure.key.encode())
    kept = ordered[:keep]
    for label in FAILURE_PRECEDENCE:
        if all(failure.label != label for failure in kept):
            kept += [failure for failure in ordered[keep:] if failure.label == label][:1]
    return tuple(kept)
