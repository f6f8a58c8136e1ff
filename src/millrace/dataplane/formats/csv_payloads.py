"""Form payloads of records of CSV whose quoted fields may hold line feeds. Pure."""

from collections import deque

from millrace.dataplane.batch import SingleRecords
from millrace.dataplane.csv_records import CsvRecordSplitter, count_records, last_record_end, unended_quote
from millrace.dataplane.payload import BEGINNING, Payload, PayloadFormer, PayloadTooLarge
from millrace.jobs.transform import BatchStrategy

__all__ = ["ManyCsvRecords", "csv_payload_former"]


class ManyCsvRecords:
    """As many consecutive records per payload as fit in the limit; one payload per object if there is none.

    As with lines, the last end of a record before the limit is searched from behind, and a payload is a list of views
    on the chunks as they were read. With `aim`, a payload is about as large if it can be. Of each chunk it is known
    whether it begins between quotes.

    `take` raises CorruptRecords at the end of an object whose last quote was not closed.
    """

    def __init__(self, limit: int, place: tuple[int, int] = BEGINNING) -> None:
        self._limit = limit
        self._chunks: deque[tuple[bytes, bool]] = deque()
        """Each with whether its first byte stands between quotes."""
        self._start = 0
        """Where the first chunk's unused bytes begin: with a record."""
        self._inside = False
        """Whether what is fed next begins between quotes."""
        self._record, self._offset = place
        self._ended = False
        self.buffered = 0
        self.aim = 0
        self.ready: list[Payload] = []

    def feed(self, chunk: bytes) -> None:
        if chunk:
            self._chunks.append((chunk, self._inside))
            self._inside ^= bool(chunk.count(b'"') & 1)
            self.buffered += len(chunk)

    def finish(self) -> None:
        self._ended = True

    def take(self) -> Payload | None:
        limit, aim = self._limit, self.aim
        while aim and self.buffered > aim and (not limit or aim < limit):
            if size := self._last_record_end(aim):
                return self._cut(size)
            aim *= 2  # a record is longer
        if not limit or self.buffered <= limit:
            if not self._ended or not self.buffered:
                return None
            if self._inside:
                raise unended_quote(*self.reached())
            return self._cut(self.buffered)
        size = self._last_record_end(limit)
        if not size:
            raise PayloadTooLarge(self._record, self._offset)
        return self._cut(size)

    def taken(self) -> tuple[int, int]:
        return self._record - 1, self._offset

    def reached(self) -> tuple[int, int]:
        records = sum(
            count_records(chunk, 0 if at else self._start, len(chunk), inside=inside if at else False)
            for at, (chunk, inside) in enumerate(self._chunks)
        )
        return self._record + records, self._offset + self._last_record_end(self.buffered)

    def rest(self) -> list[bytes | memoryview]:
        return [memoryview(chunk)[0 if at else self._start :] for at, (chunk, _) in enumerate(self._chunks)]

    def _last_record_end(self, limit: int) -> int:
        """Return the size of the longest run of whole records within the first `limit` bytes."""
        ends = []
        end = -self._start
        for chunk, inside in self._chunks:
            end += len(chunk)
            ends.append((chunk, inside, end))
            if end >= limit:
                break
        for chunk, inside, end in reversed(ends):
            found = last_record_end(chunk, len(chunk) - max(0, end - limit), inside=inside)
            if found:
                return max(0, end - len(chunk) + found)
        return 0

    def _cut(self, size: int) -> Payload:
        parts: list[bytes | memoryview] = []
        wanted = size
        records = 0
        terminated = inside = False
        while wanted:
            chunk, _ = self._chunks[0]
            start = self._start
            end = min(len(chunk), start + wanted)
            records += count_records(chunk, start, end, inside=inside)
            terminated = chunk[end - 1] == 10
            parts.append(chunk if end - start == len(chunk) else memoryview(chunk)[start:end])
            wanted -= end - start
            if end == len(chunk):
                self._chunks.popleft()
                self._start = 0
                inside = self._chunks[0][1] if self._chunks else False
            else:
                self._start = end
        records += not terminated
        payload = Payload(parts, size, self._record, self._offset, records)
        self._record += records
        self._offset += size
        self.buffered -= size
        return payload


def csv_payload_former(strategy: BatchStrategy, limit: int, place: tuple[int, int] = BEGINNING) -> PayloadFormer:
    """Return a new former for one object of CSV that is cut by the rules of RFC 4180; `limit` 0 means none.

    `place` is the number and first byte of the record that it is fed first.
    """
    if strategy is BatchStrategy.MULTI_RECORD:
        return ManyCsvRecords(limit, place)
    return SingleRecords(CsvRecordSplitter(place), limit, place)
