"""Form the payloads of invocations from the chunks of one object. Pure.

A former is fed chunks and gives payloads only when asked: what nobody has room for is not formed. A payload's `size`
is its bytes as they stand in the (decompressed) object, which is what MaxPayloadInMB limits.
"""

from collections import deque
from itertools import accumulate, count, repeat

from millrace.dataplane.frame_payloads import ManyFrames, SingleFrames
from millrace.dataplane.line_count import LineCounter
from millrace.dataplane.long_records import FrameEnd, LineEnd, ObjectEnd, RecordEnd
from millrace.dataplane.payload import (
    BEGINNING,
    CorruptRecords,
    Payload,
    PayloadFormer,
    PayloadTooLarge,
    UnusableRecord,
)
from millrace.dataplane.split import FRAMINGS, SPLITTERS, Splitter
from millrace.jobs.transform import BatchStrategy, SplitType

__all__ = [
    "CorruptRecords",
    "ManyLines",
    "Payload",
    "PayloadFormer",
    "PayloadTooLarge",
    "SingleRecords",
    "UnusableRecord",
    "WholePayload",
    "payload_former",
    "record_end",
]

_ONE = repeat(1)


class SingleRecords:
    """One record per payload."""

    def __init__(self, splitter: Splitter, limit: int, place: tuple[int, int] = BEGINNING) -> None:
        self._splitter = splitter
        self._limit = limit
        self._record, self._offset = place
        self._unformed = 0
        self._left: list[bytes] = []
        """Records that the splitter handed out, from the one on that is too large."""
        self._too_large: PayloadTooLarge | None = None
        self.aim = 0
        self.ready: list[Payload] = []

    @property
    def buffered(self) -> int:
        return self._unformed + sum([payload.size for payload in self.ready])

    def feed(self, chunk: bytes) -> None:
        self._unformed += len(chunk)
        self._splitter.feed(chunk)

    def finish(self) -> None:
        self._splitter.finish()

    def take(self) -> Payload | None:
        if not self.ready:
            self._form()
        return self.ready.pop() if self.ready else None

    def _form(self) -> None:
        """Form payloads of all records that the splitter hands out at a time."""
        if self._too_large is not None:
            raise self._too_large
        limit = self._limit
        records = self._splitter.next_records()
        sizes = list(map(len, records))
        if limit and sizes and max(sizes) > limit:
            fitting = next(index for index, size in enumerate(sizes) if size > limit)
            self._too_large = PayloadTooLarge(self._record + fitting, self._offset + sum(sizes[:fitting]))
            self._left = records[fitting:]
            records, sizes = records[:fitting], sizes[:fitting]
        formed = list(map(Payload, records, sizes, count(self._record), accumulate(sizes, initial=self._offset), _ONE))
        read = sum(sizes)
        self._unformed -= read
        record, offset = self._record + len(records), self._offset + read
        self._record, self._offset = record, offset
        formed.reverse()
        self.ready = formed
        if not records and limit and self._splitter.unfinished > limit:
            self._too_large = PayloadTooLarge(record, offset)
        if not formed and self._too_large is not None:
            raise self._too_large

    def taken(self) -> tuple[int, int]:
        if self.ready:
            following = self.ready[-1]
            return following.record - 1, following.offset
        return self._record - 1, self._offset

    def reached(self) -> tuple[int, int]:
        record, offset = self._record, self._offset
        while whole := self._splitter.next_records():
            record += len(whole)
            offset += sum(map(len, whole))
        return record, offset

    def rest(self) -> list[bytes | memoryview]:
        return [*(payload.joined() for payload in reversed(self.ready)), *self._left, *self._splitter.rest()]


