"""What a job says about formats in its Environment."""

import pytest

from millrace.dataplane.formats import FORMAT_VARIABLES, check_formats, format_options
from millrace.dataplane.formats.columns import OutputColumn
from millrace.dataplane.formats.options import (
    Codec,
    CsvHeader,
    CsvRecords,
    FormatOptions,
    InputCompression,
    TableForm,
)
from millrace.errors import ValidationError
from millrace.jobs.transform import (
    AssembleWith,
    Compression,
    DataCapture,
    DataProcessing,
    JoinSource,
    SplitType,
    TransformSpec,
)
from millrace.names import ObjectPrefix


def spec(
    content_type: str | None = "text/csv",
    *,
    split: SplitType = SplitType.LINE,
    compression: Compression = Compression.NONE,
    joins: bool = False,
    output_filter: str = "$",
    capture: DataCapture | None = None,
) -> TransformSpec:
    """A job whose answers are like its records."""
    return TransformSpec(
        model="m",
        source=ObjectPrefix("shop", "in/"),
        output=ObjectPrefix("shop", "out/"),
        split=split,
        assemble_with=AssembleWith.LINE,
        compression=compression,
        content_type=content_type,
        accept=content_type,
        capture=capture,
        processing=DataProcessing(
            join_source=JoinSource.INPUT if joins else JoinSource.NONE, output_filter=output_filter
        ),
    )


def test_a_job_without_variables_asks_for_nothing() -> None:
    """Variables of the container are not looked at; without any of ours, objects are bytes."""
    assert format_options({"MILLRACE_OTHER": "x", "PATH": "/bin"}).is_identity


def test_all_variables_are_read() -> None:
    """Each variable has its field; words are taken whatever their case."""
    options = format_options(
        {
            "MILLRACE_INPUT_FORMAT": "Parquet",
            "MILLRACE_INPUT_COLUMNS": ' age, "name, first"',
            "MILLRACE_INPUT_COMPRESSION": "auto",
            "MILLRACE_CSV_HEADER": "repeat",
            "MILLRACE_CSV_RECORDS": "rfc4180",
            "MILLRACE_OUTPUT_FORMAT": "arrow",
            "MILLRACE_OUTPUT_COLUMNS": "score:float, label, at:10:date",
            "MILLRACE_OUTPUT_COMPRESSION": "zstd",
        }
    )
    assert options == FormatOptions(
        input_format=TableForm.PARQUET,
        input_columns=("age", "name, first"),
        input_compression=InputCompression.AUTO,
        csv_header=CsvHeader.REPEAT,
        csv_records=CsvRecords.RFC4180,
        output_format=TableForm.ARROW,
        output_columns=(
            OutputColumn(name="score", type="float"),
            OutputColumn(name="label"),
            OutputColumn(name="at:10", type="date"),
        ),
        output_compression=Codec.ZSTD,
    )
    assert len(FORMAT_VARIABLES) == 8


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("MILLRACE_INPUT_FORMAT", "orc", "must be one of [parquet, arrow]"),
        ("MILLRACE_INPUT_COMPRESSION", "lz4", "must be one of [gzip, zstd, auto]"),
        ("MILLRACE_CSV_HEADER", "", "must be one of [skip, repeat]"),
        ("MILLRACE_CSV_RECORDS", "4180", "must be one of [lines, rfc4180]"),
        ("MILLRACE_OUTPUT_FORMAT", "csv", "must be one of [parquet, arrow]"),
        ("MILLRACE_OUTPUT_COMPRESSION", "auto", "must be one of [gzip, zstd]"),
        ("MILLRACE_INPUT_COLUMNS", "a,,b", "must name columns, with commas between them and none empty"),
        ("MILLRACE_INPUT_COLUMNS", " ", "must name columns, with commas between them and none empty"),
        ("MILLRACE_INPUT_COLUMNS", "a,b,a", 'must name each column once, but names "a" 2 times'),
        ("MILLRACE_INPUT_COLUMNS", '"a', "must be a row of CSV"),
        ("MILLRACE_OUTPUT_COLUMNS", "a:number", "a type of [bool, int8, int16, int32, int64, "),
        ("MILLRACE_OUTPUT_COLUMNS", ":int8", 'must name each column, but has ":int8"'),
        ("MILLRACE_OUTPUT_COLUMNS", "a:list<x>", 'but has "a:list<x>"'),
    ],
)
def test_a_wrong_value_is_told_with_its_rule(name: str, value: str, rule: str) -> None:
    """The error names the variable, the rule and the value."""
    with pytest.raises(ValidationError) as caught:
        format_options({name: value})
    message = str(caught.value)
    assert message.startswith(f"Environment.{name} ")
    assert rule in message
    assert message.endswith(f'Got "{value}" instead.')


