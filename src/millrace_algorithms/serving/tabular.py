"""Serve a model that turns rows of numbers into columns of numbers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from millrace_algorithms import media_types
from millrace_algorithms.csv_numbers import CsvReader
from millrace_algorithms.errors import (
    BadRowWidth,
    MalformedRecord,
    MalformedText,
    PayloadError,
    UnsupportedContentType,
)
from millrace_algorithms.finite import require_finite
from millrace_algorithms.json_instances import InstanceReader
from millrace_algorithms.media_types import MediaType
from millrace_algorithms.number_text import Column, print_csv, print_json_records
from millrace_algorithms.record_tables import RecordTableReader, write_records
from millrace_algorithms.recordio import framed_records
from millrace_algorithms.serving.invocation import Answer, Invocation
from millrace_algorithms.tables import FloatMatrix, Table

__all__ = ["CONTENT_TYPES", "TabularModel", "read_tables"]

CONTENT_TYPES = (
    media_types.CSV,
    media_types.JSON,
    media_types.JSON_LINES,
    media_types.RECORDIO_PROTOBUF,
)
"""Media types that every tabular model reads and writes."""

_ENCODERS: Mapping[str, Callable[[Sequence[Column]], bytes]] = {
    media_types.CSV: print_csv,
    media_types.JSON: lambda columns: print_json_records(columns, b","),
    media_types.JSON_LINES: lambda columns: print_json_records(columns, b"\n") + b"\n",
    media_types.RECORDIO_PROTOBUF: write_records,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class TabularModel:
    """A model behind the four tabular formats; a payload is read, predicted and printed block by block."""

    feature_dim: int
    predict: Callable[[FloatMatrix, MediaType], Sequence[Column]]
    """Rows of feature_dim numbers and the answer's media type (options such as verbose) -> members of the records."""
    list_name: str = "predictions"
    """Name of the list of records in JSON answers."""
    default_accept: str = media_types.JSON

    def invoke(self, invocation: Invocation) -> Answer:
        accept = media_types.negotiate(invocation.accept, supported=CONTENT_TYPES, default=self.default_accept)
        encode = _ENCODERS[accept.name]
        try:
            parts = []
            for table in read_tables(invocation, self.feature_dim):
                if len(table):
                    rows = table.dense(self.feature_dim)
                    require_finite(table, labels=False)
                    parts.append(encode(self.predict(rows, accept)))
        except (BadRowWidth, MalformedText, MalformedRecord) as exc:
            raise PayloadError(str(exc)) from exc
        if not parts:
            raise PayloadError("expected at least one row, got none: an empty body, a blank line or an empty list")
        if accept.name == media_types.JSON:
            return Answer(body=b'{"%b":[%b]}' % (self.list_name.encode(), b",".join(parts)), content_type=accept.name)
        return Answer(body=b"".join(parts), content_type=accept.name)


def read_tables(invocation: Invocation, feature_dim: int) -> Iterator[Table]:
    """Yield the rows of a request; raises UnsupportedContentType, MalformedText, MalformedRecord or BadRowWidth.

    A request without a content type is told by its first byte: clients of batch jobs often name none.
    """
    if invocation.content_type and invocation.content_type.strip():
        media_type = media_types.parse(invocation.content_type)
    else:
        body = invocation.body()
        invocation = Invocation(chunks=[body])
        media_type = MediaType(name=_sniff(body))
    match media_type.name:
        case media_types.CSV:
            yield from _read_csv(invocation, media_type, feature_dim)
        case media_types.JSON:
            yield from InstanceReader().read_json(invocation.body())
        case media_types.JSON_LINES:
            yield from InstanceReader().read_json_lines(invocation.chunks)
        case media_types.RECORDIO_PROTOBUF:
            yield from RecordTableReader().read(framed_records(invocation.chunks))
        case name:
            raise UnsupportedContentType(name, CONTENT_TYPES)


def _read_csv(invocation: Invocation, media_type: MediaType, feature_dim: int) -> Iterator[Table]:
    try:
        label_size = media_type.label_size or 0
    except ValueError as exc:
        raise MalformedText(str(exc)) from exc
    reader = CsvReader(width=feature_dim + label_size, ignored_columns=label_size)
    for matrix in reader.read(invocation.chunks):
        yield Table(
            features=matrix[:, label_size:],
            first_row=reader.rows - len(matrix),
            first_column=label_size,
            fits_float32=reader.fits_float32,
        )


def _sniff(body: bytes) -> str:
    if body.startswith(b"\x0a\x23\xd7\xce"):
        return media_types.RECORDIO_PROTOBUF
    start = body[:64].lstrip()
    if not start.startswith(b"{"):
        return media_types.CSV
    return media_types.JSON if start[1:].lstrip().startswith(b'"instances"') else media_types.JSON_LINES