class ManyLines:
    """As many consecutive lines per payload as fit in the limit; one payload per object if there is none.

    Lines are never split from each other: the last line feed before the limit is searched from behind, and a payload
    is a list of views on the chunks as they were read. With `aim`, a payload is about as large if it can be.
    """

    def __init__(self, limit: int, place: tuple[int, int] = BEGINNING) -> None:
        self._limit = limit
        self._lines = LineCounter()
        self._chunks: deque[bytes] = deque()
        self._start = 0
        """Where the first chunk's unused bytes begin."""
        self._record, self._offset = place
        self._ended = False
        self.buffered = 0
        self.aim = 0
        self.ready: list[Payload] = []

    def feed(self, chunk: bytes) -> None:
        if chunk:
            self._chunks.append(chunk)
            self.buffered += len(chunk)

    def finish(self) -> None:
        self._ended = True

    def take(self) -> Payload | None:
        limit, aim = self._limit, self.aim
        while aim and self.buffered > aim and (not limit or aim < limit):
            if size := self._last_line_end(aim):
                return self._cut(size)
            aim *= 2  # a line is longer
        if not limit or self.buffered <= limit:
            # Even a full payload waits for one byte more or the end, which tell whether its last line ends there:
            # where payloads are cut must not depend on the chunks.
            return self._cut(self.buffered) if self._ended and self.buffered else None
        size = self._last_line_end(limit)
        if not size:
            raise PayloadTooLarge(self._record, self._offset)
        return self._cut(size)

    def taken(self) -> tuple[int, int]:
        return self._record - 1, self._offset

    def reached(self) -> tuple[int, int]:
        read = b"".join(self._chunks)[self._start :]
        end = read.rfind(b"\n") + 1
        return self._record + read.count(b"\n"), self._offset + end

    def rest(self) -> list[bytes | memoryview]:
        return [b"".join(self._chunks)[self._start :]]

    def _last_line_end(self, limit: int) -> int:
        """Return the size of the longest run of whole lines within the first `limit` bytes."""
        ends = []
        end = -self._start
        for chunk in self._chunks:
            end += len(chunk)
            ends.append((chunk, end))
            if end >= limit:
                break
        for chunk, end in reversed(ends):
            beyond = max(0, end - limit)
            found = chunk.rfind(b"\n", 0, len(chunk) - beyond)
            size = end - len(chunk) + found + 1
            if found >= 0:
                return max(0, size)
        return 0

    def _cut(self, size: int) -> Payload:
        chunks = self._chunks
        parts: list[bytes | memoryview] = []
        wanted = size
        newlines = 0
        terminated = False
        while wanted:
            chunk, start = chunks[0], self._start
            end = min(len(chunk), start + wanted)
            newlines += self._lines.count(chunk, start, end)
            terminated = chunk[end - 1] == 10
            parts.append(chunk if end - start == len(chunk) else memoryview(chunk)[start:end])
            wanted -= end - start
            if end == len(chunk):
                chunks.popleft()
                self._start = 0
            else:
                self._start = end
        records = newlines if terminated else newlines + 1
        payload = Payload(parts, size, self._record, self._offset, records)
        self._record += records
        self._offset += size
        self.buffered -= size
        return payload


class WholePayload:
    """The whole object is one payload; an empty object has none."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._chunks: list[bytes] = []
        self._taken = 0, 0
        self._ended = False
        self.buffered = 0
        self.aim = 0
        self.ready: list[Payload] = []

    def feed(self, chunk: bytes) -> None:
        if chunk:
            self._chunks.append(chunk)
            self.buffered += len(chunk)

    def finish(self) -> None:
        self._ended = True

    def take(self) -> Payload | None:
        if self._limit and self.buffered > self._limit:
            raise PayloadTooLarge(1, 0)
        if not self._ended or not self._chunks:
            return None
        chunks, size = self._chunks, self.buffered
        self._chunks = []
        self.buffered = 0
        self._taken = 1, size
        return Payload(chunks[0] if len(chunks) == 1 else chunks, size, 1, 0, 1)

    def taken(self) -> tuple[int, int]:
        return self._taken

    def reached(self) -> tuple[int, int]:
        return 1, 0

    def rest(self) -> list[bytes | memoryview]:
        return [*self._chunks]


def payload_former(
    split: SplitType, strategy: BatchStrategy, limit: int, place: tuple[int, int] = BEGINNING
) -> PayloadFormer:
    """Return a new former for one object; `limit` is in bytes, 0 means none.

    `place` is the number and first byte of the record that it is fed first.
    """
    if split is SplitType.NONE:
        return WholePayload(limit)
    if split in FRAMINGS:
        make = ManyFrames if strategy is BatchStrategy.MULTI_RECORD else SingleFrames
        return make(FRAMINGS[split](), limit, place)
    if strategy is BatchStrategy.MULTI_RECORD:
        return ManyLines(limit, place)
    return SingleRecords(SPLITTERS[split](), limit, place)


def record_end(split: SplitType, record: int, offset: int) -> RecordEnd:
    """Return what looks for the end of one record, which has that number and first byte."""
    if split in FRAMINGS:
        return FrameEnd(FRAMINGS[split](), record, offset)
    return ObjectEnd() if split is SplitType.NONE else LineEnd()
