"""Check what a transform job asks for before it is accepted. Pure.

Source:
    batch-transform.md 1.2 (rules X1 to X19 and X26) and 1.3 (texts). Rules about models, roles and inputs that exist
    are the service's.
"""

import re
from difflib import get_close_matches

from millrace.dataplane.formats.job import JobFormats
from millrace.dataplane.formats.options import FORMAT_VARIABLES
from millrace.dataplane.job_filters import input_filter, output_filter
from millrace.dataplane.jsonpath import Format, InvalidFilter, format_of
from millrace.dataplane.range_rules import check_ranges
from millrace.dataplane.split import FRAMINGS
from millrace.errors import ValidationError
from millrace.jobs.transform import (
    MIB,
    AssembleWith,
    JoinSource,
    SourceType,
    SplitType,
    TransformSpec,
)
from millrace.jobs.transform_options import KEYS, job_options

__all__ = ["parse_source_type", "validate_spec"]

MAX_PAYLOAD_MB = 100
OPTION_PREFIX = "MILLRACE_"
OPTIONS = (*KEYS, *FORMAT_VARIABLES)
MAX_TIMEOUT_SECONDS = 3600
MAX_RETRIES = 3
MAX_INSTANCES = 100
MAX_ENVIRONMENT = 16
MAX_CONTENT_TYPE = 256
MAX_CAPTURE_KEY = 1024 - len("/output/yyyy/mm/dd/hh/.json") - 36

_VARIABLE = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,1023}")
_MAX_VALUE = 10_240


def parse_source_type(text: str) -> SourceType:
    """Return the source type that S3DataType names; raises ValidationError for those transform jobs cannot read."""
    try:
        return SourceType(text)
    except ValueError:
        supported = ", ".join(sorted(SourceType))
        raise ValidationError(
            f'S3DataType "{text}" is not supported for transform jobs. Supported: [{supported}].'
        ) from None


def validate_spec(spec: TransformSpec) -> None:
    """Raise ValidationError if a rule between or about members is broken; the message names members and values."""
    _check_payload(spec)
    _check_ranges(spec)
    _check_environment(spec)
    _check_types(spec)
    _check_join(spec)
    _check_filters(spec)
    _check_capture(spec)
    _check_options(spec)


