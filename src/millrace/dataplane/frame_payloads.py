"""Form the payloads of invocations from framed records. Pure.

What is wrong with a record is raised behind the payloads of the records before it.
"""

import sys
from bisect import bisect_right
from operator import itemgetter

from millrace.dataplane.chunk_queue import ChunkQueue
from millrace.dataplane.frames import FrameReader, PartedRecord, Step
from millrace.dataplane.framing import Framing, Span
from millrace.dataplane.payload import BEGINNING, Payload, UnusableRecord

__all__ = ["ManyFrames", "SingleFrames"]

JOIN_BELOW = 64 * 1024
"""The body of a record that came in several pieces is joined up to this size."""

_END = itemgetter(0)


class SingleFrames:
    """One record per payload, without its framing; the limit counts the framing nevertheless.

    Source:
        batch-transform.md 3.3, 3.4 (what is sent) and 4.2 ("sum of bytes, as in the file (including newline or
        framing)").
    """

    def __init__(self, framing: Framing, limit: int, place: tuple[int, int] = BEGINNING) -> None:
        self._joint = framing.joint
        self._reader = FrameReader(framing, limit, place=place)
        self._pieces = ChunkQueue()
        """The bytes of the record that is not whole in one chunk."""
        self._unformed = 0
        self._formed = place[0] - 1, place[1]
        """How many records, and bytes, payloads were formed of."""
        self.aim = 0
        self.ready: list[Payload] = []

    @property
    def buffered(self) -> int:
        return self._unformed + sum([payload.size for payload in self.ready])

    def feed(self, chunk: bytes) -> None:
        self._unformed += len(chunk)
        self._reader.feed(chunk)

    def finish(self) -> None:
        self._reader.finish()

    def take(self) -> Payload | None:
        while not self.ready:
            record, offset = self._reader.record, self._reader.offset
            step = self._reader.next_step()
            if step is None:
                return None
            if step.spans:
                self.ready = _single_payloads(step, record, offset)
                self._unformed -= step.end - step.start
            elif step.parted is not None:
                self._pieces.add(memoryview(step.chunk)[step.start : step.end])
                if step.parted.complete:
                    self.ready = [self._parted_payload(step.parted, record, offset)]
                    self._unformed -= step.parted.size
            self._formed = self._reader.record - 1, self._reader.offset
        return self.ready.pop()

    def _parted_payload(self, parted: PartedRecord, record: int, offset: int) -> Payload:
        parts = self._body(parted)
        size = sum(map(len, parts))
        payload = Payload(b"".join(parts) if size <= JOIN_BELOW else parts, parted.size, record, offset, 1)
        payload.sent_size = size
        return payload

    def _body(self, parted: PartedRecord) -> list[bytes | memoryview]:
        """Return the record's bytes without framing, the payloads of several frames joined."""
        pieces, self._pieces = self._pieces, ChunkQueue()
        joined = bytearray()
        reached = 0
        for start, end in parted.iter_bodies():
            pieces.cut(start - reached)
            if parted.frames == 1:
                return pieces.cut(end - start)
            if reached:
                joined += self._joint
            for part in pieces.cut(end - start):
                joined += part
            reached = end
        return [memoryview(joined)]

    def taken(self) -> tuple[int, int]:
        if self.ready:
            following = self.ready[-1]
            return following.record - 1, following.offset
        return self._formed

    def reached(self) -> tuple[int, int]:
        return self._reader.drain()

    def rest(self) -> list[bytes | memoryview]:
        """Return what is in no payload; none is ready, for those would be without their framing."""
        assert not self.ready, "they are taken before a record that is too large is told"
        return [*self._pieces.cut(self._pieces.size), *self._reader.rest()]


def _single_payloads(step: Step, record: int, offset: int) -> list[Payload]:
    """Return a payload for each whole record of the step, the last one first."""
    chunk, start = step.chunk, step.start
    payloads = []
    for end, body, body_end in step.spans:
        payload = Payload(chunk[body:body_end], end - start, record, offset, 1)
        payload.sent_size = body_end - body
        payloads.append(payload)
        record += 1
        offset += end - start
        start = end
    payloads.reverse()
    return payloads


class ManyFrames:
    """As many consecutive records per payload as fit in the limit, framed as they stand in the object.

    A payload is a list of views on the chunks as they were read. It is cut as soon as the header of the next record
    says that this one does not fit. With `aim`, records are as many as fit in that, and one at least.
    """

    def __init__(self, framing: Framing, limit: int, place: tuple[int, int] = BEGINNING) -> None:
        self._limit = limit or sys.maxsize
        self._reader = FrameReader(framing, limit, place=place)
        self._chunks = ChunkQueue()
        self._spans: list[Span] = []
        """Records of the step that was read last, of which some did not fit in the payload before."""
        self._used = 0
        """How many of them are in payloads."""
        self._start = 0
        """Where the first that is not begins in its chunk."""
        self._parted_size = 0
        """Else, the size of such a record that was not whole in one chunk."""
        self._count = 0
        self._size = 0
        """Records and bytes of the payload being formed."""
        self._record, self._offset = place
        """Where it begins."""
        self._ended = False
        self.buffered = 0
        self.aim = 0
        self.ready: list[Payload] = []

    def feed(self, chunk: bytes) -> None:
        self.buffered += len(chunk)
        self._chunks.add(chunk)
        self._reader.feed(chunk)

    def finish(self) -> None:
        self._ended = True
        self._reader.finish()

    def take(self) -> Payload | None:
        while self._add():
            try:
                step = self._reader.next_step()
            except UnusableRecord:
                if self._size:
                    return self._form()  # the reader raises again when it is asked for more
                raise
            if step is None:
                complete = self._ended or self._size + self._reader.pending > (self.aim or self._limit)
                return self._form() if self._size and complete else None
            if step.spans:
                self._spans, self._used, self._start = step.spans, 0, step.start
            elif step.parted is not None and step.parted.complete:
                self._parted_size = step.parted.size
        return self._form()

    def _add(self) -> bool:
        """Add what was read and fits to the payload; False if something is left."""
        if self._parted_size:
            if self._size and self._size + self._parted_size > (self.aim or self._limit):
                return False
            self._size += self._parted_size
            self._count += 1
            self._parted_size = 0
        elif self._spans:
            spans, until = self._spans, self._start + (self.aim or self._limit) - self._size
            fitting = len(spans) if spans[-1][0] <= until else bisect_right(spans, until, lo=self._used, key=_END)
            if fitting == self._used and not self._size:
                fitting += 1  # no record is longer than the limit, but this one is longer than the aim
            if fitting > self._used:
                end = spans[fitting - 1][0]
                self._size += end - self._start
                self._count += fitting - self._used
                self._used, self._start = fitting, end
            if fitting < len(spans):
                return False
            self._spans = []
        return True

    def _form(self) -> Payload:
        payload = Payload(self._chunks.cut(self._size), self._size, self._record, self._offset, self._count)
        self._record += self._count
        self._offset += self._size
        self.buffered -= self._size
        self._count = self._size = 0
        return payload

    def taken(self) -> tuple[int, int]:
        return self._record - 1, self._offset

    def reached(self) -> tuple[int, int]:
        return self._reader.drain()

    def rest(self) -> list[bytes | memoryview]:
        return self._chunks.cut(self.buffered)
