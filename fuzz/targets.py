"""Every target by name, with inputs to begin from."""

import gzip
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from backports import zstd
from tests.framed import recordio, tfrecord

from fuzz import formats, records, rows, wire

__all__ = ["TARGETS", "Target"]


@dataclass(frozen=True, slots=True)
class Target:
    """A function that raises whatever is a bug, and how inputs that it does something with may look."""

    check: Callable[[bytes], None]
    seeds: Callable[[], tuple[bytes, ...]]
    megabytes: int = 1024
    """Memory that it may take, that of the libraries included."""


def _texts(*seeds: bytes) -> Callable[[], tuple[bytes, ...]]:
    return lambda: seeds


_CUTS = b"\x03\x07\x00\x14"
_RECORDS = _CUTS + b"\x01\x01"


@cache
def _table() -> Any:
    return pa.table({"id": [1, 2, None], "x": [0.5, -1e300, 2.0], "s": ["a", 'b,"c', None], "l": [[1], [], None]})


def _parquet() -> tuple[bytes, ...]:
    seeds = []
    for compression, dictionary in (("none", True), ("snappy", False), ("zstd", True)):
        file = io.BytesIO()
        pq.write_table(_table(), file, compression=compression, use_dictionary=dictionary, row_group_size=2)
        seeds.append(file.getvalue() + b"\0")
    return tuple(seeds)


def _arrow() -> tuple[bytes, ...]:
    seeds = []
    for new in (pa.ipc.new_file, pa.ipc.new_stream):
        file = io.BytesIO()
        with new(file, _table().schema) as writer:
            writer.write_table(_table(), 2)
        seeds.append(file.getvalue() + b"\1")
    return tuple(seeds)


_JSON = b'{"b":[1,2.50,1e400],"a":"\\ud83d\\ude00","n":null}'
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\n"

TARGETS: Mapping[str, Target] = {
    "line_records": Target(records.line_records, _texts(b"a\n\nbcd\r\nlast" + _RECORDS)),
    "csv_records": Target(records.csv_records, _texts(b'a,"b\n""c"\r\nd\n"e' + _RECORDS, b'1,2\n"3\n",4\n' + _RECORDS)),
    "recordio": Target(records.recordio, lambda: (b"".join(map(recordio, (b"abc", b"", b"x" * 30))) + _RECORDS,)),
    "tfrecord": Target(records.tfrecord, lambda: (b"".join(map(tfrecord, (b"abc", b"", b"x" * 30))) + _RECORDS,)),
    "record_starts": Target(
        records.record_starts,
        _texts(
            b'a,"b\n""c"\r\nd\n"e' + _CUTS + b"\x02\x05\x09\0",
            b"".join(map(recordio, (b"abc", b"", b"x" * 30))) + _CUTS + b"\x02\x10\x20\1",
            b"".join(map(tfrecord, (b"abc", b"", b"x" * 30))) + _CUTS + b"\x02\x14\x25\2",
        ),
    ),
    "csv_rows": Target(rows.csv_rows, _texts(b'a,"b,""c""",,1')),
    "json_rows": Target(rows.json_rows, _texts(_JSON, b"[" * 300 + b"1.0" + b"]" * 300)),
    "filters": Target(
        rows.filters,
        _texts(
            b"$.b[0:2]\0" + _JSON + b"\0\1",
            b"$[0,2]\0a,b,c\0\0",
            b"$['a','n']\0" + _JSON + b"\0\2",
            b"$[0,1:]\0a,b,c\1\0",
            b'$.a_b\0{"a_b":1}\1\2',
        ),
    ),
    "joins": Target(
        rows.joins,
        _texts(b"$[1:]\0$[0]\0a,b\nc,d\n\0" + b"1\n2\n\1\1\0\0\0\0", b'$\0$.x\0{}\n\0{"x":1}\n\0\1\1\1\1\0'),
    ),
    "json_text": Target(
        rows.json_text,
        _texts(
            b"$.features\0$['id','SageMakerOutput']\0"
            + b'{"id":"a\\u0062","features":[1,2.50]}\n\0{"score":0.5}\n'
            + b"\0\1",
            b"$\0$\0" + _JSON + b"\n\0" + _JSON + b"\0\1",
            b"$.id\0$.a.b\0" + b'{"id":1,"a":{"b": [ 1]}}\n{"id" :2}\n\0' + b"1\n2\n\0\0",
        ),
    ),
    "answers": Target(
        wire.answers,
        _texts(
            _HEAD + b"Content-Length: 4\r\n\r\n1\n2\n" + _CUTS,
            _HEAD + b"Transfer-Encoding: chunked\r\n\r\n3;x=y\r\n1\n2\r\n0\r\nTrailer: 1\r\n\r\n" + _CUTS,
            b"HTTP/1.1 100 Continue\r\n\r\n" + _HEAD + b"\r\nuntil the end" + _CUTS,
            _HEAD + b"Content-Length: 70000\r\n\r\n" + b"x" * 70_000 + _CUTS,
            b"HTTP/1.0 503 Busy\r\nRetry-After: 3\r\nConnection: close\r\n\r\nno" + _CUTS,
        ),
    ),
    "retry_after": Target(wire.retry_after, _texts(b"120", b"Wed, 21 Oct 2026 07:28:00 GMT", b"1 Jan 99 0:0 -9999")),
    "execution_parameters": Target(
        wire.execution_parameters,
        _texts(b'{"MaxConcurrentTransforms":8,"MaxPayloadInMB":6,"BatchStrategy":"MULTI_RECORD"}'),
    ),
    "manifests": Target(wire.manifests, _texts(b'[{"prefix":"s3://shop/in/"},"a.csv","b/c.csv"]')),
    "options": Target(wire.options, _texts(b"skip\x000.5%\0\1", b'"a b",c:list<double>\0parquet\x0b\x0a')),
    "headers": Target(formats.headers, _texts(b'$[0]\0\xef\xbb\xbfid,"a\nb"\n1,2\n\1' + _CUTS)),
    "gzip_objects": Target(
        formats.gzip_objects, lambda: (gzip.compress(b"a,b\n" * 99) + gzip.compress(b"") + b"\0\0" + _CUTS,)
    ),
    "zstd_objects": Target(
        formats.zstd_objects, lambda: (zstd.compress(b"a,b\n" * 99) + zstd.compress(b"x" * 300_000) + _CUTS,), 2048
    ),
    "parquet_tables": Target(formats.parquet_tables, _parquet, 2048),
    "arrow_tables": Target(formats.arrow_tables, _arrow, 2048),
    "tables_of_rows": Target(
        formats.tables_of_rows,
        _texts(
            b'1,0.5,"a"\n2,,b\n' + _CUTS + b"\0\0",
            _JSON + b"\n{}\n" + _CUTS + b"\1\0\1",
            b"[1,[2.5]]\n[]\n\0\0\0\0\0\2",
        ),
        2048,
    ),
}
