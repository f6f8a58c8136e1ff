"""Give each row of the output an id and the time of the inference. Pure, save for the randomness it is given.

Source:
    batch-transform.md 6.7: two columns behind a CSV row, two members of a JSON row. All rows tell the same time, the
    start of the job; ids are new whenever an answer is processed, so a retried request gets others.
"""

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

__all__ = ["ID_MEMBER", "TIME_MEMBER", "InferenceIds"]

ID_MEMBER = "SageMakerInferenceId"
TIME_MEMBER = "SageMakerInferenceTime"

IDS_DRAWN = 256
"""Ids for which randomness is drawn at a time: one system call."""

_VARIANTS = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


class InferenceIds:
    """Ids and time for the rows of one job.

    Args:
        job_start: Aware; told in UTC, to the second.
        random_bytes: Returns that many bytes; a test hands in known ones.
    """

    def __init__(self, job_start: datetime, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        self.time = f"{job_start.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        self._ids = _iter_ids(random_bytes)
        self._csv_end = f",{self.time}".encode()

    def csv_rows(self, rows: list[bytes]) -> list[bytes]:
        """Return rows of CSV with the two columns behind them; neither ever needs quotes."""
        end = self._csv_end
        return [b"%b,%b%b" % (row, new.encode(), end) for row, new in zip(rows, self._ids, strict=False)]

    def json_row(self, value: Any) -> dict[str, Any]:
        """Return a row of JSON with the two members; a value that is no object becomes `SageMakerOutput` of one."""
        row = {**value} if isinstance(value, dict) else {"SageMakerOutput": value}
        row[ID_MEMBER] = next(self._ids)
        row[TIME_MEMBER] = self.time
        return row


def _iter_ids(random_bytes: Callable[[int], bytes]) -> Iterator[str]:
    """Yield UUIDs of version 4 without end: four times as fast as uuid.uuid4, which asks the system for each."""
    while True:
        digits = random_bytes(16 * IDS_DRAWN).hex()
        for at in range(0, 32 * IDS_DRAWN, 32):
            yield (
                f"{digits[at : at + 8]}-{digits[at + 8 : at + 12]}-4{digits[at + 13 : at + 16]}-"
                f"{_VARIANTS[digits[at + 16]]}{digits[at + 17 : at + 20]}-{digits[at + 20 : at + 32]}"
            )
