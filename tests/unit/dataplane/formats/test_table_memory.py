"""What reading and writing tables takes, in a process that does nothing else."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from millrace.dataplane.formats.table_writer import ROW_GROUP_BYTES
from millrace.store.filesystem import FilesystemObjects

PROGRAM = r"""
import asyncio, io, json, sys
from collections.abc import AsyncGenerator
import pyarrow as pa
import pyarrow.parquet as pq
from millrace.dataplane.formats.convert import TableOutput, joined_table
from millrace.dataplane.formats.options import TableForm
from millrace.dataplane.formats.table_reader import table_lines
from millrace.names import ObjectRef
from millrace.store.filesystem import FilesystemObjects
from pathlib import Path

REF = ObjectRef("shop", "t.parquet")

async def rows() -> AsyncGenerator[bytes, None]:
    for start in range(0, ROWS, 1000):
        yield b"".join(b"%d\n" % row for row in range(start, min(ROWS, start + 1000)))

async def main(folder: Path, media_type: str) -> dict[str, object]:
    objects = FilesystemObjects(folder)
    async for chunk in table_lines(objects, REF, TableForm.PARQUET, media_type=media_type, chunk_bytes=1 << 20):
        pass
    output = TableOutput(form=TableForm.PARQUET, media_type=media_type)
    longest = 0
    async for piece in joined_table(rows, output, objects=objects, ref=REF, form=TableForm.PARQUET):
        longest = max(longest, len(piece))
    return {"longest": longest, "most": pa.default_memory_pool().max_memory(), "pandas": "pandas" in sys.modules}

ROWS = int(sys.argv[2])
print(json.dumps(asyncio.run(main(Path(sys.argv[1]), sys.argv[3]))))
"""

COLUMNS = 8


async def _facts(folder: Path, rows: int, media_type: str) -> dict[str, Any]:
    """Return what a process tells that reads a table and joins a column to it."""
    objects = FilesystemObjects(folder)
    await objects.create_bucket("shop", region="us-east-1", owner="0")
    columns = {
        f"c{at}": pa.Array.from_buffers(pa.int64(), rows, [None, pa.py_buffer(os.urandom(8 * rows))])
        for at in range(COLUMNS)
    }
    pq.write_table(pa.table({**columns, "s": pa.array(['a "b"', None] * (rows // 2))}), folder / "shop" / "t.parquet")
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), str(rows), media_type], capture_output=True, text=True, check=True
    )
    return json.loads(ran.stdout)  # type: ignore[no-any-return]


async def test_a_join_holds_little_beside_its_row_group(tmp_path: Path) -> None:
    """Encoding a row group takes no second copy of it, and pieces of the file go as they are made."""
    found = await _facts(tmp_path, 700_000, "text/csv")
    assert found["most"] < 2 * ROW_GROUP_BYTES
    assert found["longest"] < ROW_GROUP_BYTES // 8


async def test_tables_are_read_and_written_without_pandas(tmp_path: Path) -> None:
    """Neither rows of CSV nor of JSON, nor joining them, import pandas where it is installed."""
    assert importlib.util.find_spec("pandas") is not None, "the law is about machines that have it"
    for media_type in ("text/csv", "application/jsonlines"):
        folder = tmp_path / media_type.replace("/", "-")
        folder.mkdir()
        assert (await _facts(folder, 1000, media_type))["pandas"] is False
