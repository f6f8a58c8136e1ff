"""Follow framed records through the chunks of an object, whatever the chunks' borders. Pure.

Theory. Nearly all records are one frame that lies whole in a chunk: the framing's own loop goes over them. The one that
does not is followed field by field: header, payload, trailer. Whatever is wrong is found there, in the order of the
bytes, so that what is told of an object does not depend on where its chunks end.
"""

import sys
from array import array
from collections import deque
from collections.abc import Iterator
from enum import Enum, auto
from typing import NamedTuple

from millrace.dataplane.framing import BadFrame, Framing, Span
from millrace.dataplane.payload import BEGINNING, CorruptRecords, PayloadTooLarge, UnusableRecord

__all__ = ["FrameReader", "PartedRecord", "Step"]

STEP_BYTES = 64 * 1024
"""Bytes whose records are listed at a time: a chunk of many tiny records does not become as many objects at once."""


class _Field(Enum):
    HEADER = auto()
    BODY = auto()
    TRAILER = auto()
    ENDED = auto()


class _TooLong(Exception):
    """A header says that its record is longer than it may be."""


class PartedRecord:
    """A record that is followed field by field. Where its payloads are is known unless `forgets` says otherwise."""

    def __init__(self, framing: Framing, longest: int, *, forgets: bool = False) -> None:
        self._framing = framing
        self._forgets = forgets
        self._continues = False
        self._longest = longest
        self.size = 0
        """Bytes of it that were seen."""
        self.least = framing.header_bytes
        """Bytes that it has at least, by what is known of it."""
        self.frame_start = 0
        """Where the frame that is being read begins in the record."""
        self._bodies = array("Q")
        self._field = _Field.HEADER
        self._left = framing.header_bytes
        self._kept = b""
        self._checksum = 0
        self._trailer_bytes = 0
        self._ends_record = False

    @property
    def complete(self) -> bool:
        return self._field is _Field.ENDED

    @property
    def frames(self) -> int:
        """How many frames it has, so far."""
        return len(self._bodies) // 2

    def iter_bodies(self) -> Iterator[tuple[int, int]]:
        """Yield where the payloads of its frames begin and end in the record."""
        bounds = iter(self._bodies)
        return zip(bounds, bounds, strict=True)

    def follow(self, chunk: bytes, start: int) -> int:
        """Take its next bytes, from `start` on, and return where in the chunk they end. Raises BadFrame, _TooLong."""
        view = memoryview(chunk)
        while self._field is not _Field.ENDED:
            stop = min(start + self._left, len(chunk))
            if self._field is _Field.BODY:
                self._checksum = self._framing.add_to_checksum(self._checksum, view[start:stop])
            else:
                self._kept += view[start:stop]
            self.size += stop - start
            self._left -= stop - start
            start = stop
            if self._left:
                break
            self._enter_next_field()
        return start

    def _enter_next_field(self) -> None:
        if self._field is _Field.HEADER:
            self._enter_body()
        elif self._field is _Field.BODY:
            self._field, self._left, self._kept = _Field.TRAILER, self._trailer_bytes, b""
        else:
            self._framing.close_frame(self._kept, self._checksum)
            self._enter_next_frame()

    def _enter_body(self) -> None:
        body_bytes, self._trailer_bytes, self._ends_record = self._framing.open_frame(
            self._kept, continues=self._continues
        )
        following = 0 if self._ends_record else self._framing.header_bytes
        self.least = self.size + body_bytes + self._trailer_bytes + following
        if self.least > self._longest:
            raise _TooLong
        self._continues = True
        if not self._forgets:
            self._bodies.extend((self.size, self.size + body_bytes))
        self._field, self._left, self._checksum = _Field.BODY, body_bytes, 0

    def _enter_next_frame(self) -> None:
        if self._ends_record:
            self._field = _Field.ENDED
            return
        self._field, self._left, self._kept = _Field.HEADER, self._framing.header_bytes, b""
        self.frame_start = self.size


