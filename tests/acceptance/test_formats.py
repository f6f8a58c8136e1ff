"""Jobs whose objects are tables, compressed, or CSV with a header: through the whole transform loop."""

import gzip
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from backports import zstd
from tests.acceptance.transform_rig import ECHO, ROWSUM, job, run_job, status

from millrace.jobs.transform import AssembleWith, BatchStrategy, DataProcessing, JoinSource, SplitType

CSV = {"split": SplitType.LINE, "content_type": "text/csv", "accept": "text/csv"}
LINES = {**CSV, "assemble_with": AssembleWith.LINE}
JOINED = DataProcessing(join_source=JoinSource.INPUT)


def parquet(columns: Mapping[str, list[Any]], rows_in_group: int = 2) -> bytes:
    """Return a Parquet file of these columns."""
    file = io.BytesIO()
    pq.write_table(pa.table(dict(columns)), file, row_group_size=rows_in_group)
    return file.getvalue()


@pytest.mark.parametrize("strategy", list(BatchStrategy))
async def test_a_header_is_skipped_or_repeated(strategy: BatchStrategy) -> None:
    """Containers see records alone, or in each request a header and records."""
    data = b"a,b\n1,2\n3,4\n"
    for mode, bodies in (("skip", {b"1,2\n", b"3,4\n"}), ("repeat", {b"a,b\n1,2\n", b"a,b\n3,4\n"})):
        spec = job(**CSV, strategy=strategy, environment={"MILLRACE_CSV_HEADER": mode})
        result = await run_job(spec, ECHO, data)
        if strategy is BatchStrategy.SINGLE_RECORD:
            assert set(result.server.bodies) == bodies
        assert result.outcome.progress.records == 2
        assert not result.failed


async def test_quoted_line_feeds_do_not_end_records() -> None:
    """With the rules of RFC 4180 a record may have several lines."""
    data = b'1,"a\nb"\n2,c\n'
    spec = job(**CSV, strategy=BatchStrategy.SINGLE_RECORD, environment={"MILLRACE_CSV_RECORDS": "rfc4180"})
    result = await run_job(spec, ECHO, data)
    assert sorted(result.server.bodies) == [b'1,"a\nb"\n', b"2,c\n"]
    assert result.output == data


@pytest.mark.parametrize(
    ("name", "pack", "unpack"),
    [
        ("gzip", gzip.compress, gzip.decompress),
        ("zstd", zstd.compress, zstd.decompress),
    ],
)
async def test_compression_in_and_out(name: str, pack: Any, unpack: Any, tmp_path: Path) -> None:
    """Objects are decompressed on the way in, and compressed on the way out."""
    spec = job(**LINES, environment={"MILLRACE_INPUT_COMPRESSION": name, "MILLRACE_OUTPUT_COMPRESSION": name})
    result = await run_job(spec, ROWSUM, pack(b"1,2\n3,4\n"), scratch=tmp_path)
    assert unpack(result.output) == b"3\n7\n"


async def test_parquet_in_and_out_with_a_join(tmp_path: Path) -> None:
    """Typed columns come back with the answer's columns behind them."""
    kind = {
        "MILLRACE_INPUT_FORMAT": "parquet",
        "MILLRACE_INPUT_COLUMNS": "x,y",
        "MILLRACE_OUTPUT_FORMAT": "parquet",
        "MILLRACE_OUTPUT_COLUMNS": "sum:int64",
    }
    spec = job(**LINES, processing=JOINED, environment=kind)
    data = parquet({"id": ["a", "b", "c"], "x": [1, 2, 3], "y": [10, 20, 30]})
    result = await run_job(spec, ROWSUM, data, scratch=tmp_path)
    assert not result.failed, result.outcome.failures
    table = pq.read_table(io.BytesIO(result.output))
    assert table.to_pydict() == {
        "id": ["a", "b", "c"],
        "x": [1, 2, 3],
        "y": [10, 20, 30],
        "sum": [11, 22, 33],
    }
    assert list(tmp_path.iterdir()) == []


async def test_what_is_no_parquet_fails_its_object(tmp_path: Path) -> None:
    """The object is named with what is wrong with it; others have their outputs."""
    kind = {"MILLRACE_INPUT_FORMAT": "parquet", "MILLRACE_INPUT_COLUMNS": "x"}
    inputs = {"in/a.csv": b"nonsense", "in/b.csv": parquet({"x": [1, 2]})}
    result = await run_job(job(**LINES, environment=kind), ROWSUM, inputs, scratch=tmp_path)
    assert result.outcome.failure_count == 1
    assert result.objects.data("s3://b/out/b.csv.out") == b"1\n2\n"


async def test_bad_records_of_a_headered_object_are_told_by_their_place() -> None:
    """Records count from the object's first line, which is the header."""
    kind = {"MILLRACE_CSV_HEADER": "repeat", "MILLRACE_ON_ERROR": "quarantine"}
    spec = job(**CSV, environment=kind, invocation_max_retries=0)
    result = await run_job(spec, status(400, only=b"BAD"), b"a,b\n1,2\nBAD,3\n5,6\n")
    told = result.objects.data("s3://b/out/a.csv.errors.jsonl")
    assert b'"record":3,"offset":8,"size":6,"input":"BAD,3\\n"' in told
