"""Say why an object has no output: what its job's owner reads, and what the data log has. Pure."""

from typing import NamedTuple

from millrace.dataplane.bad_records import BadRecord
from millrace.dataplane.lane import Lane
from millrace.dataplane.payload import Payload, UnusableRecord
from millrace.dataplane.processing import RecordError, locate
from millrace.dataplane.retry import AttemptFailure
from millrace.errors import NO_ROOM, NOT_ALLOWED
from millrace.jobs.transform import ObjectFailure
from millrace.ports.objects import NoSuchBucket, NoSuchKey, ObjectUnreadable
from millrace.told import shortened

__all__ = [
    "Told",
    "attempt_told",
    "over_told",
    "reading_told",
    "record_told",
    "refused_output_told",
    "unusable_told",
    "writing_told",
]


class Told(NamedTuple):
    """A failure, and the data log's text for it."""

    failure: ObjectFailure
    log_text: str


def attempt_told(lane: Lane, payload: Payload, failure: AttemptFailure, message: str, answer: str | None) -> Told:
    """Tell of a payload that the container does not take; `answer` is what is shown of what it said."""
    record, offset = lane.place(payload.record, payload.offset)
    told = ObjectFailure(
        key=lane.input.ref.key,
        label=failure.label,
        message=message,
        record=record,
        offset=offset,
        status=failure.status,
        answer=answer,
    )
    return Told(told, failure.log_text)


def reading_told(lane: Lane, error: Exception, *, splits: bool) -> Told:
    """Tell of an object that cannot be read, and how far it could."""
    missing = isinstance(error, (NoSuchKey, NoSuchBucket, ObjectUnreadable))
    message = str(error)
    if isinstance(error, ObjectUnreadable):
        message = f"{shortened(str(lane.input.ref))} can't be read: {error.detail}"
    elif missing:
        message = f"{shortened(str(lane.input.ref))} does not exist"
    record, offset = (None, None) if missing or not splits else lane.place(*lane.former.reached())
    failure = ObjectFailure(key=lane.input.ref.key, label="ClientError", message=message, record=record, offset=offset)
    return Told(failure, f"ClientError: {message}")


def writing_told(lane: Lane, label: str, message: str) -> Told:
    """Tell of an output that cannot be written."""
    return Told(ObjectFailure(key=lane.input.ref.key, label=label, message=message), f"{label}: {message}")


def refused_output_told(lane: Lane, error: OSError) -> Told:
    """Tell of an output that finds no room on the disk, or may not be there; raises any other error again."""
    output = shortened(str(lane.input.output))
    if error.errno in NO_ROOM:
        message = f"output {output} could not be written: the disk of the data directory is full ({error.strerror})"
        return writing_told(lane, "InternalServerError", message)
    if error.errno in NOT_ALLOWED:
        return writing_told(lane, "ClientError", f"output {output} could not be written: {error.strerror}")
    raise error


def unusable_told(lane: Lane, error: UnusableRecord, *, limit: int) -> Told:
    """Tell of a record that no payload can be formed of; `limit` is in bytes."""
    record, offset = lane.place(error.record, error.offset)
    error = error.counted_from(offset - error.offset)
    message = error.told(limit)
    failure = ObjectFailure(key=lane.input.ref.key, label="ClientError", message=message, record=record, offset=offset)
    return Told(failure, f"ClientError: {error}")


def record_told(lane: Lane, payload: Payload, error: RecordError, *, answer_chars: int, quoted_newlines: bool) -> Told:
    """Tell of a record that cannot be filtered or joined: to the data log it is a 400, as on SageMaker."""
    records, size = locate(payload.raw, error.position, quoted_newlines=quoted_newlines)
    record, offset = lane.place(payload.record + records, payload.offset + size)
    failure = ObjectFailure(
        key=lane.input.ref.key,
        label="ClientError",
        message=str(error),
        record=record,
        offset=offset,
        answer=str(error)[:answer_chars],
    )
    return Told(failure, "ClientError: 400")


def over_told(lane: Lane, bad: BadRecord, *, allowed: str) -> Told:
    """Tell of the bad record with which there are more than the job's owner allows."""
    message = f"More than {allowed} records failed (MILLRACE_MAX_FAILED_RECORDS); the last one: {bad.message}"
    failure = ObjectFailure(
        key=lane.input.ref.key,
        label=bad.label,
        message=message,
        record=bad.record,
        offset=bad.offset,
        status=bad.status,
        answer=bad.answer,
    )
    return Told(failure, f"{bad.label}: {message}")