class Step(NamedTuple):
    """What was read next: whole records of a chunk, or bytes of the one record that is followed field by field."""

    chunk: bytes
    start: int
    end: int
    spans: list[Span]
    """The whole records, if there are any."""
    parted: PartedRecord | None
    """Else the record, as far as it is known."""

    @property
    def records(self) -> int:
        """How many records end here."""
        return 1 if self.parted is not None and self.parted.complete else len(self.spans)


class FrameReader:
    """Takes chunks, tells where the records end and what is wrong with them; it forgets what it went over."""

    def __init__(
        self,
        framing: Framing,
        limit: int = 0,
        *,
        place: tuple[int, int] = BEGINNING,
        follows_first: bool = False,
    ) -> None:
        """Begin to read.

        Args:
            framing: What records are framed by.
            limit: Records of more bytes, framing included, are refused as soon as a header says so; 0 is none.
            place: The number and first byte of the first record.
            follows_first: Whether the first record is read in steps of its own, and where its payloads are forgotten.
        """
        self.record, self.offset = place
        """Number of the next record, from 1, and its first byte."""
        self._framing = framing
        self._longest = limit or sys.maxsize
        self._chunks: deque[bytes] = deque()
        self._start = 0
        """Where the first chunk's unread bytes begin."""
        self._parted = PartedRecord(framing, self._longest, forgets=True) if follows_first else None
        self._ended = False
        self._unusable: UnusableRecord | None = None

    @property
    def pending(self) -> int:
        """Bytes that the record under way has at least; 0 if there is none."""
        return self._parted.least if self._parted is not None else 0

    def feed(self, chunk: bytes) -> None:
        """Add the next bytes of the object."""
        if chunk:
            self._chunks.append(chunk)

    def finish(self) -> None:
        """Tell that the object has ended."""
        self._ended = True

    def next_step(self) -> Step | None:
        """Read on, at most STEP_BYTES of tiny records; None means that more must be fed, or that the end is reached.

        Raises:
            CorruptRecords: The next record is damaged, or the object ends within it.
            PayloadTooLarge: It is longer than the limit. Either is raised again by each further call.
        """
        if self._unusable is not None:
            raise self._unusable
        try:
            if self._chunks:
                return self._read(self._chunks[0], self._start)
            if self._ended:
                self._check_end()
        except UnusableRecord as exc:
            self._unusable = exc
            raise
        return None

    def rest(self) -> list[bytes | memoryview]:
        """Return the chunks that were not read."""
        return [memoryview(chunk)[0 if at else self._start :] for at, chunk in enumerate(self._chunks)]

    def drain(self) -> tuple[int, int]:
        """Read all that was fed, and return the number (from 1) and first byte of the record behind it."""
        try:
            while self.next_step() is not None:
                pass
        except UnusableRecord as exc:
            return exc.record, exc.offset
        return self.record, self.offset

    def _read(self, chunk: bytes, start: int) -> Step:
        parted = self._parted
        if parted is None:
            spans = self._framing.whole_records(chunk, start, start + STEP_BYTES, self._longest)
            if spans:
                end = spans[-1][0]
                self.record += len(spans)
                self.offset += end - start
                self._go_to(end)
                return Step(chunk, start, end, spans, None)
            parted = self._parted = PartedRecord(self._framing, self._longest)
        try:
            end = parted.follow(chunk, start)
        except BadFrame as exc:
            raise self._corrupt(str(exc), parted.frame_start) from exc
        except _TooLong:
            raise PayloadTooLarge(self.record, self.offset) from None
        if parted.complete:
            self._parted = None
            self.record += 1
            self.offset += parted.size
        self._go_to(end)
        return Step(chunk, start, end, [], parted)

    def _go_to(self, end: int) -> None:
        self._start = end
        if end == len(self._chunks[0]):
            self._chunks.popleft()
            self._start = 0

    def _check_end(self) -> None:
        parted = self._parted
        if parted is not None:
            known = f"{parted.size} bytes of a record of at least {parted.least}"
            raise self._corrupt(f"the object ends after {known}", parted.frame_start)

    def _corrupt(self, reason: str, frame_start: int) -> CorruptRecords:
        words = f"Failed to split the object as {self._framing.name} at byte {{}}: {reason}"
        return CorruptRecords(words, self.record, self.offset, place=self.offset + frame_start)
