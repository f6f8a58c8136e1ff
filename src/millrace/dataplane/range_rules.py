"""Say which jobs may have their objects cut into ranges, and which objects of them are. Pure."""

from collections.abc import Iterable
from dataclasses import replace

from millrace.dataplane.formats.job import JobFormats
from millrace.dataplane.formats.options import CsvRecords
from millrace.dataplane.plan import InputObject
from millrace.dataplane.ranges import cut
from millrace.errors import ValidationError
from millrace.jobs.transform import Compression, SplitType, TransformSpec
from millrace.jobs.transform_options import RANGE_SPLIT

__all__ = ["check_ranges", "cut_inputs"]


def check_ranges(spec: TransformSpec, formats: JobFormats, range_bytes: int | None) -> None:
    """Raise ValidationError if a job wants its objects cut whose records can't be found from within an object.

    So it is with an output that is not simply the text of its parts, one behind the other.
    """
    if range_bytes is None:
        return
    options = formats.options
    for member, value, wanted in (
        ("SplitType", spec.split, SplitType.LINE),
        ("CompressionType", spec.compression, Compression.NONE),
        ("MILLRACE_INPUT_COMPRESSION", options.input_compression, None),
        ("MILLRACE_INPUT_FORMAT", options.input_format, None),
        ("MILLRACE_CSV_RECORDS", options.csv_records, CsvRecords.LINES),
        ("MILLRACE_OUTPUT_FORMAT", options.output_format, None),
        ("MILLRACE_OUTPUT_COMPRESSION", options.output_compression, None),
    ):
        if value != wanted:
            rule = "absent" if wanted is None else f'"{wanted}"'
            raise ValidationError(
                f"Environment.{RANGE_SPLIT} requires {member} to be {rule}: ranges are cut at line feeds of objects "
                f'as they are stored, and joined as text. Got "{value}" instead.'
            )


def cut_inputs(inputs: Iterable[InputObject], formats: JobFormats, range_bytes: int | None) -> list[InputObject]:
    """Return inputs with those cut into ranges that are longer than one; of which nothing is known stay whole."""
    if range_bytes is None:
        return list(inputs)
    units: list[InputObject] = []
    for entry in inputs:
        may = entry.refused is None and entry.version and formats.codec(entry.ref.key) is None
        ranges = cut(entry.size, range_bytes) if may else ()
        units += [replace(entry, range=part, size=part.end - part.start) for part in ranges] or [entry]
    return units
