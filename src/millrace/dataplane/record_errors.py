"""Word what is wrong with a record that is filtered or joined, or with its answer. Pure.

Source:
    batch-transform.md 6.6: texts that clients of SageMaker have seen.
"""

from millrace.dataplane.jsonpath import Filter, FilterError

__all__ = ["RecordError", "check_counts", "output_filter_error", "snippet"]

SNIPPET = 200


class RecordError(Exception):
    """A record cannot be filtered or joined. `position` counts the payload's non-blank records from 0."""

    def __init__(self, message: str, position: int = 0) -> None:
        super().__init__(message)
        self.position = position


def snippet(text: bytes) -> str:
    """Return the beginning of a record or an answer as it can be shown."""
    return text[:SNIPPET].decode("utf-8", "replace")


def check_counts(records: int, rows: int) -> None:
    """Raise RecordError if there are not as many rows as records."""
    if records != rows:
        raise RecordError(
            "Fail to join data: mismatched line count between the input and the output: "
            f"{records} record{'s' * (records != 1)}, {rows} row{'s' * (rows != 1)}"
        )


def output_filter_error(chosen: Filter, error: FilterError, row: bytes, position: int) -> RecordError:
    """Return what is told of a row that the output filter does not fit."""
    return RecordError(f"Failed to apply OutputFilter {chosen.text} to '{snippet(row)}': {error}", position)
