"""The transforms that are disturbed: one case for each way of cutting, joining, assembling and compressing."""

import gzip
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.framed import recordio, tfrecord

__all__ = ["CASES", "Case"]

OBJECTS = "abc"
LONG_BYTES = 1_500_000
RECORD = re.compile(rb"([abc])(\d+)")
"""What every record begins with: its object and its number."""

CSV = {"ContentType": "text/csv", "SplitType": "Line"}
CSV_OUT = {"Accept": "text/csv", "AssembleWith": "Line"}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way to transform; `sleep` is how long the container takes for a request."""

    name: str
    input: Mapping[str, Any] = field(default_factory=lambda: CSV)
    output: Mapping[str, Any] = field(default_factory=lambda: CSV_OUT)
    strategy: str = "SingleRecord"
    processing: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    frame: Callable[[bytes], bytes] | None = None
    records: int = 60
    record_bytes: int = 20
    long_at: int | None = None
    """The number of a record that is longer than a payload may be."""
    sleep: float = 0.02
    max_instances: int = 3
    retries: int = 1
    """With none, a record that is under way when its container is killed must not be taken for a bad one."""

    @property
    def source(self) -> str:
        return f"s3://shop/crash-in/{self.name}/"

    @property
    def finished(self) -> str:
        """The pattern of the names of what shows that an object is done, which begin with its name."""
        return "*.out" if "SplitType" in self.input else "*"

    @property
    def is_gzip(self) -> bool:
        return self.input.get("CompressionType") == "Gzip"

    def records_of(self, name: str) -> list[bytes]:
        """Return the records of one object as they stand in it, uncompressed."""
        bodies = [self._record(name, number) for number in range(self.records)]
        if self.frame is not None:
            return [self.frame(body) for body in bodies]
        return [body + b"\n" for body in bodies]

    def _record(self, name: str, number: int) -> bytes:
        bad = b"BAD" if number % 17 == 5 else b"fine"
        size = LONG_BYTES if number == self.long_at else self.record_bytes + number % 7
        return b"%s%d,%s,%s" % (name.encode(), number, bad, b"y" * size)

    def objects(self) -> dict[str, bytes]:
        """Return the input by key below `source`."""
        found = {}
        for name in OBJECTS:
            data = b"".join(self.records_of(name))
            found[f"{name}.csv"] = gzip.compress(data, mtime=0) if self.is_gzip else data
        return found

    def offsets(self) -> dict[str, list[int]]:
        """Return where each record of each object begins."""
        found = {}
        for name in OBJECTS:
            offset, starts = 0, []
            for record in self.records_of(name):
                starts.append(offset)
                offset += len(record)
            found[name] = starts
        return found

    def request(self, environment: Mapping[str, str], *, instances: int) -> dict[str, Any]:
        """Return the members of CreateTransformJob but for names and output path."""
        where = {"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": self.source}}}
        members = {
            "TransformInput": {**where, **self.input},
            "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": instances},
            "BatchStrategy": self.strategy,
            "MaxConcurrentTransforms": 4,
            "MaxPayloadInMB": 1,
            "ModelClientConfig": {"InvocationsMaxRetries": self.retries},
            "Environment": {**self.environment, **environment},
        }
        return {**members, **({"DataProcessing": dict(self.processing)} if self.processing else {})}


MANY: Mapping[str, Any] = {"strategy": "MultiRecord", "records": 40, "record_bytes": 100_000, "sleep": 0.15}
"""Payloads of 1 MiB, four of them in each object."""

REFUSE = {"REFUSE": "BAD"}

RANGES = {"MILLRACE_RANGE_SPLIT": "1"}
"""Objects are cut into ranges of 1 MiB: three or four of each."""

CASES = (
    Case(name="single"),
    Case(name="plain", output={"Accept": "text/csv"}),
    Case(name="many", **MANY),
    Case(name="many-plain", output={"Accept": "text/csv"}, **MANY),
    Case(name="whole", input={"ContentType": "text/csv"}, records=40, sleep=0.2),
    Case(name="joined", processing={"JoinSource": "Input"}),
    Case(name="joined-many", processing={"JoinSource": "Input", "OutputFilter": "$[0,-2]"}, **MANY),
    Case(name="filtered", processing={"InputFilter": "$[0]", "OutputFilter": "$[0]"}),
    Case(name="gzip", input={**CSV, "CompressionType": "Gzip"}),
    Case(name="gzip-many", input={**CSV, "CompressionType": "Gzip"}, **MANY),
    Case(name="skip", environment={"MILLRACE_ON_ERROR": "skip", **REFUSE}, retries=0),
    Case(name="quarantine", environment={"MILLRACE_ON_ERROR": "quarantine", **REFUSE}, retries=0),
    Case(
        name="quarantine-many",
        environment={"MILLRACE_ON_ERROR": "quarantine", **REFUSE},
        retries=0,
        **{**MANY, "sleep": 0.02},
    ),
    Case(
        name="whole-quarantine",
        input={"ContentType": "text/csv"},
        records=40,
        environment={"MILLRACE_ON_ERROR": "quarantine", "REFUSE": "b0,"},
        sleep=0.2,
    ),
    Case(
        name="long-quarantine",
        environment={"MILLRACE_ON_ERROR": "quarantine", **REFUSE},
        long_at=20,
        **{**MANY, "sleep": 0.02},
    ),
    Case(name="long-skip", environment={"MILLRACE_ON_ERROR": "skip"}, long_at=0),
    Case(
        name="skip-joined",
        processing={"JoinSource": "Input"},
        environment={"MILLRACE_ON_ERROR": "skip", **REFUSE},
    ),
    Case(name="zstd-out", environment={"MILLRACE_OUTPUT_COMPRESSION": "zstd"}),
    Case(
        name="zstd-out-quarantine",
        environment={"MILLRACE_OUTPUT_COMPRESSION": "zstd", "MILLRACE_ON_ERROR": "quarantine", **REFUSE},
    ),
    Case(name="gzip-out-many", environment={"MILLRACE_OUTPUT_COMPRESSION": "gzip"}, **MANY),
    Case(name="ranges", environment=RANGES, records=30, record_bytes=100_000, sleep=0.05),
    Case(name="ranges-many", environment=RANGES, **MANY),
    Case(
        name="ranges-quarantine",
        environment={"MILLRACE_ON_ERROR": "quarantine", **RANGES, **REFUSE},
        retries=0,
        **{**MANY, "sleep": 0.02},
    ),
    Case(
        name="ranges-tfrecord",
        input={"ContentType": "application/x-tfexample", "SplitType": "TFRecord"},
        output={},
        environment={"FRAMED": "1", **RANGES},
        frame=tfrecord,
        records=30,
        record_bytes=100_000,
        sleep=0.05,
    ),
    Case(name="ranges-quoted", environment={"MILLRACE_CSV_RECORDS": "rfc4180", **RANGES}, **MANY),
    Case(name="ranges-zstd-out", environment={"MILLRACE_OUTPUT_COMPRESSION": "zstd", **RANGES}, **MANY),
    Case(
        name="header",
        environment={"MILLRACE_CSV_HEADER": "skip", "MILLRACE_CSV_RECORDS": "rfc4180"},
        processing={"JoinSource": "Input"},
    ),
    Case(
        name="parquet-out",
        environment={
            "MILLRACE_OUTPUT_FORMAT": "parquet",
            "MILLRACE_OUTPUT_COLUMNS": "digest:string,x:string",
        },
    ),
    Case(
        name="recordio",
        input={"ContentType": "application/x-recordio-protobuf", "SplitType": "RecordIO"},
        output={},
        environment={"FRAMED": "1"},
        frame=recordio,
    ),
    Case(
        name="tfrecord-many",
        input={"ContentType": "application/x-tfrecord", "SplitType": "TFRecord"},
        output={},
        environment={"FRAMED": "1"},
        frame=tfrecord,
        **MANY,
    ),
)
