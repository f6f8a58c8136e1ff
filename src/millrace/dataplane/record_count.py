"""Count the records of an object whose chunks go by, and check their framing, holding none of its bytes. Pure.

This is for objects that are streamed through as one payload: nobody else looks at their records.
"""

from typing import Protocol

from millrace.dataplane.frames import FrameReader
from millrace.dataplane.framing import Framing
from millrace.dataplane.split import FRAMINGS
from millrace.jobs.transform import SplitType

__all__ = ["RecordCount", "record_count"]


class RecordCount(Protocol):
    """Counts the records of one object."""

    @property
    def records(self) -> int:
        """Records that have ended; all of them once the object is finished."""
        ...

    def add(self, chunk: bytes) -> None:
        """Take the next bytes of the object. Raises CorruptRecords."""
        ...

    def finish(self) -> None:
        """Take the end of the object. Raises CorruptRecords if it may not end there."""
        ...


class _WholeObjectCount:
    """The object is one record, an empty one none."""

    def __init__(self) -> None:
        self.records = 0

    def add(self, chunk: bytes) -> None:
        if chunk:
            self.records = 1

    def finish(self) -> None:
        """Do nothing: the object may end anywhere."""


class _LineCount:
    """A record ends with a line feed, the last one perhaps without."""

    def __init__(self) -> None:
        self.records = 0
        self._terminated = True

    def add(self, chunk: bytes) -> None:
        if chunk:
            self.records += chunk.count(b"\n")
            self._terminated = chunk.endswith(b"\n")

    def finish(self) -> None:
        if not self._terminated:
            self.records += 1
            self._terminated = True


class _FrameCount:
    """Records are framed."""

    def __init__(self, framing: Framing) -> None:
        self._reader = FrameReader(framing)

    @property
    def records(self) -> int:
        return self._reader.record - 1

    def add(self, chunk: bytes) -> None:
        self._reader.feed(chunk)
        self._read()

    def finish(self) -> None:
        self._reader.finish()
        self._read()

    def _read(self) -> None:
        while self._reader.next_step() is not None:
            pass


def record_count(split: SplitType) -> RecordCount:
    """Return a new count for one object."""
    if split in FRAMINGS:
        return _FrameCount(FRAMINGS[split]())
    return _LineCount() if split is SplitType.LINE else _WholeObjectCount()
