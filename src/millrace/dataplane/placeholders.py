"""Say what stands for a bad record where lines of output and input are to match, and whether they do match. Pure."""

from collections.abc import Callable

from millrace.dataplane.jsonpath import Format, format_of
from millrace.dataplane.payload import Payload
from millrace.dataplane.processing import RecordError
from millrace.dataplane.rows import nonblank_lines
from millrace.jobs.transform import AssembleWith, SplitType, TransformSpec

__all__ = ["counts_rows", "placeholder"]


def placeholder(spec: TransformSpec) -> bytes:
    """Return what an output has in the place of a bad record: `null` for JSON Lines, else an empty line."""
    text = b"null" if format_of(spec.accept) == Format.JSON_LINES else b""
    return text if spec.assemble_with is AssembleWith.LINE else text + b"\n"


def counts_rows(spec: TransformSpec) -> Callable[[Payload, bytes], None] | None:
    """Return a function that raises RecordError if an answer has not a row for each record; None if none can tell.

    Rows can be counted where both sides are lines: of CSV or of JSON Lines.
    """
    lines = (Format.CSV, Format.JSON_LINES)
    if spec.split is SplitType.NONE or format_of(spec.accept) not in lines:
        return None
    return _require_a_row_each


def _require_a_row_each(payload: Payload, answer: bytes) -> None:
    rows, sent = len(nonblank_lines(answer)), payload.records - payload.dropped
    if rows != sent:
        raise RecordError(
            f"the answer must have a row for each record (MILLRACE_STRICT_COUNTS): {sent} sent, {rows} rows"
        )
