"""Decide what an attempt's outcome means: done, try again, or why the object fails. Pure."""

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum, auto

__all__ = [
    "AttemptFailure",
    "Trouble",
    "failure_of_large_answer",
    "failure_of_status",
    "failure_of_trouble",
    "retry_after_seconds",
    "retry_delay",
    "too_large",
    "too_large_for_server",
]

FIRST_BACKOFF_SECONDS = 1.0
TOO_MANY_REQUESTS = 429


class Trouble(Enum):
    """Why there is no answer at all."""

    NO_ANSWER = auto()
    NO_CONNECTION = auto()
    STALE = auto()
    TIMEOUT = auto()


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptFailure:
    """What a failed attempt means for its object.

    `log_text` is the data log's line, `message` says the same where no prefix tells whose fault it is. `may_be_down`
    tells that there is no answer, as there would be none if the container were not there at all; `was_sent` is False
    where it was not even asked, and `is_stale` says that it may not have been, over a connection that was idle before.
    """

    label: str
    message: str
    log_text: str
    may_retry: bool
    status: int | None = None
    may_be_down: bool = False
    was_sent: bool = True
    is_stale: bool = False


def failure_of_status(status: int) -> AttemptFailure | None:
    """Return what an HTTP status means; None for success.

    Source:
        batch-transform.md 4.5: any 2xx is success; 5xx and 429 are retried; a 3xx is not followed and reads as a 5xx.
    """
    if 200 <= status < 300:
        return None
    if 400 <= status < 500:
        return AttemptFailure(
            label="ClientError",
            message=f"HTTP status {status} received from algorithm",
            log_text=f"ClientError: {status}",
            may_retry=status == TOO_MANY_REQUESTS,
            status=status,
        )
    text = f"Bad HTTP status received from algorithm: {status}"
    return AttemptFailure(label="AlgorithmError", message=text, log_text=text, may_retry=status >= 500, status=status)


def failure_of_trouble(trouble: Trouble, *, timeout_seconds: float) -> AttemptFailure:
    """Return what an attempt without an answer means."""
    if trouble is Trouble.TIMEOUT:
        text = f"Model server did not respond to /invocations request within {timeout_seconds:g} seconds"
    else:
        text = "Unable to get response from algorithm"
    return AttemptFailure(
        label="AlgorithmError",
        message=text,
        log_text=text,
        may_retry=True,
        may_be_down=trouble is not Trouble.TIMEOUT,
        was_sent=trouble is not Trouble.NO_CONNECTION,
        is_stale=trouble is Trouble.STALE,
    )


def failure_of_large_answer(most: int, size: int | None) -> AttemptFailure:
    """Return what an answer means that is longer than is held in memory; it would be no shorter another time.

    Args:
        most: The longest answer allowed, in bytes.
        size: Its length, None if only known to be more.
    """
    text = f"Answer too large: {too_large(most, size)}"
    return AttemptFailure(label="AlgorithmError", message=text, log_text=text, may_retry=False)


def too_large(most: int, size: int | None) -> str:
    """Return the rule that an answer breaks which is longer than is held in memory."""
    got = "more" if size is None else f"{size}"
    return f"it must have at most {most} bytes (MILLRACE_MAX_ANSWER_BYTES), got {got}"


def too_large_for_server(size: int, limit: int) -> str:
    """Return what a 413 means: servers in images have limits of their own, of which no job knows.

    Args:
        size: Of the body that was sent, in bytes.
        limit: The job's, in bytes; 0 for none.
    """
    allowed = f"{limit} bytes" if limit else "any number of bytes"
    return f"its server takes less than the {size} bytes that were sent (MaxPayloadInMB allows {allowed})"


def retry_delay(
    failed_attempts: int, *, jitter: float, retry_after: float | None = None, ceiling: float = 600.0
) -> float:
    """Return the seconds to wait before the next attempt.

    Args:
        failed_attempts: How many attempts failed so far, at least 1: the waits are about 1, 2 and 4 seconds.
        jitter: A random number in [0, 1); spreads the wait by a quarter to either side.
        retry_after: What the container asked for; honoured up to `ceiling`, the time-out of one attempt.
        ceiling: The longest wait.
    """
    if retry_after is not None:
        return min(max(0.0, retry_after), ceiling)
    backoff = FIRST_BACKOFF_SECONDS * 2.0 ** (failed_attempts - 1)
    return min(backoff * (0.75 + 0.5 * jitter), ceiling)


def retry_after_seconds(value: bytes | None, now: datetime) -> float | None:
    """Parse a Retry-After header, a number of seconds or a date; None if there is none that can be read."""
    if value is None:
        return None
    text = value.decode("latin-1").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # the second where a number is beyond what the machine counts with
        return None
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds())
