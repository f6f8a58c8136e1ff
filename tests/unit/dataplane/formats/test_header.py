"""Headers of objects of CSV."""

from collections.abc import AsyncGenerator
from functools import partial

import pytest

from millrace.dataplane.batch import payload_former
from millrace.dataplane.formats.csv_payloads import csv_payload_former
from millrace.dataplane.formats.header import HEADER_BYTES, HeaderedPayloads, HeaderLine, without_header
from millrace.dataplane.formats.options import CsvHeader
from millrace.dataplane.formats.unreadable import UnfitFormat
from millrace.dataplane.jsonpath import Filter, parse_filter
from millrace.dataplane.payload import CorruptRecords, PayloadTooLarge
from millrace.jobs.transform import BatchStrategy, SplitType

ALL = parse_filter("$", "text/csv", member="InputFilter")


async def chunks(*pieces: bytes) -> AsyncGenerator[bytes, None]:
    """The chunks of an object."""
    for piece in pieces:
        yield piece


async def records(header: HeaderLine, *pieces: bytes, quoted: bool = False) -> bytes:
    """Return what stands behind the header."""
    return b"".join([chunk async for chunk in without_header(chunks(*pieces), header, quoted_newlines=quoted)])


def repeated(columns: Filter = ALL) -> HeaderLine:
    return HeaderLine(CsvHeader.REPEAT, columns)


async def test_the_header_is_taken_off() -> None:
    """The first record of an object is its header, wherever chunks end."""
    for pieces in ((b"a,b\n1,2\n",), (b"a,", b"b\n", b"1,2", b"\n"), (b"a,b\n", b"1,2\n")):
        header = HeaderLine(CsvHeader.SKIP, ALL)
        assert await records(header, *pieces) == b"1,2\n"
        assert (header.record, header.sent, header.names()) == (b"a,b\n", b"", ["a", "b"])


async def test_a_quoted_line_feed_belongs_to_the_header() -> None:
    """With records of RFC 4180, a name may hold a line feed."""
    header = repeated()
    assert await records(header, b'"a\n', b'b",c\n1,2\n', quoted=True) == b"1,2\n"
    assert header.names() == ["a\nb", "c"]


async def test_an_object_of_a_header_alone_has_no_records() -> None:
    """A header without records, even without its line end, leaves nothing; so does an empty object."""
    header = repeated()
    assert await records(header, b"a,b") == b""
    assert header.sent == b"a,b\n"
    header = repeated()
    assert await records(header) == b""
    assert (header.sent, header.names()) == (b"", [])


async def test_a_header_without_end_is_refused() -> None:
    """A header may be a mebibyte long; more is not held."""
    with pytest.raises(UnfitFormat, match="the header of CSV must have at most 1048576 bytes"):
        await records(repeated(), b"x" * HEADER_BYTES, b"x")


async def test_a_repeated_header_passes_the_input_filter() -> None:
    """What precedes a body names the columns that the body has."""
    header = repeated(parse_filter("$[2,0]", "text/csv", member="InputFilter"))
    await records(header, b'\xef\xbb\xbfa,b,"c,d"\r\n1,2,3\r\n')
    assert header.sent == b'"c,d",a\n'
    with pytest.raises(UnfitFormat, match="Failed to apply InputFilter"):
        await records(repeated(parse_filter("$[7]", "text/csv", member="InputFilter")), b"a,b\n")


@pytest.mark.parametrize("mode", CsvHeader)
async def test_records_keep_their_places_in_the_object(mode: CsvHeader) -> None:
    """The header is record 1 of its object; room is that of the records alone, the limit holds for both."""
    placed = []
    header = HeaderLine(mode, ALL)
    body = await records(header, b"h\n1\n2\n3\n")
    former = HeaderedPayloads(header, partial(payload_former, SplitType.LINE, BatchStrategy.MULTI_RECORD), 4)
    former.feed(body)
    former.finish()
    payloads = []
    while (payload := former.take()) is not None:
        header.prefix(payload)
        payloads.append((payload.joined(), payload.record, payload.offset, payload.size, payload.sent_size))
        placed.append(header.place(payload.record, payload.offset))
    if mode is CsvHeader.SKIP:
        assert payloads == [(b"1\n2\n", 1, 0, 4, 4), (b"3\n", 3, 4, 2, 2)]
        assert placed == [(2, 2), (4, 6)]
    else:
        assert payloads == [(b"h\n%d\n" % n, n, 2 * (n - 1), 2, 4) for n in (1, 2, 3)]
        assert placed == [(n + 1, 2 * n) for n in (1, 2, 3)]
    assert former.taken() == (3, 6)
    assert former.buffered == 0


async def test_a_record_that_does_not_fit_behind_the_header_is_told() -> None:
    """A record that fits by itself, but not with the header before it, fails the object."""
    header = repeated()
    body = await records(header, b"head\n123\n")
    former = HeaderedPayloads(header, partial(payload_former, SplitType.LINE, BatchStrategy.SINGLE_RECORD), 8)
    former.feed(body)
    former.finish()
    for _ in range(2):  # it is told the same however often it is asked for
        with pytest.raises(PayloadTooLarge) as caught:
            former.take()
        assert (caught.value.record, caught.value.offset) == (1, 0)
        assert header.place(1, 0) == (2, 5)
    former = HeaderedPayloads(header, partial(payload_former, SplitType.LINE, BatchStrategy.SINGLE_RECORD), 5)
    former.feed(body)
    with pytest.raises(PayloadTooLarge) as caught:
        former.take()
    assert (caught.value.record, caught.value.offset) == (1, 0)


async def test_a_quote_left_open_behind_a_header_is_told_by_its_place() -> None:
    """Errors of records are placed behind the header too."""
    header = repeated()
    body = await records(header, b'h\n1\n"2\n', quoted=True)
    former = HeaderedPayloads(header, partial(csv_payload_former, BatchStrategy.MULTI_RECORD), 0)
    former.feed(body)
    assert header.place(*former.reached()) == (3, 4)
    former.finish()
    with pytest.raises(CorruptRecords) as caught:
        former.take()
    assert header.place(caught.value.record, caught.value.offset) == (3, 4)


async def test_the_header_of_a_table_is_no_record() -> None:
    """Names that were made of a table's columns stand nowhere in it: its first row is record 1."""
    header = HeaderLine(CsvHeader.REPEAT, ALL, stored=False)
    body = await records(header, b"h\n1\n")
    former = HeaderedPayloads(header, partial(payload_former, SplitType.LINE, BatchStrategy.SINGLE_RECORD), 0)
    former.feed(body)
    payload = former.take()
    assert payload is not None
    header.prefix(payload)
    assert payload.joined() == b"h\n1\n"
    assert header.place(payload.record, payload.offset) == (1, 0)


async def test_nothing_is_formed_before_the_header_is_known() -> None:
    """Whoever asks for a payload early gets none; the limit is still what the header leaves of it."""
    header = repeated()
    former = HeaderedPayloads(header, partial(payload_former, SplitType.LINE, BatchStrategy.MULTI_RECORD), 4)
    assert former.take() is None
    assert (former.buffered, former.taken(), former.reached()) == (0, (0, 0), (1, 0))
    former.feed(await records(header, b"h\n1\n2\n"))
    payload = former.take()
    assert payload is not None
    assert payload.joined() == b"1\n"
