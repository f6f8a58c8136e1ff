"""Say which jobs may have their objects cut into ranges, and which objects of them are. Pure."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from millrace.dataplane.formats.job import JobFormats
from millrace.dataplane.plan import InputObject
from millrace.dataplane.ranges import cut
from millrace.errors import ValidationError
from millrace.jobs.transform import SplitType, TransformSpec
from millrace.jobs.transform_options import RANGE_SPLIT
from millrace.names import ObjectRef
from millrace.told import shortened

__all__ = ["check_ranges", "cut_inputs", "tell_whole"]

TOLD_OBJECTS = 20
"""Objects of which the log tells one by one why they are not cut."""

_COMPRESSED = "what is compressed can only be read from its beginning"


def check_ranges(spec: TransformSpec, formats: JobFormats, range_bytes: int | None) -> None:
    """Raise ValidationError if a job wants its objects cut, and nothing in it could be."""
    if range_bytes is None:
        return
    options = formats.options
    if spec.split is SplitType.NONE:
        raise _refused("SplitType", spec.split, f"one of [{', '.join(_SPLITS)}]", "an object is one record")
    if formats.codec("") is not None:
        if options.input_compression is not None:
            rule = '"auto" or absent'
            raise _refused("MILLRACE_INPUT_COMPRESSION", options.input_compression, rule, _COMPRESSED)
        raise _refused("CompressionType", spec.compression, '"None"', _COMPRESSED)
    if options.output_format is not None:
        reason = "outputs are put together of text, and a table is made as one"
        raise _refused("MILLRACE_OUTPUT_FORMAT", options.output_format, "absent", reason)


_SPLITS = [str(split) for split in SplitType if split is not SplitType.NONE]


def _refused(member: str, value: str, rule: str, reason: str) -> ValidationError:
    return ValidationError(
        f'Environment.{RANGE_SPLIT} requires {member} to be {rule}: {reason}. Got "{value}" instead.'
    )


def cut_inputs(inputs: Iterable[InputObject], formats: JobFormats, range_bytes: int | None) -> Iterator[InputObject]:
    """Yield inputs, those cut into ranges that are longer than one, and that can be."""
    for entry in inputs:
        ranges = cut(entry.size, range_bytes) if range_bytes and _why_whole(entry, formats) is None else ()
        for part in ranges:
            yield replace(entry, range=part, size=part.end - part.start)
        if not ranges:
            yield entry


def tell_whole(
    inputs: Iterable[InputObject],
    formats: JobFormats,
    range_bytes: int | None,
    *,
    told: Callable[[ObjectRef], str] = str,
) -> Iterator[str]:
    """Yield for each object why it stays whole that is longer than a range; of many, the first ones are told.

    `told` says an object's name.
    """
    if range_bytes is None:
        return
    left = 0
    for entry in inputs:
        if entry.range is not None or entry.size <= range_bytes or (reason := _why_whole(entry, formats)) is None:
            continue
        left += 1
        if left <= TOLD_OBJECTS:
            yield f"{shortened(told(entry.ref))} is not cut into ranges: {reason}"
    if left > TOLD_OBJECTS:
        yield f"{left - TOLD_OBJECTS} more objects are not cut into ranges"


def _why_whole(entry: InputObject, formats: JobFormats) -> str | None:
    """Return why an object can't be cut, None if it can."""
    if entry.refused is not None:
        return entry.refused
    if not entry.version:
        return "nothing is known of it, not even its version"
    if (codec := formats.codec(entry.ref.key)) is not None:
        return f"its name says that it is compressed ({codec}), and {_COMPRESSED}"
    return None
