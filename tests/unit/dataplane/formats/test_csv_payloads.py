"""Records of CSV whose quoted fields hold line feeds."""

import pytest

from millrace.dataplane.csv_records import (
    CsvRecordCount,
    CsvRecordSplitter,
    csv_records,
    middle_record,
    nonblank_csv_records,
)
from millrace.dataplane.formats.csv_payloads import ManyCsvRecords, csv_payload_former
from millrace.dataplane.payload import CorruptRecords, Payload, PayloadFormer, PayloadTooLarge
from millrace.jobs.transform import BatchStrategy

QUOTED = b'id,text\n1,"two\nlines"\n2,"a ""word"""\n3,plain\n'
RECORDS = [b"id,text\n", b'1,"two\nlines"\n', b'2,"a ""word"""\n', b"3,plain\n"]


def formed(former: PayloadFormer, *chunks: bytes) -> list[Payload]:
    """Return all payloads of an object."""
    made = []
    for chunk in chunks:
        former.feed(chunk)
        while (payload := former.take()) is not None:
            made.append(payload)
    former.finish()
    while (payload := former.take()) is not None:
        made.append(payload)
    return made


def test_a_quoted_line_feed_ends_no_record() -> None:
    """A field between quotes keeps its line feeds; doubled quotes inside it don't end it."""
    assert csv_records(QUOTED) == RECORDS


def test_an_open_quote_is_told_where_its_record_begins() -> None:
    """The splitter hands out what is complete, then tells number and offset of the record that never ends."""
    splitter = CsvRecordSplitter()
    splitter.feed(b'a\nb,"c\nd\n')
    splitter.finish()
    assert splitter.next_records() == [b"a\n"]
    assert splitter.unfinished == len(b'b,"c\nd\n')
    with pytest.raises(CorruptRecords) as caught:
        splitter.next_records()
    assert (caught.value.record, caught.value.offset) == (2, 2)
    assert str(caught.value) == "a quoted field of this record of CSV has no closing quote"


def test_rows_of_an_answer_may_hold_line_feeds() -> None:
    """Rows come without their ends; empty ones are none, and what is open at the end is one more."""
    assert nonblank_csv_records(b'"a\nb",1\r\n\n2\n"c') == [b'"a\nb",1', b"2", b'"c']
    assert nonblank_csv_records(b"1\r\n\r\n2") == [b"1", b"2"]


def test_payloads_of_many_records_end_with_records() -> None:
    """As many records as fit: never is one cut at a line feed between its quotes."""
    payloads = formed(ManyCsvRecords(24), QUOTED)
    assert [payload.joined() for payload in payloads] == [b"".join(RECORDS[:2]), b"".join(RECORDS[2:])]
    places = [(payload.record, payload.offset, payload.records) for payload in payloads]
    assert places == [(1, 0, 2), (3, len(b"".join(RECORDS[:2])), 2)]


def test_a_payload_without_limit_is_the_object() -> None:
    """Without a limit there is one payload, and it tells how many records it has."""
    [payload] = formed(ManyCsvRecords(0), QUOTED[:11], QUOTED[11:])
    assert (payload.joined(), payload.records) == (QUOTED, 4)


def test_a_record_beyond_the_limit_is_told() -> None:
    """A record that does not fit in one payload fails the object, by its number and offset."""
    for strategy in BatchStrategy:
        with pytest.raises(PayloadTooLarge) as caught:
            formed(csv_payload_former(strategy, 10), QUOTED)
        assert (caught.value.record, caught.value.offset) == (2, 8)


def test_an_open_quote_fails_the_object() -> None:
    """An object that ends between quotes is told by the record that has no end, whatever the strategy."""
    for strategy in BatchStrategy:
        with pytest.raises(CorruptRecords) as caught:
            formed(csv_payload_former(strategy, 0), b"a\nb\n", b'c,"d\ne')
        assert (caught.value.record, caught.value.offset) == (3, 4)


def test_what_was_fed_in_part_is_told_by_its_record() -> None:
    """When reading breaks off, the record that was fed in part is the one to be told."""
    former = ManyCsvRecords(100)
    for chunk in (b'1,"a\n', b'b"\n2\n3,"', b"c\n"):
        former.feed(chunk)
    assert former.reached() == (3, len(b'1,"a\nb"\n2\n'))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"1\n2\n3\n", (2, 1)),
        (b'"a\nb"\n2\n', (6, 1)),
        (b'1\n"a\n\n\nb"\n', (2, 1)),
        (b'"long\nlong"\n2\n3', (12, 1)),
        (b'"a\nb"\n', (0, 0)),
        (b"1", (0, 0)),
    ],
)
def test_a_body_is_cut_between_records(body: bytes, expected: tuple[int, int]) -> None:
    """Two halves of a body are whole records each, at least one."""
    assert middle_record(body) == expected


def test_records_that_go_by_are_counted() -> None:
    """Chunks may be cut anywhere; the last record needs no end."""
    for step in (1, 4, 100):
        count = CsvRecordCount()
        data = QUOTED + b'4,"open\n'
        for at in range(0, len(data), step):
            count.add(data[at : at + step])
        assert count.records == 4
        count.finish()
        count.finish()
        assert count.records == 5