def _check_options(spec: TransformSpec) -> None:
    """Check what is asked for beyond SageMaker; a misspelt variable would be one that silently does nothing."""
    for name in spec.environment:
        if name.startswith(OPTION_PREFIX) and name not in OPTIONS:
            near = get_close_matches(name, OPTIONS, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ValidationError(
                f"Environment.{name} is no variable of transform jobs; those that begin with {OPTION_PREFIX} are "
                f"[{', '.join(sorted(OPTIONS))}].{hint}"
            )
    check_ranges(spec, JobFormats(spec), job_options(spec.environment).range_bytes)


def _check_payload(spec: TransformSpec) -> None:
    if spec.max_payload_bytes is None:
        return
    megabytes = spec.max_payload_bytes // MIB
    _check_range("maxPayloadInMB", megabytes, 0, None)
    if megabytes > MAX_PAYLOAD_MB:
        raise ValidationError(f"MaxPayloadInMB must not exceed 100. Got {megabytes} instead.")
    concurrency = spec.max_concurrent_transforms
    if concurrency is not None and concurrency * megabytes > MAX_PAYLOAD_MB:
        raise ValidationError(
            "The product of MaxConcurrentTransforms and MaxPayloadInMB must not exceed 100. "
            f"Got {concurrency} x {megabytes} = {concurrency * megabytes} instead."
        )


def _check_ranges(spec: TransformSpec) -> None:
    if spec.max_concurrent_transforms is not None:
        _check_range("maxConcurrentTransforms", spec.max_concurrent_transforms, 0, None)
    _check_range(
        "modelClientConfig.invocationsTimeoutInSeconds", spec.invocation_timeout_seconds, 1, MAX_TIMEOUT_SECONDS
    )
    _check_range("modelClientConfig.invocationsMaxRetries", spec.invocation_max_retries, 0, MAX_RETRIES)
    _check_range("transformResources.instanceCount", spec.instance_count, 1, MAX_INSTANCES)


def _check_range(path: str, value: float, least: int, most: int | None) -> None:
    if value < least:
        raise _broken(f"{value:g}", path, f"Member must have value greater than or equal to {least}")
    if most is not None and value > most:
        raise _broken(f"{value:g}", path, f"Member must have value less than or equal to {most}")


def _check_environment(spec: TransformSpec) -> None:
    if len(spec.environment) > MAX_ENVIRONMENT:
        raise _broken(
            f"{len(spec.environment)} entries",
            "environment",
            f"Member must have length less than or equal to {MAX_ENVIRONMENT}",
        )
    for name, value in spec.environment.items():
        if not _VARIABLE.fullmatch(name):
            raise _broken(name, "environment", f"Member must satisfy regular expression pattern: {_VARIABLE.pattern}")
        if len(value) > _MAX_VALUE:
            raise _broken(
                f"{value[:20]}...",
                f"environment.{name}",
                f"Member must have length less than or equal to {_MAX_VALUE}",
            )


def _check_types(spec: TransformSpec) -> None:
    for path, value in (("transformInput.contentType", spec.content_type), ("transformOutput.accept", spec.accept)):
        if value is None:
            continue
        if len(value) > MAX_CONTENT_TYPE:
            raise _broken(value, path, f"Member must have length less than or equal to {MAX_CONTENT_TYPE}")
        if any(ord(char) < 32 or ord(char) == 127 for char in value):
            raise _broken(repr(value), path, "Member must not contain control characters")


def _check_join(spec: TransformSpec) -> None:
    if spec.processing.join_source is not JoinSource.INPUT:
        return
    content, accept = format_of(spec.content_type), format_of(spec.accept)
    paired = content is not None and content == accept and str(spec.split) == str(spec.assemble_with)
    if not paired:
        raise ValidationError(
            'JoinSource "Input" requires ContentType and Accept to be equal and one of '
            f"[{', '.join(Format.ALL)}], and SplitType to equal AssembleWith. "
            f"Got ContentType {_quoted(spec.content_type)}, Accept {_quoted(spec.accept)}, "
            f"SplitType {_quoted(spec.split)}, AssembleWith {_quoted(spec.assemble_with)} instead."
        )
    if content == Format.CSV and (spec.split is not SplitType.LINE or spec.assemble_with is not AssembleWith.LINE):
        raise ValidationError(
            f'JoinSource "Input" with ContentType "{Format.CSV}" requires SplitType and AssembleWith to be "Line". '
            f"Got SplitType {_quoted(spec.split)}, AssembleWith {_quoted(spec.assemble_with)} instead."
        )


def _check_filters(spec: TransformSpec) -> None:
    """Check rules X12 to X18: a filter other than `$` is written in the syntax of the type it is applied to."""
    filters = (
        ("InputFilter", spec.processing.input_filter, "ContentType", spec.content_type, input_filter),
        ("OutputFilter", spec.processing.output_filter, "Accept", spec.accept, output_filter),
    )
    for member, text, type_member, media_type, parse in filters:
        if text != "$" and spec.split in FRAMINGS:
            raise ValidationError(
                f'{member} other than "$" requires TransformInput.SplitType to be "None" or "Line". '
                f'Got {member} "{text}" and SplitType {_quoted(spec.split)} instead.'
            )
        if text != "$" and format_of(media_type) is None and len(text) <= 63:
            raise ValidationError(
                f'Invalid {member}: "{text}". {member} requires {type_member} to be one of '
                f"[{', '.join(Format.ALL)}]. Got {_quoted(media_type)} instead."
            )
        try:
            parse(spec)
        except InvalidFilter as exc:
            raise ValidationError(str(exc)) from exc


def _check_capture(spec: TransformSpec) -> None:
    """Check rule X26: an id is added to a row, so the output must have rows; and that manifests can have a key."""
    if spec.capture is not None:
        size = len(spec.capture.destination.prefix.encode())
        if size > MAX_CAPTURE_KEY:
            raise ValidationError(
                f"DataCaptureConfig.DestinationS3Uri must have a key of at most {MAX_CAPTURE_KEY} bytes, so that the "
                f"keys of manifests below it have at most 1,024. Got {size} bytes instead."
            )
    if spec.tags_rows and format_of(spec.accept) is None:
        raise ValidationError(
            "DataCaptureConfig.GenerateInferenceId requires TransformOutput.Accept to be one of "
            f"[{', '.join(Format.ALL)}]. Got {_quoted(spec.accept)} instead."
        )


def _broken(value: str, path: str, rule: str) -> ValidationError:
    return ValidationError(
        f"1 validation error detected: Value '{value}' at '{path}' failed to satisfy constraint: {rule}"
    )


def _quoted(value: str | None) -> str:
    return "none" if value is None else f'"{value}"'
