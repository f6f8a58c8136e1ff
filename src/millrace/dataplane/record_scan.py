"""Go over an object from its beginning, to tell where in it records begin. Pure.

Theory. In the middle of an object a line feed tells where a line begins. It says nothing of CSV, where it may stand
between quotes, nor of framed records, whose bytes may look like a frame. There the beginning of a record follows only
from what stands before it: how many quotes those are, or how long the frames. So a scan goes over all of it, but does
as little as it can: it counts quotes, or goes from header to header and looks at no payload.
"""

from typing import Protocol

from millrace.dataplane.framing import BadFrame, Framing

__all__ = ["CsvScan", "FrameScan", "RecordScan", "ScanEnded"]


class ScanEnded(Exception):
    """What follows is no record: nobody can say where later ones begin."""


class RecordScan(Protocol):
    """Goes over one object; what it is asked for may only grow."""

    next: int
    """The next byte to look at. All before it are done with."""

    def find(self, data: bytes, base: int, near: int) -> int | None:
        """Return where the first record begins that does so at `near` or behind it; None if `data` does not tell.

        Then it goes on at `next`, which may lie behind the data.

        Args:
            data: Bytes of the object, the next one among them.
            base: Where in the object they lie.
            near: At or behind the place where the last one was found.

        Raises:
            ScanEnded: The records from `next` on are damaged.
        """
        ...


class CsvScan:
    """Goes over CSV whose quoted fields may hold line feeds: one ends a record behind an even number of quotes."""

    def __init__(self) -> None:
        self.next = 0
        self._inside = False
        """The next byte is between quotes."""

    def find(self, data: bytes, base: int, near: int) -> int | None:
        at, before = self.next - base, near - 1 - base  # a line feed there makes `near` the beginning of a record
        if at < before:
            stop = min(before, len(data))
            self._inside ^= bool(data.count(b'"', at, stop) & 1)
            at = stop
        while (end := data.find(b"\n", at)) >= 0:
            self._inside ^= bool(data.count(b'"', at, end) & 1)
            at = end + 1
            if not self._inside:
                self.next = base + at
                return self.next
        self._inside ^= bool(data.count(b'"', at) & 1)
        self.next = base + len(data)
        return None


class FrameScan:
    """Goes over framed records, from header to header; checksums of payloads are looked at when they are read."""

    def __init__(self, framing: Framing) -> None:
        self.next = 0
        """Where the next frame begins."""
        self._framing = framing
        self._continues = False
        """It is of a record that began before."""

    def find(self, data: bytes, base: int, near: int) -> int | None:
        framing = self._framing
        while True:
            if not self._continues:
                self.next = base + framing.skip_records(data, self.next - base, near - base)
                if self.next >= near:
                    return self.next
            at = self.next - base
            header = data[at : at + framing.header_bytes]
            if len(header) < framing.header_bytes:
                return None
            try:
                frame = framing.open_frame(header, continues=self._continues)
            except BadFrame as exc:
                raise ScanEnded from exc
            self.next += framing.header_bytes + frame.body_bytes + frame.trailer_bytes
            self._continues = not frame.ends_record
