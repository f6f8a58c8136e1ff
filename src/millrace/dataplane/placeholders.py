"""Say what stands for a bad record where lines of output and input are to match, and whether they do match. Pure."""

from collections.abc import Callable
from functools import partial

from millrace.dataplane.csv_records import nonblank_csv_records
from millrace.dataplane.jsonpath import Format, format_of
from millrace.dataplane.payload import Payload
from millrace.dataplane.processing import RecordError
from millrace.dataplane.rows import nonblank_lines
from millrace.jobs.transform import AssembleWith, SplitType, TransformSpec

__all__ = ["counts_rows", "placeholder"]


def placeholder(spec: TransformSpec) -> bytes:
    """Return what an output has in the place of a bad record: `null` for JSON Lines, else an empty line.

    Of an object that is one record there are no lines to match: it is empty.
    """
    if spec.split is SplitType.NONE:
        return b""
    text = b"null" if format_of(spec.accept) == Format.JSON_LINES else b""
    return text if spec.assemble_with is AssembleWith.LINE else text + b"\n"


def counts_rows(spec: TransformSpec, *, quoted_newlines: bool = False) -> Callable[[Payload, bytes], None] | None:
    """Return a function that raises RecordError if an answer has not a row for each record; None if none can tell.

    Rows can be counted where both sides are lines: of CSV, which may have line feeds between quotes where
    `quoted_newlines` says so, or of JSON Lines.
    """
    kind = format_of(spec.accept)
    if spec.split is SplitType.NONE or kind not in (Format.CSV, Format.JSON_LINES):
        return None
    quoted = quoted_newlines and kind == Format.CSV
    return partial(_require_a_row_each, nonblank_csv_records if quoted else nonblank_lines)


def _require_a_row_each(rows_of: Callable[[bytes], list[bytes]], payload: Payload, answer: bytes) -> None:
    rows, sent = len(rows_of(answer)), payload.records - payload.dropped
    if rows != sent:
        raise RecordError(
            f"the answer must have a row for each record (MILLRACE_STRICT_COUNTS): {sent} sent, {rows} rows"
        )
