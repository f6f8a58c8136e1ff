"""Read the outputs of a transform as one table."""

import io
import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from millrace.dataplane.formats.options import Codec, TableForm, format_options
from millrace.dataplane.jsonpath import Format, format_of
from millrace.dataplane.rows import parse_csv
from millrace.errors import UsageError
from millrace.jobs.transform import TransformSpec
from millrace.jobs.transform_options import OnError, job_options

if TYPE_CHECKING:
    import pandas
    import pyarrow

__all__ = ["OutputForm", "frame_of", "read_table"]

MAX_BLOCK_BYTES = (1 << 31) - 1
"""Longest block of CSV that pyarrow reads."""

_NOT_BLANK = re.compile(r"\S")


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputForm:
    """How outputs are written: as tables, or as text of a type that may be compressed and begin with names."""

    table: TableForm | None = None
    text: str | None = None
    codec: Codec | None = None
    """How text is compressed; tables have their compression inside."""
    has_header: bool = False
    has_placeholders: bool = False
    """Whether an empty line of CSV stands for a bad record."""

    @classmethod
    def of(cls, spec: TransformSpec) -> "OutputForm":
        """Return how the outputs of a transform are written."""
        options = format_options(spec.environment)
        return cls(
            table=options.output_format,
            text=format_of(spec.accept),
            codec=options.output_compression if options.output_format is None else None,
            has_header=bool(options.output_columns),
            has_placeholders=job_options(spec.environment).on_error is OnError.SKIP,
        )


def read_table(bodies: Sequence[tuple[str, bytes]], form: OutputForm) -> "pyarrow.Table":
    """Return outputs, each a name and its decompressed bytes, as one table; what one lacks is null there.

    Raises:
        UsageError: pyarrow is missing, or an output is not what it should be; the message names it.
    """
    try:
        import pyarrow as pa
    except ImportError as exc:
        raise UsageError(
            "to_arrow() and to_pandas() need pyarrow; install it with: pip install 'millrace[arrow]'"
        ) from exc
    if form.table is None and form.text is None:
        raise UsageError(
            "accept must be text/csv, application/jsonlines or application/json for to_arrow() and to_pandas(): "
            "it says how the outputs are to be read; they are in handle.outputs as they are"
        )
    tables = _tables(bodies, form)
    if (mixed := _mixed_columns(tables)) and form.table is None and form.text == Format.CSV:
        tables = _tables(bodies, form, strings=mixed)
    elif mixed:
        advice = "state its type by output_columns" if form.table is not None else "read them by themselves"
        raise UsageError(
            f"{next(iter(mixed.values()))}, which make no one table; {advice} (they are in handle.outputs)"
        )
    return pa.concat_tables([table for _, table in tables], promote_options="permissive") if tables else pa.table({})


def _tables(
    bodies: Sequence[tuple[str, bytes]], form: OutputForm, *, strings: Collection[str] = ()
) -> "list[tuple[str, pyarrow.Table]]":
    """Return the outputs that have rows as tables; of CSV, some columns are strings whatever they look like."""
    import pyarrow as pa

    tables = []
    for name, body in bodies:
        try:
            table = _table(body, form, strings)
        except (pa.ArrowException, ValueError) as exc:
            raise UsageError(f"{name} can't be read: {exc}") from exc
        if table is not None:
            tables.append((name, table))
    return tables


def _mixed_columns(tables: "Sequence[tuple[str, pyarrow.Table]]") -> dict[str, str]:
    """Return the columns that have types in these tables which have none in common, each with what to tell of it."""
    import pyarrow as pa

    common: dict[str, tuple[Any, str]] = {}
    mixed: dict[str, str] = {}
    for name, table in tables:
        for field in table.schema:
            known, first = common.setdefault(field.name, (field, name))
            if known.type == field.type or field.name in mixed:
                continue
            try:
                unified = pa.unify_schemas([pa.schema([known]), pa.schema([field])], promote_options="permissive")
            except (pa.ArrowInvalid, pa.ArrowTypeError):
                mixed[field.name] = f'column "{field.name}" is {known.type} in {first} and {field.type} in {name}'
            else:
                common[field.name] = (unified.field(0), first if unified.field(0).type == known.type else name)
    return mixed


