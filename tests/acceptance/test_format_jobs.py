"""Jobs whose objects are tables, compressed, or CSV with headers, through the whole transform loop."""

import gzip
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
import pyarrow as pa
import pytest
from backports import zstd
from tests.acceptance.transform_rig import ECHO, Result, fix, job, model, run_job, status
from tests.unit.dataplane.formats.tables import arrow, parquet, read

from millrace.dataplane.formats.options import TableForm
from millrace.errors import ValidationError
from millrace.jobs.transform import AssembleWith, BatchStrategy, DataProcessing, JoinSource, SplitType, TransformSpec
from millrace.testing.model_server import Behaviour

TABLE = pa.table({"id": [1, 2, 3], "a": [10, 20, 30], "b": [0.5, None, 2.0], "s": ["x", "y\nz", "w,"]})
JOIN = DataProcessing(join_source=JoinSource.INPUT)
strategies = pytest.mark.parametrize("strategy", BatchStrategy)


def spec(
    strategy: BatchStrategy = BatchStrategy.MULTI_RECORD,
    processing: DataProcessing | None = None,
    media_type: str = "text/csv",
    max_payload_bytes: int | None = None,
    **variables: str,
) -> TransformSpec:
    """A job over lines, with variables named without their prefix."""
    return job(
        split=SplitType.LINE,
        strategy=strategy,
        assemble_with=AssembleWith.LINE,
        content_type=media_type,
        accept=media_type,
        processing=processing or DataProcessing(),
        max_payload_bytes=max_payload_bytes,
        environment={f"MILLRACE_{name.upper()}": value for name, value in variables.items()},
    )


async def run(made: TransformSpec, container: Behaviour, inputs: bytes | Mapping[str, bytes] = b"") -> Result:
    """Run a job with a folder of its own for text that is kept, of which nothing may be left."""
    with TemporaryDirectory() as folder:
        result = await run_job(made, container, inputs, scratch=Path(folder))
        assert [path for path in Path(folder).rglob("*") if path.is_file()] == []
    return result


def _sums(body: bytes) -> bytes:
    return b"\n".join(b"%d" % sum(map(int, line.split(b","))) for line in body.splitlines())


SUM = model(_sums)
HEADER = model(lambda body: body.splitlines()[0] + b"|%d" % (len(body.splitlines()) - 1))


@strategies
async def test_a_join_adds_columns_to_a_table(strategy: BatchStrategy) -> None:
    """The container gets two columns; the output is the input's table with one more."""
    result = await run(
        spec(
            strategy,
            JOIN,
            input_format="parquet",
            input_columns="id,a",
            output_format="parquet",
            output_columns="sum:float",
        ),
        SUM,
        parquet(TABLE),
    )
    found = read(result.output, TableForm.PARQUET)
    assert found.to_pydict() == {**TABLE.to_pydict(), "sum": [11, 22, 33]}
    assert [str(kind) for kind in found.schema.types] == ["int64", "int64", "double", "string", "float"]
    assert result.outcome.progress.records == 3
    assert result.outcome.progress.bytes_in == len(parquet(TABLE))
    info = await result.objects.get(result.committed[0].output)
    assert info.meta.headers["content-type"] == "application/vnd.apache.parquet"


@strategies
async def test_a_table_is_joined_as_text(strategy: BatchStrategy) -> None:
    """Rows of a table are records like any: filtered, joined, with a header if the answer's column is named."""
    processing = DataProcessing(join_source=JoinSource.INPUT, input_filter="$[0,1]")
    made = spec(strategy, processing, input_format="parquet", input_columns="id,a,b", output_columns="sum")
    result = await run(made, SUM, parquet(TABLE))
    assert result.output == b"id,a,b,sum\n1,10,0.5,11\n2,20,,22\n3,30,2,33\n"