TABLE = FormatOptions(input_format=TableForm.PARQUET)
TABLES = FormatOptions(input_format=TableForm.PARQUET, output_format=TableForm.PARQUET)
TO_ARROW = FormatOptions(output_format=TableForm.ARROW)
HEADER = FormatOptions(csv_header=CsvHeader.SKIP)
QUOTED = FormatOptions(csv_records=CsvRecords.RFC4180)
LISTS = (OutputColumn(name="e", type="list<float>"),)


@pytest.mark.parametrize(
    ("job", "options", "told"),
    [
        (spec(split=SplitType.NONE), TABLE, 'requires SplitType "Line": a row is a record. Got "None" instead.'),
        (spec("image/png"), TABLE, "requires ContentType to be one of [text/csv, application/json, "),
        (spec(compression=Compression.GZIP), TABLE, 'requires CompressionType "None"'),
        (
            spec(),
            FormatOptions(input_format=TableForm.ARROW, input_compression=InputCompression.ZSTD),
            "cannot be combined with MILLRACE_INPUT_COMPRESSION",
        ),
        (spec(), FormatOptions(input_columns=("a",)), "MILLRACE_INPUT_COLUMNS requires MILLRACE_INPUT_FORMAT"),
        (
            spec(compression=Compression.GZIP),
            FormatOptions(input_compression=InputCompression.ZSTD),
            'CompressionType "Gzip" requires Environment.MILLRACE_INPUT_COMPRESSION to be "gzip" or absent. Got "zstd"',
        ),
        (spec("application/jsonlines"), HEADER, 'MILLRACE_CSV_HEADER "skip" requires ContentType "text/csv"'),
        (spec(split=SplitType.NONE), QUOTED, 'MILLRACE_CSV_RECORDS "rfc4180" requires ContentType "text/csv"'),
        (
            spec(),
            FormatOptions(input_format=TableForm.PARQUET, csv_header=CsvHeader.SKIP),
            'MILLRACE_CSV_HEADER must be "repeat" or absent with MILLRACE_INPUT_FORMAT',
        ),
        (spec("image/png"), TO_ARROW, 'MILLRACE_OUTPUT_FORMAT "arrow" requires Accept to be one of'),
        (
            spec(),
            FormatOptions(output_format=TableForm.ARROW, output_compression=Codec.GZIP),
            "Arrow has no gzip",
        ),
        (spec(joins=True, output_filter="$[0]"), TABLES, 'requires OutputFilter "$": columns are joined, not text'),
        (
            spec(joins=True, capture=DataCapture(destination=ObjectPrefix("shop", "c"), generate_inference_id=True)),
            TABLES,
            "cannot be combined with DataCaptureConfig.GenerateInferenceId",
        ),
        (
            spec("application/jsonlines"),
            FormatOptions(output_columns=(OutputColumn(name="a"),)),
            'MILLRACE_OUTPUT_COLUMNS requires MILLRACE_OUTPUT_FORMAT, or Accept "text/csv"',
        ),
        (
            spec(),
            FormatOptions(output_columns=(OutputColumn(name="a", type="int8"),)),
            'may give types only with MILLRACE_OUTPUT_FORMAT. Got "a:int8" instead.',
        ),
        (
            spec(),
            FormatOptions(output_format=TableForm.PARQUET, output_columns=LISTS),
            'may have lists only with Accept "application/jsonlines"',
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(job: TransformSpec, options: FormatOptions, told: str) -> None:
    """A combination that cannot work is refused when the job is created; the error names members and values."""
    with pytest.raises(ValidationError) as caught:
        check_formats(job, options)
    assert told in str(caught.value)


def test_tables_need_their_library() -> None:
    """Without pyarrow a job with tables is refused when it is created, and told how to get it; others need nothing."""

    def nothing(package: str) -> bool:
        return package == ""

    for options in (TABLE, TO_ARROW):
        with pytest.raises(ValidationError, match=r"^Parquet and Arrow need pyarrow: pip install 'millrace\[arrow\]'$"):
            check_formats(spec(), options, is_installed=nothing)
    check_formats(spec(), HEADER, is_installed=nothing)


@pytest.mark.parametrize(
    ("job", "options"),
    [
        (spec("image/png", split=SplitType.NONE), FormatOptions()),
        (spec("image/png", split=SplitType.NONE), FormatOptions(input_compression=InputCompression.AUTO)),
        (spec(compression=Compression.GZIP), FormatOptions(input_compression=InputCompression.GZIP)),
        (spec("text/csv; charset=utf-8"), HEADER),
        (spec(joins=True), TABLES),
        (spec("application/json"), TABLES),
        (spec(joins=True, output_filter="$[0]"), TABLE),
        (spec(), FormatOptions(output_columns=(OutputColumn(name="a"),))),
        (spec("application/jsonlines"), FormatOptions(output_format=TableForm.ARROW, output_columns=LISTS)),
    ],
)
def test_what_fits_is_accepted(job: TransformSpec, options: FormatOptions) -> None:
    """Everything that can work together may be asked for together."""
    check_formats(job, options)
