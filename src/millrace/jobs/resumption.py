"""Decide whether a transform job may go on with the work of an earlier one. Pure."""

from collections.abc import Callable, Iterator, Mapping, Set

from millrace.errors import ValidationError
from millrace.jobs.endpoint import ModelContainer
from millrace.jobs.job import JobStatus, ResumedJob, TransformJob
from millrace.jobs.transform import TransformSpec
from millrace.jobs.transform_options import (
    MAX_FAILED_RECORDS,
    ON_ERROR,
    REPORT,
    RESUME_FROM,
    SCHEDULING,
    OnError,
)
from millrace.told import printable, shortened

__all__ = ["check_resumption", "resumed_jobs"]

MEMBER = f"Environment.{RESUME_FROM}"

_RESUMABLE = (JobStatus.FAILED, JobStatus.STOPPED, JobStatus.COMPLETED)

_FREE_VARIABLES = frozenset({RESUME_FROM, MAX_FAILED_RECORDS, REPORT, SCHEDULING})
"""Variables that decide nothing about the bytes of an output."""

_OWN_VARIABLES = "MILLRACE_"
"""Variables that begin so hold no secrets."""

_NOT_SAID = "none"

_MEMBERS: Mapping[str, Callable[[TransformSpec], object]] = {
    "TransformInput.DataSource.S3DataSource.S3DataType": lambda spec: spec.source_type,
    "TransformInput.DataSource.S3DataSource.S3Uri": lambda spec: spec.source,
    "TransformInput.ContentType": lambda spec: spec.content_type,
    "TransformInput.CompressionType": lambda spec: spec.compression,
    "TransformInput.SplitType": lambda spec: spec.split,
    "TransformOutput.S3OutputPath": lambda spec: spec.output,
    "TransformOutput.Accept": lambda spec: spec.accept,
    "TransformOutput.AssembleWith": lambda spec: spec.assemble_with,
    "TransformOutput.KmsKeyId": lambda spec: spec.output_kms_key,
    "BatchStrategy": lambda spec: spec.strategy,
    "MaxPayloadInMB": lambda spec: spec.max_payload_bytes and spec.max_payload_bytes >> 20,
    "DataProcessing.InputFilter": lambda spec: spec.processing.input_filter,
    "DataProcessing.OutputFilter": lambda spec: spec.processing.output_filter,
    "DataProcessing.JoinSource": lambda spec: spec.processing.join_source,
    "DataCaptureConfig.GenerateInferenceId": lambda spec: spec.tags_rows,
}
"""What decides the bytes of outputs. Not here: how many requests and instances work on them, and how patiently."""


def check_resumption(job: TransformJob, earlier: TransformJob) -> None:
    """Refuse a job that could not have made the outputs of an earlier one.

    Raises:
        ValidationError: The earlier one is not at its end, or something that decides bytes differs.
    """
    if earlier.status not in _RESUMABLE:
        statuses = ", ".join(_RESUMABLE)
        raise ValidationError(
            f"{MEMBER}: the job that is resumed must be in one of the statuses [{statuses}]. Transform job "
            f'"{earlier.name}" is in status "{earlier.status}" instead.'
        )
    differences = [
        *_spec_differences(job.spec, earlier.spec),
        *_container_differences(job.containers, earlier.containers),
    ]
    if differences:
        raise ValidationError(
            f'{MEMBER}: a job that resumes another one must ask for the same outputs. It differs from "{earlier.name}" '
            f"in {'; '.join(differences)}."
        )


def resumed_jobs(earlier: TransformJob) -> tuple[ResumedJob, ...]:
    """Return what a job that resumes this one goes on with, the latest first."""
    return (ResumedJob(id=earlier.id, work=earlier.work), *earlier.resumes)


def _spec_differences(spec: TransformSpec, earlier: TransformSpec) -> Iterator[str]:
    for member, read in _MEMBERS.items():
        if (value := read(spec)) != (other := read(earlier)):
            yield _difference(member, value, other)
    free = {ON_ERROR} if _quarantines_from_now_on(spec, earlier) else set()
    yield from _variable_differences("Environment", spec.environment, earlier.environment, free=free)


def _quarantines_from_now_on(spec: TransformSpec, earlier: TransformSpec) -> bool:
    """Return whether bad records are left out of outputs that had none so far, or they would have failed."""
    before, now = (it.environment.get(ON_ERROR, OnError.FAIL) for it in (earlier, spec))
    return (before, now) == (OnError.FAIL, OnError.QUARANTINE)


def _container_differences(
    containers: tuple[ModelContainer, ...], earlier: tuple[ModelContainer, ...]
) -> Iterator[str]:
    if len(containers) != len(earlier):
        yield _difference("the number of the model's containers", len(containers), len(earlier))
        return
    for number, (container, other) in enumerate(zip(containers, earlier, strict=True), start=1):
        of_model = f"the model's container {number}: "
        if _image(container) != _image(other):
            yield _difference(f"{of_model}Image", _image(container), _image(other))
        if container.data != other.data:
            yield _difference(f"{of_model}model data", _data(container), _data(other))
        yield from _variable_differences(f"{of_model}Environment", container.environment, other.environment)


def _variable_differences(
    member: str, variables: Mapping[str, str], earlier: Mapping[str, str], *, free: Set[str] = frozenset()
) -> Iterator[str]:
    names = sorted({*variables, *earlier} - _FREE_VARIABLES - free)
    for name in names:
        value, other = variables.get(name), earlier.get(name)
        if value == other:
            continue
        if name.startswith(_OWN_VARIABLES):
            yield _difference(f"{member}.{name}", value, other)
        else:  # the values may be secrets
            yield f"{member}.{name} (their values are not told)"


def _image(container: ModelContainer) -> str:
    return container.resolved_image or container.image


def _data(container: ModelContainer) -> str | None:
    data = container.data
    if data is None:
        return None
    kind = "S3Prefix" if data.is_prefix else "S3Object"
    return f"{data.uri} ({kind}, CompressionType {'Gzip' if data.is_gzip else 'None'})"


def _difference(member: str, value: object, earlier: object) -> str:
    return f"{member} ({_told(value)} instead of {_told(earlier)})"


def _told(value: object) -> str:
    return _NOT_SAID if value is None or value == "" else f'"{shortened(printable(str(value)))}"'
