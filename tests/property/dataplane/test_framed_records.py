"""Laws of cutting RecordIO and TFRecord into payloads."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.framed import recordio, tfrecord

from millrace.dataplane.batch import PayloadTooLarge, UnusableRecord, payload_former
from millrace.jobs.transform import BatchStrategy, SplitType

WRITERS: dict[SplitType, Callable[[bytes], bytes]] = {SplitType.RECORDIO: recordio, SplitType.TFRECORD: tfrecord}
MAGIC = b"\x0a\x23\xd7\xce"

splits = st.sampled_from(list(WRITERS))
strategies = st.sampled_from(list(BatchStrategy))
payload_bytes = st.lists(st.sampled_from([b"a", b"bcd", MAGIC, b"x" * 30, b"\0\0"]), max_size=8).map(b"".join)
record_lists = st.lists(payload_bytes, max_size=12)


@st.composite
def cuts(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """The bytes, cut anywhere."""
    places = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


@dataclass
class Formed:
    """What became of an object: a line for each payload, and the error."""

    bodies: list[bytes]
    places: list[tuple[int, int, int, int]]
    error: tuple[type[UnusableRecord], str, int, int] | None


def form(split: SplitType, strategy: BatchStrategy, limit: int, chunks: Sequence[bytes]) -> Formed:
    former = payload_former(split, strategy, limit)
    formed = Formed([], [], None)
    fed = taken = 0

    def take_all() -> None:
        nonlocal taken
        while (payload := former.take()) is not None:
            assert payload.sent_size == len(payload.joined())
            taken += payload.size
            formed.bodies.append(payload.joined())
            formed.places.append((payload.record, payload.records, payload.offset, payload.size))
            assert former.buffered == fed - taken

    try:
        for chunk in chunks:
            former.feed(chunk)
            fed += len(chunk)
            take_all()
        former.finish()
        take_all()
        assert former.buffered == 0
    except UnusableRecord as exc:
        formed.error = type(exc), str(exc), exc.record, exc.offset
        with pytest.raises(type(exc)):
            former.take()
    return formed


@given(st.data(), splits, record_lists)
def test_a_single_record_is_sent_without_its_framing(
    data: st.DataObject, split: SplitType, records: list[bytes]
) -> None:
    """However an object is cut into chunks, each payload is what was written as a record, and knows its place."""
    framed = [WRITERS[split](record) for record in records]
    formed = form(split, BatchStrategy.SINGLE_RECORD, 0, data.draw(cuts(b"".join(framed))))
    assert formed.error is None
    assert formed.bodies == records
    ends = list(itertools.accumulate(map(len, framed), initial=0))
    assert formed.places == [(n, 1, start, end - start) for n, (start, end) in enumerate(itertools.pairwise(ends), 1)]


@given(st.data(), splits, record_lists, st.integers(0, 150))
def test_many_records_are_as_many_as_fit(
    data: st.DataObject, split: SplitType, records: list[bytes], limit: int
) -> None:
    """Payloads joined are the object up to the first record that is too long; the next record would not have fitted."""
    framed = [WRITERS[split](record) for record in records]
    long = next((n for n, record in enumerate(framed) if limit and len(record) > limit), None)
    formed = form(split, BatchStrategy.MULTI_RECORD, limit, data.draw(cuts(b"".join(framed))))
    usable = framed[:long]
    assert b"".join(formed.bodies) == b"".join(usable)
    number = offset = 0
    for record, count, start, size in formed.places:
        assert (record, start) == (number + 1, offset)
        assert size == sum(map(len, framed[number : number + count]))
        assert not limit or size <= limit
        following = framed[number + count : number + count + 1]
        assert not following or (limit and size + len(following[0]) > limit)
        number, offset = number + count, offset + size
    if long is None:
        assert formed.error is None
    else:
        assert formed.error is not None
        assert formed.error[0] is PayloadTooLarge
        assert formed.error[2:] == (long + 1, len(b"".join(usable)))


@given(st.data(), splits, record_lists, st.sampled_from([0, 60, 150]), st.lists(st.integers(1, 200), min_size=1))
def test_payloads_are_about_as_large_as_is_aimed_at(
    data: st.DataObject, split: SplitType, records: list[bytes], limit: int, aims: list[int]
) -> None:
    """Payloads joined are the object, whatever is aimed at for each; one of many records is no larger than that."""
    framed = [WRITERS[split](record) for record in records]
    whole = b"".join(itertools.takewhile(lambda record: not limit or len(bytes(record)) <= limit, framed))
    former = payload_former(split, BatchStrategy.MULTI_RECORD, limit)
    for chunk in data.draw(cuts(b"".join(framed))):
        former.feed(chunk)
    former.finish()
    formed = []
    try:
        for aim in itertools.chain(aims, itertools.repeat(aims[-1])):
            former.aim = min(aim, limit or aim)
            payload = former.take()
            if payload is None:
                break
            formed.append(payload.joined())
            assert payload.records == 1 or payload.size <= former.aim
    except PayloadTooLarge:
        assert len(whole) < len(b"".join(framed))
    assert b"".join(formed) == whole


@st.composite
def broken(draw: st.DrawFn, split: SplitType) -> bytes:
    """Bytes that are almost framed records: some are replaced, added or left out."""
    whole = b"".join(WRITERS[split](record) for record in draw(record_lists))
    if not whole or draw(st.booleans()):
        return whole + draw(st.binary(max_size=40))
    place = draw(st.integers(0, len(whole) - 1))
    return whole[:place] + draw(st.binary(max_size=3)) + whole[place + draw(st.integers(0, 3)) :]


@given(st.data(), splits, strategies, st.sampled_from([0, 0, 16, 40, 100]))
def test_damage_is_told_alike_however_an_object_is_read(
    data: st.DataObject, split: SplitType, strategy: BatchStrategy, limit: int
) -> None:
    """Payloads and error of any bytes are the same for all cuts into chunks, and the error is one of ours."""
    given_bytes = data.draw(broken(split))
    assert form(split, strategy, limit, data.draw(cuts(given_bytes))) == form(split, strategy, limit, [given_bytes])


@given(splits, strategies, st.binary(max_size=200), st.integers(0, 60))
def test_no_bytes_break_the_reader(split: SplitType, strategy: BatchStrategy, data: bytes, limit: int) -> None:
    """Whatever an object holds, it is cut or refused; what was cut are its first bytes."""
    formed = form(split, strategy, limit, [data])
    if strategy is BatchStrategy.MULTI_RECORD:
        assert data.startswith(b"".join(formed.bodies))


@given(st.data(), splits, strategies, record_lists)
def test_the_record_that_was_read_in_part_is_known(
    data: st.DataObject, split: SplitType, strategy: BatchStrategy, records: list[bytes]
) -> None:
    """When reading breaks off, number and place of the first record that is not whole can be told."""
    framed = [WRITERS[split](record) for record in records]
    whole = b"".join(framed)
    read = whole[: data.draw(st.integers(0, len(whole)))]
    former = payload_former(split, strategy, 0)
    for chunk in data.draw(cuts(read)):
        former.feed(chunk)
        if data.draw(st.booleans()):
            former.take()
    ends = list(itertools.accumulate(map(len, framed), initial=0))
    whole_records = max(number for number, end in enumerate(ends) if end <= len(read))
    assert former.reached() == (whole_records + 1, ends[whole_records])


@given(splits, strategies, record_lists)
def test_a_damaged_record_was_reached(split: SplitType, strategy: BatchStrategy, records: list[bytes]) -> None:
    """When reading breaks off behind a damaged record, it is the damaged one that is told."""
    whole = b"".join(WRITERS[split](record) for record in records)
    former = payload_former(split, strategy, 0)
    former.feed(whole + b"\xff" * 20 + whole)
    assert former.reached() == (len(records) + 1, len(whole))