async def test_lines_of_json_become_a_table() -> None:
    """Members of answers are columns."""
    answers = model(lambda body: b"\n".join(b'{"n":%d}' % len(line) for line in body.splitlines()))
    made = spec(media_type="application/jsonlines", input_format="arrow", input_columns="s", output_format="arrow")
    result = await run(made, answers, arrow(TABLE))
    assert read(result.output, TableForm.ARROW).to_pydict() == {"n": [9, 12, 10]}


@strategies
async def test_each_request_begins_with_the_header(strategy: BatchStrategy) -> None:
    """A header is that of its object; objects are compressed as their keys say, outputs as the job says."""
    made = spec(strategy, csv_header="repeat", input_compression="auto", output_compression="zstd")
    inputs = {"in/a.csv": b"h,i\n1,2\n3,4\n", "in/b.csv.gz": gzip.compress(b"j\n1\n"), "in/c.zst": zstd.compress(b"k")}
    result = await run(made, HEADER, inputs)
    outputs = {key: zstd.decompress(result.objects.data(f"s3://b/{key}")) for key in result.objects.keys("b", "out/")}
    together = strategy is BatchStrategy.MULTI_RECORD
    assert outputs == {
        "out/a.csv.out": b"h,i|2\n" if together else b"h,i|1\nh,i|1\n",
        "out/b.csv.gz.out": b"j|1\n",
        "out/c.zst.out": b"",
    }
    assert result.outcome.progress.records == 3


@strategies
async def test_a_header_that_is_skipped_names_columns_of_the_output(strategy: BatchStrategy) -> None:
    """The output has the names of the input's columns and of the answer's."""
    made = spec(strategy, JOIN, csv_header="skip", output_columns="n", output_compression="gzip")
    result = await run(made, SUM, b"h,i\n1,2\n3,4\n")
    assert gzip.decompress(result.output) == b"h,i,n\n1,2,3\n3,4,7\n"
    info = await result.objects.get(result.committed[0].output)
    assert info.meta.headers["content-encoding"] == "gzip"


@pytest.mark.parametrize("limit", [None, 0])
async def test_objects_without_limit_are_read_and_written_in_their_formats(limit: int | None) -> None:
    """One request for all of an object has a repeated header once; its answer is compressed, or becomes a table."""
    made = spec(max_payload_bytes=limit, input_format="parquet", csv_header="repeat", output_compression="gzip")
    result = await run(made, ECHO, parquet(TABLE))
    assert gzip.decompress(result.output) == b'id,a,b,s\n1,10,0.5,x\n2,20,,"y\nz"\n3,30,2,"w,"\n\n'
    made = spec(max_payload_bytes=limit, input_format="parquet", output_format="arrow", output_columns="i,a,b,s")
    result = await run(made, ECHO, parquet(TABLE))
    assert read(result.output, TableForm.ARROW).to_pydict() == {
        "i": [1, 2, 3],
        **TABLE.drop_columns("id").to_pydict(),
    }


@strategies
async def test_quoted_records_stay_whole(strategy: BatchStrategy) -> None:
    """A line feed between quotes goes to the container with its record."""
    seen: list[bytes] = []

    def answer(body: bytes) -> bytes:
        seen.append(body)
        return b"ok"

    result = await run(spec(strategy, csv_records="rfc4180"), model(answer), b'1,"a\nb"\n2,c\n')
    assert seen == ([b'1,"a\nb"\n2,c\n'] if strategy is BatchStrategy.MULTI_RECORD else [b'1,"a\nb"\n', b"2,c\n"])
    assert result.outcome.progress.records == 2


