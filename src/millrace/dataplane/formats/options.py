"""Read what a transform job says about the formats of its objects from variables of its Environment. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from millrace.dataplane.formats.columns import InvalidColumns, OutputColumn, parse_input_columns, parse_output_columns
from millrace.errors import ValidationError
from millrace.told import printable, shortened

__all__ = [
    "FORMAT_VARIABLES",
    "Codec",
    "CsvHeader",
    "CsvRecords",
    "FormatOptions",
    "InputCompression",
    "TableForm",
    "format_options",
]

Choice = TypeVar("Choice", bound=StrEnum)


class TableForm(StrEnum):
    """A format of tables with typed columns."""

    PARQUET = "parquet"
    ARROW = "arrow"


class InputCompression(StrEnum):
    """How input objects are compressed; `auto` goes by the end of each key."""

    GZIP = "gzip"
    ZSTD = "zstd"
    AUTO = "auto"


class Codec(StrEnum):
    """How bytes are compressed."""

    GZIP = "gzip"
    ZSTD = "zstd"


class CsvHeader(StrEnum):
    """What becomes of the first record of a CSV object, which names its columns."""

    SKIP = "skip"
    REPEAT = "repeat"


class CsvRecords(StrEnum):
    """Where records of CSV end: at every line feed, or not at those between quotes."""

    LINES = "lines"
    RFC4180 = "rfc4180"


@dataclass(frozen=True, kw_only=True, slots=True)
class FormatOptions:
    """What a job's variables say; without any, objects are bytes as on SageMaker."""

    input_format: TableForm | None = None
    input_columns: tuple[str, ...] = ()
    """Columns that become the text of a record, in this order; all of them if there are none here."""
    input_compression: InputCompression | None = None
    csv_header: CsvHeader | None = None
    csv_records: CsvRecords = CsvRecords.LINES
    output_format: TableForm | None = None
    output_columns: tuple[OutputColumn, ...] = ()
    output_compression: Codec | None = None

    @property
    def is_identity(self) -> bool:
        """Whether nothing was asked for."""
        return self == FormatOptions()

    @property
    def keeps_quoted_newlines(self) -> bool:
        """Whether a line feed between quotes is no end of a record of CSV; text of tables is always read so."""
        return self.csv_records is CsvRecords.RFC4180 or self.input_format is not None


_INPUT_FORMAT = "MILLRACE_INPUT_FORMAT"
_INPUT_COLUMNS = "MILLRACE_INPUT_COLUMNS"
_INPUT_COMPRESSION = "MILLRACE_INPUT_COMPRESSION"
_CSV_HEADER = "MILLRACE_CSV_HEADER"
_CSV_RECORDS = "MILLRACE_CSV_RECORDS"
_OUTPUT_FORMAT = "MILLRACE_OUTPUT_FORMAT"
_OUTPUT_COLUMNS = "MILLRACE_OUTPUT_COLUMNS"
_OUTPUT_COMPRESSION = "MILLRACE_OUTPUT_COMPRESSION"

FORMAT_VARIABLES = (
    _INPUT_FORMAT,
    _INPUT_COLUMNS,
    _INPUT_COMPRESSION,
    _CSV_HEADER,
    _CSV_RECORDS,
    _OUTPUT_FORMAT,
    _OUTPUT_COLUMNS,
    _OUTPUT_COMPRESSION,
)
"""Every variable that is read here."""


def format_options(environment: Mapping[str, str]) -> FormatOptions:
    """Return what the variables of a job's Environment say about formats; others are not looked at.

    Raises:
        ValidationError: A value breaks its rule; the message names variable, rule and value.
    """
    if not any(name in environment for name in FORMAT_VARIABLES):
        return FormatOptions()
    try:
        input_columns = parse_input_columns(environment[_INPUT_COLUMNS]) if _INPUT_COLUMNS in environment else ()
    except InvalidColumns as exc:
        raise _broken(_INPUT_COLUMNS, str(exc), environment[_INPUT_COLUMNS]) from exc
    try:
        output_columns = parse_output_columns(environment[_OUTPUT_COLUMNS]) if _OUTPUT_COLUMNS in environment else ()
    except InvalidColumns as exc:
        raise _broken(_OUTPUT_COLUMNS, str(exc), environment[_OUTPUT_COLUMNS]) from exc
    return FormatOptions(
        input_format=_choice(environment, _INPUT_FORMAT, TableForm),
        input_columns=input_columns,
        input_compression=_choice(environment, _INPUT_COMPRESSION, InputCompression),
        csv_header=_choice(environment, _CSV_HEADER, CsvHeader),
        csv_records=_choice(environment, _CSV_RECORDS, CsvRecords) or CsvRecords.LINES,
        output_format=_choice(environment, _OUTPUT_FORMAT, TableForm),
        output_columns=output_columns,
        output_compression=_choice(environment, _OUTPUT_COMPRESSION, Codec),
    )


def _choice(environment: Mapping[str, str], name: str, choices: type[Choice]) -> Choice | None:
    text = environment.get(name)
    if text is None:
        return None
    try:
        return choices(text.strip().lower())
    except ValueError:
        raise _broken(name, f"must be one of [{', '.join(choices)}]", text) from None


def _broken(name: str, rule: str, value: str) -> ValidationError:
    return ValidationError(f'Environment.{name} {rule}. Got "{shortened(printable(value))}" instead.')
