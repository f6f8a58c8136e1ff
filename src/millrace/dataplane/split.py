"""Cut a stream of chunks into records, whatever the chunks' borders. Pure.

A record keeps its terminator: joining all records gives back the input. Framed records are cut in `frames`.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from millrace.dataplane.framing import Framing
from millrace.dataplane.recordio import RecordIO
from millrace.dataplane.tfrecord import TFRecord
from millrace.jobs.transform import SplitType

__all__ = ["FRAMINGS", "SPLITTERS", "LineSplitter", "Splitter", "WholeObject"]

STEP_BYTES = 64 * 1024
"""Bytes cut into records at a time: a chunk of a million tiny lines does not become a million objects at once."""


class Splitter(Protocol):
    """Takes chunks, gives records. `next_records` hands out what is complete, a bounded number at a time."""

    def feed(self, chunk: bytes) -> None:
        """Add the next bytes of the object."""
        ...

    def finish(self) -> None:
        """Tell that the object has ended."""
        ...

    def next_records(self) -> list[bytes]:
        """Return the next complete records; an empty list means that more must be fed, or that the end is reached."""
        ...

    @property
    def unfinished(self) -> int:
        """Bytes of the record whose end was not seen yet."""
        ...

    def rest(self) -> list[bytes | memoryview]:
        """Return what was fed and not handed out; then feed no more."""
        ...


class LineSplitter:
    """Records end with a line feed, which stays part of them; the last one may lack it.

    Source:
        batch-transform.md 3.2: bytes, no decoding; a carriage return is an ordinary byte.
    """

    def __init__(self) -> None:
        self._chunk = b""
        self._position = 0
        self._waiting: list[bytes] = []
        self._tail: list[bytes] = []
        self._tail_bytes = 0
        self._ended = False

    @property
    def unfinished(self) -> int:
        return self._tail_bytes

    def feed(self, chunk: bytes) -> None:
        self._waiting.append(chunk)

    def finish(self) -> None:
        self._ended = True

    def next_records(self) -> list[bytes]:
        while True:
            chunk, start = self._chunk, self._position
            if start >= len(chunk):
                if self._waiting:
                    self._chunk, self._position = self._waiting.pop(0), 0
                    continue
                if self._ended and self._tail:
                    return [self._take_tail()]
                return []
            end = chunk.rfind(b"\n", start, start + STEP_BYTES) + 1
            if end == 0:
                end = chunk.find(b"\n", start + STEP_BYTES) + 1
            if end == 0:
                rest = chunk[start:]
                self._tail.append(rest)
                self._tail_bytes += len(rest)
                self._position = len(chunk)
                continue
            self._position = end
            lines = chunk[start:end].split(b"\n")
            lines.pop()
            if self._tail:
                lines[0] = self._take_tail() + lines[0]
            return [line + b"\n" for line in lines]

    def rest(self) -> list[bytes | memoryview]:
        return [*self._tail, self._chunk[self._position :], *self._waiting]

    def _take_tail(self) -> bytes:
        tail = b"".join(self._tail)
        self._tail.clear()
        self._tail_bytes = 0
        return tail


class WholeObject:
    """The whole object is one record; an empty object has none."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._bytes = 0
        self._ended = False

    @property
    def unfinished(self) -> int:
        return self._bytes

    def feed(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._bytes += len(chunk)

    def finish(self) -> None:
        self._ended = True

    def next_records(self) -> list[bytes]:
        if not self._ended or not self._bytes:
            return []
        record = b"".join(self._chunks)
        self._chunks.clear()
        self._bytes = 0
        return [record]

    def rest(self) -> list[bytes | memoryview]:
        return [*self._chunks]


SPLITTERS: Mapping[SplitType, Callable[[], Splitter]] = {
    SplitType.NONE: WholeObject,
    SplitType.LINE: LineSplitter,
}
"""Split types whose records keep their bytes."""

FRAMINGS: Mapping[SplitType, Callable[[], Framing]] = {
    SplitType.RECORDIO: RecordIO,
    SplitType.TFRECORD: TFRecord,
}
"""Split types whose records are framed: see `frames`."""