@strategies
async def test_quoted_records_are_filtered_and_joined_whole(strategy: BatchStrategy) -> None:
    """Filters and joins take a record with the line feeds between its quotes, of text and of tables."""
    processing = DataProcessing(join_source=JoinSource.INPUT, input_filter="$[0]")
    result = await run(spec(strategy, processing, input_format="parquet", output_columns="n"), ECHO, parquet(TABLE))
    assert result.output == b'id,a,b,s,n\n1,10,0.5,x,1\n2,20,,"y\nz",2\n3,30,2,"w,",3\n'
    made = spec(strategy, DataProcessing(output_filter="$[1]"), csv_records="rfc4180")
    assert (await run(made, ECHO, b'1,"a\nb"\n2,"c"\n')).output == b'"a\nb"\nc\n'
    result = await run(spec(strategy, JOIN, csv_records="rfc4180"), ECHO, b'1,"a\nb"\n2,"x"y\n')
    assert "first: in/a.csv, record 2 at byte 8: Failed to parse input as CSV" in result.reason


@strategies
async def test_bad_quoted_records_are_found(strategy: BatchStrategy) -> None:
    """A bad record is told with the line feeds between its quotes, and with its place behind the header."""
    made = spec(strategy, csv_records="rfc4180", csv_header="repeat", on_error="quarantine")
    data = b'h,i\n1,"y\nb"\n2,"BAD\nx"\n3,"y\nz"\n'
    result = await run(made, status(400, "no", only=b"BAD"), data)
    [line] = result.objects.data("s3://b/out/a.csv.errors.jsonl").splitlines()
    bad = orjson.loads(line)
    assert (bad["record"], bad["offset"], bad["input"]) == (3, 12, '2,"BAD\nx"\n')


async def test_records_of_a_streamed_body_are_counted_without_its_header() -> None:
    """What goes by as one request is counted like what is cut."""
    made = spec(max_payload_bytes=0, csv_header="repeat", csv_records="rfc4180")
    result = await run(made, ECHO, b'h\n"1\n"\n2\n')
    assert result.outcome.progress.records == 2


FAILING: list[tuple[TransformSpec, Behaviour, bytes, str]] = [
    (spec(input_format="parquet"), ECHO, b"nope", "in/a.csv, record 1 at byte 0: Failed to read parquet: "),
    (
        spec(input_format="parquet", input_columns="x"),
        ECHO,
        parquet(TABLE),
        'column "x" of MILLRACE_INPUT_COLUMNS must',
    ),
    (spec(input_compression="zstd"), ECHO, b"nope", "in/a.csv, record 1 at byte 0: Failed to decompress zstd "),
    (spec(csv_records="rfc4180"), ECHO, b'1\n"2\n', "record 2 at byte 2: a quoted field of this record"),
    (
        spec(BatchStrategy.SINGLE_RECORD, csv_header="skip"),
        status(400, "bad", only=b"3"),
        b"h\n1\n2\n3\n",
        "record 4 at byte 6: HTTP status 400",
    ),
    (spec(output_format="parquet", output_columns="a:int8"), ECHO, b"x\n", "in/a.csv: Failed to read rows 1 to 1 of"),
    (
        spec(processing=JOIN, input_format="parquet", output_format="arrow"),
        fix("1"),
        parquet(TABLE),
        "Fail to join data: mismatched row count between the input and the output: 3 records, 1 row",
    ),
    (
        spec(processing=JOIN, input_format="parquet", input_columns="a", output_format="arrow", output_columns="id"),
        ECHO,
        parquet(TABLE),
        'the input has a column "id" already',
    ),
]


@pytest.mark.parametrize(("made", "container", "data", "told"), FAILING)
async def test_an_object_that_does_not_fit_fails_alone(
    made: TransformSpec, container: Behaviour, data: bytes, told: str
) -> None:
    """The reason names the place and the rule, nothing of the object is visible, and it is the client's error."""
    result = await run(made, container, data)
    assert result.reason.startswith("ClientError: See job logs for more information. 1 of 1 object failed; first: ")
    assert told in result.reason
    assert result.objects.keys("b", "out/") == []


async def test_formats_are_checked_when_the_job_is_created() -> None:
    """A job whose variables don't fit it never runs."""
    with pytest.raises(ValidationError, match="MILLRACE_INPUT_FORMAT must be one of"):
        await run(spec(input_format="orc"), ECHO)
