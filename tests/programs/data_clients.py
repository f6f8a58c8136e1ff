"""Read and write S3 with one data library, as its users do; the address and keys are in the environment.

    python data_clients.py LIBRARY BUCKET

It ends with 0 if everything came back as it was stored.
"""

import os
import sys
from collections.abc import Callable

ENDPOINT = os.environ["AWS_ENDPOINT_URL"]
KEY, SECRET = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
ROWS = 200_000


def s3fs(bucket: str) -> None:
    """Files, folders, ranges, copies, moves, large files in parts, and removal."""
    import s3fs as library

    files = library.S3FileSystem(default_block_size=5 * 2**20)
    content = os.urandom(12 * 2**20)
    with files.open(f"{bucket}/fs/large.bin", "wb") as file:
        file.write(content)
    with files.open(f"{bucket}/fs/large.bin", "rb") as file:
        file.seek(7 * 2**20 - 5)
        assert file.read(100) == content[7 * 2**20 - 5 :][:100]
    assert files.cat(f"{bucket}/fs/large.bin") == content
    files.pipe({f"{bucket}/fs/a b/é+{number}.txt": b"%d" % number for number in range(30)})
    assert len(files.find(f"{bucket}/fs")) == 31
    assert sorted(files.ls(f"{bucket}/fs", detail=False)) == [f"{bucket}/fs/a b", f"{bucket}/fs/large.bin"]
    files.mv(f"{bucket}/fs/a b/é+7.txt", f"{bucket}/fs/moved.txt")
    files.copy(f"{bucket}/fs/large.bin", f"{bucket}/fs/copy.bin")
    assert files.info(f"{bucket}/fs/copy.bin")["size"] == len(content)
    assert files.cat(f"{bucket}/fs/moved.txt") == b"7"
    assert not files.exists(f"{bucket}/fs/a b/é+7.txt")
    files.setxattr(f"{bucket}/fs/moved.txt", who="me")
    assert files.getxattr(f"{bucket}/fs/moved.txt", "who") == "me"
    files.put_tags(f"{bucket}/fs/moved.txt", {"team": "x"})
    assert files.get_tags(f"{bucket}/fs/moved.txt") == {"team": "x"}
    files.rm(f"{bucket}/fs", recursive=True)
    assert files.find(f"{bucket}/fs") == []


def pandas(bucket: str) -> None:
    """CSV and Parquet at s3:// addresses."""
    import pandas as library

    table = library.DataFrame({"n": range(ROWS), "x": [number / 7 for number in range(ROWS)]})
    table.to_csv(f"s3://{bucket}/pandas/t.csv.gz", index=False)
    table.to_parquet(f"s3://{bucket}/pandas/t.parquet")
    assert library.read_csv(f"s3://{bucket}/pandas/t.csv.gz").n.sum() == table.n.sum()
    assert library.read_parquet(f"s3://{bucket}/pandas/t.parquet", columns=["x"]).x.equals(table.x)


def pyarrow(bucket: str) -> None:
    """Arrow's own C++ client: streams, listings, moves, and a partitioned data set."""
    import pyarrow as library
    import pyarrow.dataset as dataset
    from pyarrow import fs

    place = {"endpoint_override": ENDPOINT.partition("//")[2], "scheme": "http", "region": "us-east-1"}
    files = fs.S3FileSystem(access_key=KEY, secret_key=SECRET, **place)
    table = library.table({"part": [number % 3 for number in range(ROWS)], "n": list(range(ROWS))})
    dataset.write_dataset(
        table, f"{bucket}/arrow", filesystem=files, format="parquet", partitioning=["part"], partitioning_flavor="hive"
    )
    found = dataset.dataset(f"{bucket}/arrow", filesystem=files, format="parquet", partitioning="hive")
    assert found.to_table(filter=dataset.field("part") == 1).num_rows == len(range(1, ROWS, 3))
    content = os.urandom(11 * 2**20)
    with files.open_output_stream(f"{bucket}/arrow-raw/large.bin") as stream:
        stream.write(content)
    with files.open_input_file(f"{bucket}/arrow-raw/large.bin") as file:
        assert file.read_at(100, 5_000_000) == content[5_000_000:5_000_100]
        assert file.size() == len(content)
    files.move(f"{bucket}/arrow-raw/large.bin", f"{bucket}/arrow-raw/moved.bin")
    files.create_dir(f"{bucket}/arrow-raw/empty")
    listed = files.get_file_info(fs.FileSelector(f"{bucket}/arrow-raw", recursive=True))
    assert {(info.base_name, info.type) for info in listed} == {
        ("moved.bin", fs.FileType.File),
        ("empty", fs.FileType.Directory),
    }
    files.delete_dir(f"{bucket}/arrow-raw")
    assert files.get_file_info(f"{bucket}/arrow-raw").type == fs.FileType.NotFound


def polars(bucket: str) -> None:
    """Polars' own Rust client: written, scanned with a filter, and by a pattern of names."""
    import polars as library

    options = {"aws_endpoint_url": ENDPOINT, "aws_region": "us-east-1", "aws_allow_http": "true"}
    options |= {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET}
    table = library.DataFrame({"n": range(ROWS), "s": [str(number) for number in range(ROWS)]})
    for number in range(3):
        table.write_parquet(f"s3://{bucket}/polars/{number}.parquet", storage_options=options)
    scanned = library.scan_parquet(f"s3://{bucket}/polars/*.parquet", storage_options=options)
    chosen = scanned.filter(library.col("n") >= ROWS - 10).select(library.len()).collect()
    assert chosen.item() == 30
    assert library.read_parquet(f"s3://{bucket}/polars/1.parquet", storage_options=options).equals(table)
    table.lazy().sink_csv(f"s3://{bucket}/polars/t.csv", storage_options=options)
    counted = library.scan_csv(f"s3://{bucket}/polars/t.csv", storage_options=options).select(library.len()).collect()
    assert counted.item() == ROWS


def duckdb(bucket: str) -> None:
    """SQL over s3:// addresses, by way of fsspec: the httpfs extension is a download that tests do without."""
    import duckdb as library
    import s3fs as files

    connection = library.connect()
    connection.register_filesystem(files.S3FileSystem())
    connection.execute(
        f"COPY (SELECT range AS n, range % 5 AS part FROM range({ROWS})) TO 's3://{bucket}/duck/t.parquet'"
    )
    query = f"SELECT part, count(*) FROM 's3://{bucket}/duck/*.parquet' GROUP BY part ORDER BY part"
    assert connection.execute(query).fetchall() == [(part, ROWS // 5) for part in range(5)]
    connection.execute(f"COPY (SELECT 1 AS a) TO 's3://{bucket}/duck/t.csv' (HEADER)")
    assert connection.execute(f"SELECT a FROM read_csv('s3://{bucket}/duck/t.csv')").fetchall() == [(1,)]


LIBRARIES: dict[str, Callable[[str], None]] = {
    function.__name__: function for function in (s3fs, pandas, pyarrow, polars, duckdb)
}

if __name__ == "__main__":
    LIBRARIES[sys.argv[1]](sys.argv[2])
