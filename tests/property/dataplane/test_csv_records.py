"""Laws of cutting CSV by the rules of RFC 4180."""

import csv
import io
from collections.abc import AsyncGenerator
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from millrace.dataplane.batch import ManyLines
from millrace.dataplane.csv_records import CsvRecordSplitter, count_records, csv_records, record_pieces
from millrace.dataplane.formats.csv_payloads import ManyCsvRecords, csv_payload_former
from millrace.dataplane.formats.row_blocks import row_blocks
from millrace.dataplane.formats.unreadable import UnfitFormat
from millrace.dataplane.payload import CorruptRecords, Payload, PayloadFormer, PayloadTooLarge
from millrace.dataplane.rows import PIECE_BYTES
from millrace.jobs.transform import BatchStrategy

fields = st.text(st.sampled_from('a,"\n\r é'), max_size=6)
rows = st.lists(st.lists(fields, min_size=2, max_size=3), max_size=8)
anything = st.lists(st.sampled_from([b"a", b"bcd", b"\n", b"\r\n", b'"', b'""', b",", b"x" * 30]), max_size=40)
cuts = st.lists(st.integers(0, 1 << 12), max_size=8)


def written(table: list[list[str]]) -> list[bytes]:
    """Return each row as Python's own writer writes it."""
    lines = []
    for row in table:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerow(row)
        lines.append(text.getvalue().encode())
    return lines


def cut(data: bytes, at: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in at), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def payloads(former: PayloadFormer, chunks: list[bytes]) -> list[Payload] | tuple[str, int, int]:
    """Return all payloads of an object, or why there are none."""
    made = []
    try:
        for chunk in chunks:
            former.feed(chunk)
            while (payload := former.take()) is not None:
                made.append(payload)
        former.finish()
        while (payload := former.take()) is not None:
            made.append(payload)
    except (CorruptRecords, PayloadTooLarge) as exc:
        return type(exc).__name__, exc.record, exc.offset
    return made


@given(rows)
def test_records_are_the_rows_that_were_written(table: list[list[str]]) -> None:
    """Whatever fields hold, a record is what a writer of CSV wrote for a row."""
    lines = written(table)
    assert csv_records(b"".join(lines)) == lines


@given(anything, cuts)
def test_joining_records_gives_the_input(pieces: list[bytes], at: list[int]) -> None:
    """However an object is cut into chunks, its records joined are the object, and chunks make no difference."""
    data = b"".join(pieces)
    splitter = CsvRecordSplitter()
    found = []
    for chunk in cut(data, at):
        splitter.feed(chunk)
        while records := splitter.next_records():
            found += records
    splitter.finish()
    try:
        while records := splitter.next_records():
            found += records
    except CorruptRecords as exc:
        assert data.count(b'"') % 2
        assert (exc.record, exc.offset) == (len(found) + 1, len(b"".join(found)))
    else:
        assert b"".join(found) == data
        assert all(record.count(b'"') % 2 == 0 and record for record in found)
    assert count_records(data, 0, len(data)) == sum(record.endswith(b"\n") for record in found)


@given(anything, cuts, st.integers(0, 60), st.sampled_from(BatchStrategy))
def test_payloads_do_not_depend_on_chunks(pieces: list[bytes], at: list[int], limit: int, how: BatchStrategy) -> None:
    """Payloads are whole records in order, none longer than the limit, wherever chunks end; and so are failures."""
    data = b"".join(pieces)
    made = payloads(csv_payload_former(how, limit), cut(data, at))
    whole = payloads(csv_payload_former(how, limit), [data])
    if isinstance(made, tuple):
        assert made == whole
        return
    assert not isinstance(whole, tuple)
    bodies = [payload.joined() for payload in made]
    assert bodies == [payload.joined() for payload in whole]
    assert b"".join(bodies) == data
    record, offset = 1, 0
    for payload, body in zip(made, bodies, strict=True):
        assert (payload.record, payload.offset, payload.size) == (record, offset, len(body))
        assert payload.records == len(csv_records(body))
        assert not limit or len(body) <= limit
        record += payload.records
        offset += payload.size


@given(st.lists(st.sampled_from([b"a", b"bcd", b"\n", b"\r\n"]), max_size=40), cuts, st.integers(0, 20))
def test_without_quotes_records_are_lines(pieces: list[bytes], at: list[int], limit: int) -> None:
    """Text without quotes is cut as lines are."""
    chunks = cut(b"".join(pieces), at)
    lines, records = payloads(ManyLines(limit), chunks), payloads(ManyCsvRecords(limit), chunks)
    if isinstance(lines, tuple) or isinstance(records, tuple):
        assert lines == records
        return
    assert [(one.joined(), one.record, one.records) for one in lines] == [
        (one.joined(), one.record, one.records) for one in records
    ]


@given(anything, cuts, st.integers(1, 50), st.booleans())
async def test_blocks_do_not_depend_on_chunks(pieces: list[bytes], at: list[int], size: int, quoted: bool) -> None:
    """Blocks of rows are the same wherever chunks end; all but the last end with a row."""
    data = b"".join(pieces)

    async def blocks(chunks: list[bytes]) -> list[bytes] | str:
        async def source() -> AsyncGenerator[bytes, None]:
            for chunk in chunks:
                yield chunk

        try:
            return [block async for block in row_blocks(source(), quoted_newlines=quoted, block_bytes=size)]
        except UnfitFormat as exc:
            return str(exc)

    made = await blocks(cut(data, at))
    assert made == await blocks([data])
    if isinstance(made, str):
        assert quoted and data.count(b'"') % 2
        return
    assert b"".join(made) == data
    assert all(block.endswith(b"\n") for block in made[:-1])
    assert not quoted or all(block.count(b'"') % 2 == 0 for block in made)


@given(anything, cuts)
def test_pieces_have_the_records_of_the_whole(parts: list[bytes], at: list[int]) -> None:
    """However a text came, and even if its last quote is not closed."""
    data = b"".join(parts)
    pieces = list(record_pieces(cut(data, at)))
    assert b"".join(pieces) == data
    assert [record for piece in pieces for record in csv_records(piece)] == csv_records(data)


def test_a_long_text_is_cut_between_records() -> None:
    """A line feed between quotes is none, and a record may be longer than a piece."""
    records = [b'%d,"%b"\n' % (n, b"line\n" * (n % 50)) for n in range(4_000)]
    records[2_000] = b'2000,"%b"\n' % (b"\n" * 3 * PIECE_BYTES)
    data = b"".join(records)
    for text in (data, memoryview(data), [data[:100_000], data[100_000:]]):
        pieces = list(record_pieces(text))
        assert [record for piece in pieces for record in csv_records(piece)] == records
        assert len(pieces) > 2