def frame_of(table: "pyarrow.Table") -> "pandas.DataFrame":
    """Return a table as a frame; raises UsageError without pandas."""
    try:
        import pandas  # noqa: F401 - so that its absence is told of in our words
    except ImportError as exc:
        raise UsageError("to_pandas() needs pandas: pip install pandas") from exc
    return table.to_pandas()


def _table(body: bytes, form: OutputForm, strings: Collection[str]) -> "pyarrow.Table | None":
    """Return one output as a table, None if it has no row."""
    if form.table is TableForm.PARQUET:
        import pyarrow.parquet

        return pyarrow.parquet.read_table(io.BytesIO(body))
    if form.table is TableForm.ARROW:
        import pyarrow.ipc

        return pyarrow.ipc.open_file(io.BytesIO(body)).read_all()
    if not body.strip():
        return None
    if form.text == Format.CSV:
        return _csv(body, form, strings)
    return _json(_documents(body) if form.text == Format.JSON else _lines(body))


def _json(rows: list[Any]) -> "pyarrow.Table":
    """Return rows as a table: with all members of any of them, what is no object in a column of its own."""
    import pyarrow as pa

    has_members = any(isinstance(row, dict) for row in rows)
    blank: dict[str, Any] = {} if has_members else {"f0": None}
    whole = [row if isinstance(row, dict) else blank if row is None else {"f0": row} for row in rows]
    return pa.Table.from_struct_array(pa.array(whole))  # from_pylist would take the members of the first row only


def _csv(body: bytes, form: OutputForm, strings: Collection[str]) -> "pyarrow.Table | None":
    import pyarrow as pa
    from pyarrow import csv

    if form.has_placeholders:
        body = _filled(body)

    def read(block_bytes: int | None) -> "pyarrow.Table":
        return csv.read_csv(
            io.BytesIO(body),
            csv.ReadOptions(autogenerate_column_names=not form.has_header, block_size=block_bytes),
            csv.ParseOptions(newlines_in_values=b'"' in body, ignore_empty_lines=not form.has_placeholders),
            csv.ConvertOptions(column_types={name: pa.string() for name in strings}),
        )

    try:
        return read(None)
    except pa.ArrowInvalid:
        # It goes by the first rows, and what a column is the last one may tell: all of them are one block then.
        return read(min(len(body) + 1, MAX_BLOCK_BYTES))


def _filled(body: bytes) -> bytes:
    """Return CSV whose empty lines have as many columns as the others, all of them empty."""
    lines = body.removesuffix(b"\n").split(b"\n")
    first = next((line for line in lines if line), b"")
    empty = b"," * (len(parse_csv(first)) - 1)
    return b"\n".join([line or empty for line in lines] + [b""])


def _lines(body: bytes) -> list[Any]:
    """Return the rows of JSON Lines; all of it may be one document, of which a list has its members as rows."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return [orjson.loads(line) for line in body.splitlines() if line.strip()]
    return document if isinstance(document, list) else [document]


def _documents(body: bytes) -> list[Any]:
    """Return the rows of documents of JSON, which may follow each other with nothing between."""
    try:
        return _rows(orjson.loads(body))
    except orjson.JSONDecodeError:
        text, decoder, at, rows = body.decode(), json.JSONDecoder(), 0, []
        while (begin := _NOT_BLANK.search(text, at)) is not None:
            document, at = decoder.raw_decode(text, begin.start())
            rows += _rows(document)
        return rows


def _rows(document: Any) -> list[Any]:
    """Return the members of a list as rows, also where it is all that an object has: `{"predictions": [...]}`."""
    if isinstance(document, dict) and len(document) == 1:
        [only] = document.values()
        document = only if isinstance(only, list) and only and isinstance(only[0], dict) else document
    return document if isinstance(document, list) else [document]
