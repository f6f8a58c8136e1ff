"""Cut CSV into records whose quoted fields may hold line feeds. Pure.

A line feed ends a record if an even number of quotes stands before it: a field that is quoted begins with one and ends
with one, and a quote inside it is doubled. So quotes need only be counted, which the interpreter does at the speed of
memory, and text without any is cut like lines. A quote inside a field that is not quoted breaks the rule, and with it
the count: then the object's last record has no end, which is told with the place where it begins.

Source:
    RFC 4180 2.6: "Fields containing line breaks (CRLF), double quotes, and commas should be enclosed in double-quotes."
"""

from collections.abc import Iterable, Iterator, Sequence

from millrace.dataplane.payload import BEGINNING, CorruptRecords
from millrace.dataplane.rows import PIECE_BYTES, nonblank_lines
from millrace.dataplane.split import LineSplitter

__all__ = [
    "PLACEHOLDER_ROW",
    "CsvRecordCount",
    "CsvRecordSplitter",
    "count_records",
    "csv_records",
    "last_record_end",
    "middle_record",
    "nonblank_csv_records",
    "record_pieces",
    "unended_quote",
]

PLACEHOLDER_ROW = b'""'
"""The row of CSV that stands for one whose columns are all null, however many there are."""

STEP_BYTES = 64 * 1024
"""Bytes whose record ends are counted at a time: the pieces between quotes may take many times their size."""


def unended_quote(record: int, offset: int) -> CorruptRecords:
    """Return the error of an object that ends between quotes, in record number `record`, which begins at `offset`."""
    return CorruptRecords("a quoted field of this record of CSV has no closing quote", record, offset)


def count_records(text: bytes, start: int, end: int, *, inside: bool = False) -> int:
    """Return how many records end in a stretch of text; `inside` tells that it begins between quotes."""
    if text.find(b'"', start, end) < 0:
        return 0 if inside else text.count(b"\n", start, end)
    ends = 0
    for at in range(start, end, STEP_BYTES):
        pieces = text[at : min(at + STEP_BYTES, end)].split(b'"')
        ends += b"".join(pieces[inside::2]).count(b"\n")
        inside ^= bool((len(pieces) - 1) & 1)
    return ends


def last_record_end(text: bytes | bytearray, stop: int, *, inside: bool = False) -> int:
    """Return where the last record that ends before `stop` does so, 0 if none does; `inside` is as above."""
    inside ^= bool(text.count(b'"', 0, stop) & 1)
    while (at := text.rfind(b"\n", 0, stop)) >= 0:
        inside ^= bool(text.count(b'"', at, stop) & 1)
        if not inside:
            return at + 1
        stop = at
    return 0


def nonblank_csv_records(body: bytes) -> list[bytes]:
    """Return the records that are not empty, without LF or CR LF: what `nonblank_lines` is to lines."""
    if b'"' not in body:
        return nonblank_lines(body)
    records = (record.removesuffix(b"\n").removesuffix(b"\r") for record in csv_records(body))
    return [record for record in records if record]


def csv_records(body: bytes) -> list[bytes]:
    """Return the records of a body, each with its line feed; the last one may lack it, or end between quotes."""
    splitter = CsvRecordSplitter()
    splitter.feed(body)
    records: list[bytes] = []
    splitter.finish()
    try:
        while found := splitter.next_records():
            records += found
    except CorruptRecords as exc:
        records.append(body[exc.offset :])
    return records


def record_pieces(text: bytes | memoryview | Sequence[bytes]) -> Iterable[bytes]:
    """Return a text, in one, in a buffer or in parts, in pieces of whole records: what `line_pieces` is to lines."""
    if isinstance(text, bytes) and len(text) <= PIECE_BYTES:
        return (text,)
    return _record_pieces((text,) if isinstance(text, bytes | memoryview) else text)


def _record_pieces(parts: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    begun: list[bytes] = []
    """A record whose end is still to come."""
    inside = False
    for part in parts:
        for start in range(0, len(part), PIECE_BYTES):
            text = bytes(part[start : start + PIECE_BYTES])
            end = last_record_end(text, len(text), inside=inside)
            if end:
                yield b"".join([*begun, text[:end]])
                begun, inside = [], False
            if end < len(text):
                begun.append(text[end:])
                inside ^= bool(text.count(b'"', end) & 1)
    if begun:
        yield b"".join(begun)


def middle_record(body: bytes) -> tuple[int, int]:
    """Return the end of the record in the middle of a body, and how many records end there; zeros if there is one."""
    cut = last_record_end(body, len(body) // 2)
    if not cut:
        end = len(body)
        while (before := last_record_end(body, end - 1)) > 0:  # the first record is longer than half of it
            cut = end = before
    return cut, count_records(body, 0, cut)


class CsvRecordCount:
    """Counts the records of one object whose chunks go by."""

    def __init__(self) -> None:
        self.records = 0
        self._inside = False
        self._terminated = True

    def add(self, chunk: bytes) -> None:
        """Take the next bytes of the object."""
        if chunk:
            self.records += count_records(chunk, 0, len(chunk), inside=self._inside)
            self._inside ^= bool(chunk.count(b'"') & 1)
            self._terminated = chunk.endswith(b"\n")

    def finish(self) -> None:
        """Take the end of the object. Whether it ends between quotes is for the container to say: it has all of it."""
        if not self._terminated or self._inside:
            self.records += 1
            self._terminated, self._inside = True, False


class CsvRecordSplitter:
    """Records end with a line feed that is not between quotes; it stays part of them, the last one may lack it.

    `next_records` raises CorruptRecords at the end of an object whose last quote was not closed.
    """

    def __init__(self, place: tuple[int, int] = BEGINNING) -> None:
        """`place` is the number and first byte of the first record."""
        self._lines = LineSplitter()
        self._open: list[bytes] = []
        """Lines of a record that has an opening quote without its closing one."""
        self._open_bytes = 0
        self._record, self._offset = place
        self._ended = False

    @property
    def unfinished(self) -> int:
        return self._open_bytes + self._lines.unfinished

    def feed(self, chunk: bytes) -> None:
        self._lines.feed(chunk)

    def finish(self) -> None:
        self._ended = True
        self._lines.finish()

    def next_records(self) -> list[bytes]:
        while lines := self._lines.next_records():
            records = lines if not self._open and b'"' not in b"".join(lines) else self._put_together(lines)
            if records:
                self._record += len(records)
                self._offset += sum(map(len, records))
                return records
        if self._ended and self._open:
            raise unended_quote(self._record, self._offset)
        return []

    def rest(self) -> list[bytes | memoryview]:
        return [*self._open, *self._lines.rest()]

    def _put_together(self, lines: list[bytes]) -> list[bytes]:
        records = []
        parts = self._open
        for line in lines:
            turns = line.count(b'"') & 1
            if not parts and not turns:
                records.append(line)
                continue
            parts.append(line)
            if turns and len(parts) > 1:
                records.append(b"".join(parts))
                parts.clear()
        self._open_bytes = sum(map(len, parts))
        return records
