"""Read what a job asks for beyond SageMaker: the `MILLRACE_*` keys of its Environment that say how it is run. Pure.

The data formats' keys are read in `formats`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from millrace.errors import ValidationError

__all__ = [
    "KEYS",
    "Autotune",
    "FailuresAllowed",
    "Filters",
    "JobOptions",
    "OnError",
    "Scheduling",
    "filters_of",
    "job_options",
]

ON_ERROR = "MILLRACE_ON_ERROR"
MAX_FAILED_RECORDS = "MILLRACE_MAX_FAILED_RECORDS"
STRICT_COUNTS = "MILLRACE_STRICT_COUNTS"
AUTOTUNE = "MILLRACE_AUTOTUNE"
RANGE_SPLIT = "MILLRACE_RANGE_SPLIT"
REPORT = "MILLRACE_REPORT"
RESUME_FROM = "MILLRACE_RESUME_FROM"
SCHEDULING = "MILLRACE_SCHEDULING"
FILTERS = "MILLRACE_FILTERS"

KEYS = (ON_ERROR, MAX_FAILED_RECORDS, STRICT_COUNTS, AUTOTUNE, RANGE_SPLIT, REPORT, RESUME_FROM, SCHEDULING, FILTERS)

RANGE_MEGABYTES = 64
"""Longest range of an object, where the job does not say: a few seconds of work for most models."""

_ALLOWED = re.compile(r"([0-9]{1,15})|([0-9]{1,3}(?:\.[0-9]{1,6})?)%")
_MEGABYTES = re.compile(r"[1-9][0-9]{0,5}")
_JOB_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
_Choice = TypeVar("_Choice", bound=StrEnum)
_YES_OR_NO = {"true": True, "false": False}


class OnError(StrEnum):
    """What becomes of an object when a record of it cannot be transformed."""

    FAIL = "fail"
    """The object has no output, as on SageMaker."""
    SKIP = "skip"
    """A placeholder stands in the record's place, so that lines still match."""
    QUARANTINE = "quarantine"
    """The record is missing in the output, and told of in an object of its own."""


class Autotune(StrEnum):
    """Whether concurrency and size of payloads are found by measuring."""

    OFF = "off"
    THROUGHPUT = "throughput"


class Scheduling(StrEnum):
    """Which instance takes which objects."""

    BALANCED = "balanced"
    """The largest objects first, each to the instance with the least to do."""
    MODULO = "modulo"
    """Object number i, in key order, to instance i mod InstanceCount."""


class Filters(StrEnum):
    """What InputFilter and OutputFilter may be."""

    SAGEMAKER = "sagemaker"
    """As on SageMaker: names of letters and digits, one range in a bracket."""
    EXTENDED = "extended"
    """Names of any characters, and several ranges and indexes in a bracket."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FailuresAllowed:
    """How many records may fail before the job does: a count, or a share of all records."""

    count: int | None = None
    share: float | None = None
    text: str = ""
    """As the client wrote it."""

    def exceeded(self, failed: int, records: int) -> bool:
        """Return whether so many failed records of so many are more than allowed."""
        if self.count is not None:
            return failed > self.count
        return self.share is not None and failed > self.share * records


@dataclass(frozen=True, kw_only=True, slots=True)
class JobOptions:
    """How a job is run beyond what SageMaker knows; the defaults are SageMaker's behaviour."""

    on_error: OnError = OnError.FAIL
    failures_allowed: FailuresAllowed | None = None
    strict_counts: bool = False
    autotune: Autotune = Autotune.OFF
    range_bytes: int | None = None
    """Longer objects are cut into ranges of at most so many bytes; None if none are."""
    report: bool = False
    resume_from: str | None = None
    scheduling: Scheduling = Scheduling.BALANCED
    filters: Filters = Filters.SAGEMAKER


def job_options(environment: Mapping[str, str]) -> JobOptions:
    """Return the options of a job.

    Raises:
        ValidationError: A value is none that its key takes, or two keys contradict each other.
    """
    options = JobOptions(
        on_error=_one_of(OnError, environment, ON_ERROR, OnError.FAIL),
        failures_allowed=_failures_allowed(environment.get(MAX_FAILED_RECORDS)),
        strict_counts=_flag(environment, STRICT_COUNTS),
        autotune=_one_of(Autotune, environment, AUTOTUNE, Autotune.OFF),
        range_bytes=_range_bytes(environment.get(RANGE_SPLIT)),
        report=_flag(environment, REPORT),
        resume_from=_job_name(environment.get(RESUME_FROM)),
        scheduling=_one_of(Scheduling, environment, SCHEDULING, Scheduling.BALANCED),
        filters=filters_of(environment),
    )
    if options.failures_allowed is not None and options.on_error is OnError.FAIL:
        raise ValidationError(
            f'Environment.{MAX_FAILED_RECORDS} requires {ON_ERROR} to be "skip" or "quarantine". '
            f"Got {_quoted(environment.get(ON_ERROR))} instead."
        )
    return options


def filters_of(environment: Mapping[str, str]) -> Filters:
    """Return what a job's filters may be; raises ValidationError as `job_options`."""
    return _one_of(Filters, environment, FILTERS, Filters.SAGEMAKER)


def _one_of(choices: type[_Choice], environment: Mapping[str, str], key: str, default: _Choice) -> _Choice:
    text = environment.get(key, default)
    try:
        return choices(text)
    except ValueError:
        raise _refused(key, f"one of [{', '.join(choices)}]", text) from None


def _flag(environment: Mapping[str, str], key: str) -> bool:
    text = environment.get(key, "false")
    if text not in _YES_OR_NO:
        raise _refused(key, '"true" or "false"', text)
    return _YES_OR_NO[text]


def _range_bytes(text: str | None) -> int | None:
    if text is None or text == "false":
        return None
    if text == "true":
        return RANGE_MEGABYTES << 20
    if not _MEGABYTES.fullmatch(text):
        raise _refused(RANGE_SPLIT, '"true", "false", or the length of a range in MB, 1 to 999999', text)
    return int(text) << 20


def _failures_allowed(text: str | None) -> FailuresAllowed | None:
    if text is None:
        return None
    match = _ALLOWED.fullmatch(text)
    if match is None or (match[2] is not None and float(match[2]) > 100):
        rule = (
            'a count such as "10" of at most 15 digits, '
            'or a share of all records such as "0.5%", at most 100% with at most 6 decimals'
        )
        raise _refused(MAX_FAILED_RECORDS, rule, text)
    if match[1] is not None:
        return FailuresAllowed(count=int(match[1]), text=text)
    return FailuresAllowed(share=float(match[2]) / 100, text=text)


def _job_name(text: str | None) -> str | None:
    if text is not None and not _JOB_NAME.fullmatch(text):
        raise _refused(RESUME_FROM, "the name of a transform job", text)
    return text


def _refused(key: str, rule: str, text: str) -> ValidationError:
    return ValidationError(f"Environment.{key} must be {rule}. Got {_quoted(text)} instead.")


def _quoted(text: str | None) -> str:
    return "none" if text is None else f'"{text[:80]}"'
