"""Pass over a record that is longer than a payload may be, holding no more of it than is told. Pure.

Theory. A former that comes to such a record can give no payload behind it. Whoever may leave the record out takes from
the former what it was fed and did not use, which begins with the record, and puts a `PassingOver` in its place: that
looks for the record's end in this and in what is fed from now on, keeps the beginning and lets go of the rest. Then it
gives the beginning, marked, as if it were a payload, and a new former that begins behind the record follows it. So
where payloads end behind a long record depends only on where it ends, as it does behind any other.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

from millrace.dataplane.bad_records import SHOWN_BYTES
from millrace.dataplane.csv_records import unended_quote
from millrace.dataplane.frames import FrameReader
from millrace.dataplane.framing import Framing
from millrace.dataplane.payload import Payload, PayloadFormer, PayloadTooLarge, UnusableRecord

__all__ = ["CsvEnd", "FrameEnd", "LineEnd", "ObjectEnd", "PassingOver", "RecordEnd"]


class RecordEnd(Protocol):
    """Looks for the end of one record in the chunks that it lies in."""

    def find(self, chunk: bytes) -> int | None:
        """Return where in the next chunk the record ends; None if it goes on behind it. Raises UnusableRecord."""
        ...

    def finish(self) -> None:
        """Take the end of the object. Raises UnusableRecord if it may not end within the record."""
        ...


class LineEnd:
    """The end of a line."""

    def find(self, chunk: bytes) -> int | None:
        return chunk.find(b"\n") + 1 or None

    def finish(self) -> None:
        """Do nothing: the last line may lack its line feed."""


class ObjectEnd:
    """The end of an object that is one record."""

    def find(self, chunk: bytes) -> int | None:
        return None

    def finish(self) -> None:
        """Do nothing: that is where it ends."""


class CsvEnd:
    """The end of a record of CSV: a line feed that is not between quotes."""

    def __init__(self, record: int, offset: int) -> None:
        self._place = record, offset
        self._inside = False

    def find(self, chunk: bytes) -> int | None:
        at = 0
        while (end := chunk.find(b"\n", at) + 1) > 0:
            self._inside ^= bool(chunk.count(b'"', at, end) & 1)
            if not self._inside:
                return end
            at = end
        self._inside ^= bool(chunk.count(b'"', at) & 1)
        return None

    def finish(self) -> None:
        if self._inside:
            raise unended_quote(*self._place)


class FrameEnd:
    """The end of a framed record, whose frames are checked like those of any other."""

    def __init__(self, framing: Framing, record: int, offset: int) -> None:
        self._reader = FrameReader(framing, place=(record, offset), follows_first=True)

    def find(self, chunk: bytes) -> int | None:
        self._reader.feed(chunk)
        step = self._reader.next_step()
        return step.end if step is not None and step.records else None

    def finish(self) -> None:
        self._reader.finish()
        self._reader.next_step()


class PassingOver:
    """The former of an object whose next record is too long; `following` is the one to take its place behind it.

    Args:
        error: What is wrong with the record.
        end: Looks for its end.
        rest: What was fed and is in no payload: it begins with the record.
        follow: Makes the former of what stands behind, told the number and the first byte of the record there.
    """

    def __init__(
        self,
        error: PayloadTooLarge,
        end: RecordEnd,
        rest: Iterable[bytes | memoryview],
        *,
        follow: Callable[[int, int], PayloadFormer],
    ) -> None:
        self.aim = 0
        self.ready: list[Payload] = []
        self.following: PayloadFormer | None = None
        self._error = error
        self._end = end
        self._follow = follow
        self._kept = bytearray()
        self._length = 0
        self._let_go = 0
        self._unusable: UnusableRecord | None = None
        for piece in rest:
            self.feed(bytes(piece))

    @property
    def is_told(self) -> bool:
        """Whether as much of the record is held as is told of one."""
        return len(self._kept) == SHOWN_BYTES

    @property
    def buffered(self) -> int:
        return len(self._kept) + (0 if self.following is None else self.following.buffered)

    def let_go(self) -> int:
        """Return how many bytes that were fed are not held any more, and were not told to be so before."""
        size, self._let_go = self._let_go, 0
        return size

    def feed(self, chunk: bytes) -> None:
        if self.following is not None:
            self.following.feed(chunk)
            return
        if self._unusable is not None:
            self._let_go += len(chunk)
            return
        try:
            end = self._end.find(chunk)
        except UnusableRecord as exc:
            self._unusable = exc
            self._let_go += len(chunk)
            return
        size = len(chunk) if end is None else end
        kept = min(size, SHOWN_BYTES - len(self._kept))
        self._kept += memoryview(chunk)[:kept]
        self._let_go += size - kept
        self._length += size
        if end is not None:
            self._go_on(chunk[end:])

    def skip(self, size: int) -> None:
        """Take note of bytes of the record that nobody reads."""
        self._length += size

    def finish(self) -> None:
        if self.following is None and self._unusable is None:
            try:
                self._end.finish()
            except UnusableRecord as exc:
                self._unusable = exc
                return
            self._go_on(b"")
        if self.following is not None:
            self.following.finish()

    def _go_on(self, rest: bytes) -> None:
        self.following = self._follow(self._error.record + 1, self._error.offset + self._length)
        self.following.feed(rest)

    def take(self) -> Payload | None:
        if self._unusable is not None:
            raise self._unusable
        if self.following is None:
            return None
        beginning = bytes(self._kept)
        payload = Payload(beginning, len(beginning), self._error.record, self._error.offset, 1)
        payload.too_large, payload.length = self._error, self._length
        return payload

    def taken(self) -> tuple[int, int]:
        return self._error.record - 1, self._error.offset

    def reached(self) -> tuple[int, int]:
        return self._error.record, self._error.offset

    def rest(self) -> list[bytes | memoryview]:
        """Give nothing: it is no former whose next record can be too long."""
        return []
