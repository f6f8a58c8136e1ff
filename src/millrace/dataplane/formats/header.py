"""Take the header off an object of CSV, and put it before payloads and outputs.

A header is the first record of an object. It is taken off before records are counted against room and limits, so that
every loop behind works on records alone. Where it is repeated, each request begins with it; then it counts against the
payload limit. Records are counted from behind it; what is told of them are their places in the object, where the header
is record 1.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable

from millrace.dataplane.formats.options import CsvHeader
from millrace.dataplane.formats.unreadable import UnfitFormat
from millrace.dataplane.jsonpath import Filter, FilterError
from millrace.dataplane.payload import HeaderTooLarge, Payload, PayloadFormer
from millrace.dataplane.record_count import RecordCount
from millrace.dataplane.rows import RowError, parse_csv, serialize_csv

__all__ = ["HEADER_BYTES", "CountBehindHeader", "HeaderLine", "HeaderedPayloads", "without_header"]

HEADER_BYTES = 1024 * 1024
"""Longest header."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class HeaderLine:
    """The header of one object: empty until it was read.

    Args:
        mode: What becomes of it.
        input_filter: What bodies are filtered by, so that a repeated header fits them.
        stored: Whether it stands in the object; that of a table is made of its columns, and is no record.
    """

    def __init__(self, mode: CsvHeader, input_filter: Filter, *, stored: bool = True) -> None:
        self.mode = mode
        self.record = b""
        """The header as it was read, with its line end."""
        self.sent = b""
        """What each body begins with."""
        self._input_filter = input_filter
        self._stored = stored

    def read(self, record: bytes) -> None:
        """Take the header that was read; raises UnfitFormat if the input filter does not fit it."""
        self.record = record
        if self.mode is CsvHeader.SKIP or not record:
            return
        self.sent = record if record.endswith(b"\n") else record + b"\n"
        if not self._input_filter.is_identity:
            try:
                self.sent = serialize_csv(self._input_filter.columns(self.names())) + b"\n"
            except FilterError as exc:
                text = self._input_filter.text
                raise UnfitFormat(f"Failed to apply InputFilter {text} to the header: {exc}") from exc

    def names(self) -> list[str]:
        """Return the names of the columns; raises UnfitFormat if the header is no row of CSV."""
        row = self.record.removeprefix(_BYTE_ORDER_MARK).rstrip(b"\r\n")
        try:
            return parse_csv(row) if row else []
        except RowError as exc:
            raise UnfitFormat(f"Failed to parse the header as CSV: {exc}") from exc

    def place(self, record: int, offset: int) -> tuple[int, int]:
        """Return the number and first byte in the object of a record that is counted so behind the header."""
        if not self._stored or not self.record:
            return record, offset
        return record + 1, offset + len(self.record)

    @property
    def limited_bytes(self) -> int:
        """Bytes of it that count against the payload limit: unfiltered, as those of records."""
        return len(self.record) if self.mode is CsvHeader.REPEAT else 0

    def prefix(self, payload: Payload) -> None:
        """Put it before a body that is ready to be sent; room and record are those of the records alone."""
        if not self.sent:
            return
        body = payload.body
        payload.body = self.sent + body if isinstance(body, bytes) else [self.sent, *body]
        payload.sent_size += len(self.sent)


async def without_header(
    chunks: AsyncIterator[bytes], header: HeaderLine, *, quoted_newlines: bool
) -> AsyncGenerator[bytes, None]:
    """Yield the chunks behind the header, which is read before the first of them comes.

    Args:
        chunks: An object's bytes from its beginning.
        header: What is told of the header; another attempt tells it the same again.
        quoted_newlines: Whether line feeds between quotes belong to it.

    Raises:
        UnfitFormat: It is too long, or the input filter does not fit it.
    """
    seen = bytearray()
    end = searched = 0
    inside = False
    async for chunk in chunks:
        seen += chunk
        while (at := seen.find(b"\n", searched)) >= 0:
            inside ^= quoted_newlines and bool(seen.count(b'"', searched, at) & 1)
            searched = at + 1
            if not inside:
                end = searched
                break
        size = end or len(seen)
        if size > HEADER_BYTES:
            raise UnfitFormat(f"the header of CSV must have at most {HEADER_BYTES} bytes, got {size} or more")
        if end:
            header.read(bytes(seen[:end]))
            rest = bytes(seen[end:])
            break
    else:
        header.read(bytes(seen))
        return
    if rest:
        yield rest
    async for chunk in chunks:
        yield chunk


class HeaderedPayloads:
    """Forms payloads of the records behind a header, whose bytes count against their limit where it is repeated.

    Records and bytes are counted from behind the header; `HeaderLine.place` says where they are in the object. The
    header itself is put before a payload by `HeaderLine.prefix`, once filters have seen the records.
    """

    def __init__(self, header: HeaderLine, make: Callable[[int], PayloadFormer], limit: int) -> None:
        self._header = header
        self._make = make
        self._limit = limit
        self._former: PayloadFormer | None = None
        self.aim = 0
        self.ready: list[Payload] = []

    @property
    def buffered(self) -> int:
        return 0 if self._former is None else self._former.buffered

    def feed(self, chunk: bytes) -> None:
        self._opened().feed(chunk)

    def finish(self) -> None:
        self._opened().finish()

    def take(self) -> Payload | None:
        if self._former is None:  # asked before the header was read
            return None
        if self._limit and self._limit <= self._header.limited_bytes:
            raise HeaderTooLarge(1, 0)
        self._former.aim = self.aim
        return self._former.take()

    def taken(self) -> tuple[int, int]:
        return (0, 0) if self._former is None else self._former.taken()

    def reached(self) -> tuple[int, int]:
        return (1, 0) if self._former is None else self._former.reached()

    def rest(self) -> list[bytes | memoryview]:
        return [] if self._former is None else self._former.rest()

    def _opened(self) -> PayloadFormer:
        """Return the former, made once the header is known and with it the room that it leaves."""
        if self._former is None:
            limit = self._limit
            self._former = self._make(max(1, limit - self._header.limited_bytes) if limit else 0)
        return self._former


class CountBehindHeader:
    """Counts the records of an object whose header goes by with them."""

    def __init__(self, count: RecordCount) -> None:
        self._count = count

    @property
    def records(self) -> int:
        return max(0, self._count.records - 1)

    def add(self, chunk: bytes) -> None:
        """Take the next bytes of the object."""
        self._count.add(chunk)

    def finish(self) -> None:
        """Take the end of the object."""
        self._count.finish()
