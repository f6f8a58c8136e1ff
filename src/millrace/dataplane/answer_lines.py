"""Count the rows that answers have, where lines tell it, so that a model that leaves some out is noticed. Pure.

SageMaker lets a container answer as many rows as it likes where nothing is joined, and says nothing of it.
"""

import re
from collections.abc import Sequence

from millrace.dataplane.formats.job import JobFormats
from millrace.dataplane.jsonpath import Format, format_of
from millrace.dataplane.line_count import LineCounter
from millrace.dataplane.placeholders import placeholder
from millrace.jobs.transform import InstanceOutcome, JoinSource, SplitType, TransformSpec
from millrace.jobs.transform_options import OnError, job_options

__all__ = ["LineCount", "may_tell_rows", "rows_out"]

COPIED_BYTES = 256 * 1024
"""Bytes of a long answer that are copied at a time to be counted."""

_BLANK = re.compile(rb"(?<=\n)\n")
_TWO = re.compile(rb"\n\n")  # a third of what `in` takes, which looks for two bytes in a slow way


def may_tell_rows(spec: TransformSpec) -> bool:
    """Return whether the lines of a job's outputs are rows that could be one for each record.

    A join makes sure of that itself; a table has no lines, and line feeds between quotes end no row.
    """
    formats = JobFormats(spec)
    return (
        spec.split is SplitType.LINE
        and format_of(spec.accept) in (Format.CSV, Format.JSON_LINES)
        and spec.processing.join_source is JoinSource.NONE
        and not formats.writes_tables
        and not formats.keeps_quoted_newlines
    )


def rows_out(spec: TransformSpec, outcomes: Sequence[tuple[int, InstanceOutcome]]) -> int | None:
    """Return how many rows the outputs of a job have besides placeholders; None where that is not known.

    Args:
        spec: What was asked for.
        outcomes: Of each instance the attempt that ended, from 1, and how. Only its own lines were counted.
    """
    effective = [outcome.effective for _, outcome in outcomes]
    known = (
        may_tell_rows(spec)
        and job_options(spec.environment).resume_from is None
        and all(attempt == 1 and not outcome.progress.objects_failed for attempt, outcome in outcomes)
        and all(it is not None and it.max_payload_bytes for it in effective)  # else objects are streamed through
    )
    if not known:
        return None
    rows = sum(outcome.progress.rows_out for _, outcome in outcomes)
    if job_options(spec.environment).on_error is OnError.SKIP and placeholder(spec).strip():
        rows -= sum(outcome.progress.records_failed for _, outcome in outcomes)
    return rows


class LineCount:
    """Counts lines that are not blank, in consecutive pieces of text."""

    __slots__ = ("_at_start", "_ends", "lines")

    def __init__(self) -> None:
        self.lines = 0
        self._ends = LineCounter()
        self._at_start = True
        """Whether the next byte begins a line."""

    def add(self, piece: bytes | memoryview) -> None:
        """Count a piece, which follows the one before."""
        if isinstance(piece, bytes):
            self._add(piece)
            return
        for at in range(0, len(piece), COPIED_BYTES):
            self._add(bytes(piece[at : at + COPIED_BYTES]))

    def _add(self, piece: bytes) -> None:
        if not piece:
            return
        blank = int(self._at_start and piece.startswith(b"\n"))
        if _TWO.search(piece):  # the pattern is slow, and needed only where several follow each other
            blank += len(_BLANK.findall(piece)) if b"\n\n\n" in piece else piece.count(b"\n\n")
        self.lines += self._ends.count(piece, 0, len(piece)) - blank
        self._at_start = piece.endswith(b"\n")

    @property
    def total(self) -> int:
        """Lines so far, one that has no end yet included."""
        return self.lines + (not self._at_start)
