"""Check that what a job says about formats fits together, and that what reads and writes them is installed."""

from collections.abc import Callable
from importlib.util import find_spec

from millrace.dataplane.formats.options import (
    Codec,
    CsvHeader,
    CsvRecords,
    FormatOptions,
    InputCompression,
    TableForm,
)
from millrace.dataplane.jsonpath import Format, format_of
from millrace.errors import ValidationError
from millrace.jobs.transform import Compression, JoinSource, SplitType, TransformSpec

__all__ = ["MISSING_PYARROW", "check_formats", "joins_tables"]

MISSING_PYARROW = "Parquet and Arrow need pyarrow: pip install 'millrace[arrow]'"


def joins_tables(spec: TransformSpec, options: FormatOptions) -> bool:
    """Return whether answers become further columns of the input's table, which then passes no text."""
    joins = spec.processing.join_source is JoinSource.INPUT
    return joins and options.input_format is not None and options.output_format is not None


def _is_installed(package: str) -> bool:
    return find_spec(package) is not None


def check_formats(
    spec: TransformSpec, options: FormatOptions, *, is_installed: Callable[[str], bool] = _is_installed
) -> None:
    """Raise ValidationError if variables don't fit the job or each other, or what they need is not there.

    The message names members and values. `is_installed` tells whether a package can be imported.
    """
    if options.is_identity:
        return
    _check_input_table(spec, options)
    _check_compression(spec, options)
    _check_csv(spec, options)
    _check_output(spec, options)
    if (options.input_format is not None or options.output_format is not None) and not is_installed("pyarrow"):
        raise ValidationError(MISSING_PYARROW)


def _check_input_table(spec: TransformSpec, options: FormatOptions) -> None:
    if options.input_format is None:
        if options.input_columns:
            raise ValidationError(
                "Environment.MILLRACE_INPUT_COLUMNS requires MILLRACE_INPUT_FORMAT. Got none instead."
            )
        return
    subject = f'Environment.MILLRACE_INPUT_FORMAT "{options.input_format}"'
    if spec.split is not SplitType.LINE:
        raise ValidationError(f'{subject} requires SplitType "Line": a row is a record. Got "{spec.split}" instead.')
    if format_of(spec.content_type) is None:
        raise ValidationError(
            f"{subject} requires ContentType to be {_ANY_ROWS}. Got {_quoted(spec.content_type)} instead."
        )
    if spec.compression is not Compression.NONE:
        raise ValidationError(
            f'{subject} requires CompressionType "None": the format has its own compression. '
            f'Got "{spec.compression}" instead.'
        )
    if options.input_compression is not None:
        raise ValidationError(
            f"{subject} cannot be combined with MILLRACE_INPUT_COMPRESSION: the format has its own compression. "
            f'Got "{options.input_compression}".'
        )


def _check_compression(spec: TransformSpec, options: FormatOptions) -> None:
    given = options.input_compression
    if spec.compression is Compression.GZIP and given not in (None, InputCompression.GZIP):
        raise ValidationError(
            'TransformInput.CompressionType "Gzip" requires Environment.MILLRACE_INPUT_COMPRESSION to be "gzip" or '
            f'absent. Got "{given}" instead.'
        )


def _check_csv(spec: TransformSpec, options: FormatOptions) -> None:
    asked = []
    if options.csv_header is not None:
        asked.append(f'MILLRACE_CSV_HEADER "{options.csv_header}"')
    if options.csv_records is not CsvRecords.LINES:
        asked.append(f'MILLRACE_CSV_RECORDS "{options.csv_records}"')
    for name in asked:
        if format_of(spec.content_type) != Format.CSV or spec.split is not SplitType.LINE:
            raise ValidationError(
                f'Environment.{name} requires ContentType "{Format.CSV}" and SplitType "Line". '
                f'Got ContentType {_quoted(spec.content_type)}, SplitType "{spec.split}" instead.'
            )
    if options.input_format is not None and options.csv_header is CsvHeader.SKIP:
        raise ValidationError(
            f'Environment.MILLRACE_CSV_HEADER must be "repeat" or absent with MILLRACE_INPUT_FORMAT '
            f'"{options.input_format}", whose text has no header of its own. Got "skip" instead.'
        )


def _check_output(spec: TransformSpec, options: FormatOptions) -> None:
    if options.output_format is None:
        _check_output_header(spec, options)
        return
    subject = f'Environment.MILLRACE_OUTPUT_FORMAT "{options.output_format}"'
    if format_of(spec.accept) is None:
        raise ValidationError(f"{subject} requires Accept to be {_ANY_ROWS}. Got {_quoted(spec.accept)} instead.")
    if options.output_format is TableForm.ARROW and options.output_compression is Codec.GZIP:
        raise ValidationError(
            f'{subject} requires MILLRACE_OUTPUT_COMPRESSION to be "zstd" or absent: Arrow has no gzip. '
            'Got "gzip" instead.'
        )
    lists = [column for column in options.output_columns if column.type is not None and column.type.startswith("list")]
    if lists and format_of(spec.accept) == Format.CSV:
        raise ValidationError(
            f'Environment.MILLRACE_OUTPUT_COLUMNS may have lists only with Accept "{Format.JSON_LINES}" or '
            f'"{Format.JSON}". Got "{lists[0].name}:{lists[0].type}" with Accept {_quoted(spec.accept)} instead.'
        )
    if not joins_tables(spec, options):
        return
    if spec.processing.output_filter != "$":
        raise ValidationError(
            f'{subject} with MILLRACE_INPUT_FORMAT and JoinSource "Input" requires OutputFilter "$": columns are '
            f'joined, not text. Got "{spec.processing.output_filter}" instead.'
        )
    if spec.tags_rows:
        raise ValidationError(
            f'{subject} with MILLRACE_INPUT_FORMAT and JoinSource "Input" cannot be combined with '
            "DataCaptureConfig.GenerateInferenceId: columns are joined, not text."
        )


def _check_output_header(spec: TransformSpec, options: FormatOptions) -> None:
    if not options.output_columns:
        return
    if format_of(spec.accept) != Format.CSV or spec.split is not SplitType.LINE:
        raise ValidationError(
            f'Environment.MILLRACE_OUTPUT_COLUMNS requires MILLRACE_OUTPUT_FORMAT, or Accept "{Format.CSV}" and '
            f'SplitType "Line" to write a header. Got Accept {_quoted(spec.accept)}, SplitType "{spec.split}" instead.'
        )
    typed = [column for column in options.output_columns if column.type is not None]
    if typed:
        raise ValidationError(
            "Environment.MILLRACE_OUTPUT_COLUMNS may give types only with MILLRACE_OUTPUT_FORMAT. "
            f'Got "{typed[0].name}:{typed[0].type}" instead.'
        )


_ANY_ROWS = f"one of [{', '.join(Format.ALL)}]"


def _quoted(value: str | None) -> str:
    return "none" if value is None else f'"{value}"'
