"""Targets: objects that are cut into records and payloads."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from fuzz.source import Cuts, Source
from millrace.dataplane.bad_records import halves
from millrace.dataplane.batch import payload_former
from millrace.dataplane.csv_records import CsvRecordCount
from millrace.dataplane.formats.csv_payloads import csv_payload_former
from millrace.dataplane.framing import Framing
from millrace.dataplane.payload import CorruptRecords, Payload, PayloadFormer, UnusableRecord
from millrace.dataplane.record_count import RecordCount, record_count
from millrace.dataplane.record_scan import CsvScan, FrameScan, RecordScan
from millrace.dataplane.record_starts import RecordStarts
from millrace.dataplane.split import FRAMINGS
from millrace.jobs.transform import BatchStrategy, SplitType
from millrace.names import ObjectRef
from millrace.testing.objects import MemoryObjects

__all__ = ["csv_records", "line_records", "record_starts", "recordio", "tfrecord"]

Outcome = tuple[list[Payload], UnusableRecord | None]
Make = Callable[[BatchStrategy, int], PayloadFormer]


def line_records(data: bytes) -> None:
    """Cut lines."""
    _check_split(data, SplitType.LINE)


def recordio(data: bytes) -> None:
    """Cut RecordIO."""
    _check_split(data, SplitType.RECORDIO)


def tfrecord(data: bytes) -> None:
    """Cut TFRecord."""
    _check_split(data, SplitType.TFRECORD)


def csv_records(data: bytes) -> None:
    """Cut records of CSV whose quoted fields may hold line feeds."""
    _check(data, csv_payload_former, CsvRecordCount, SplitType.LINE, quoted_newlines=True)


def record_starts(data: bytes) -> None:
    """Find where records begin, by reading less than all of them."""
    source = Source(data)
    split = source.choice((SplitType.LINE, SplitType.RECORDIO, SplitType.TFRECORD))
    nears = sorted(source.number(255) for _ in range(3))
    cuts = source.cuts()
    data = source.rest()
    former, scan = _scanned(split)
    payloads, error = _formed(former, [data])
    known = len(data) if error is None else error.offset
    starts = [payload.offset for payload in payloads]
    for near, found in zip(nears, asyncio.run(_found(data, cuts, scan, nears)), strict=True):
        expected = min((start for start in starts if start >= near), default=known)
        if near >= len(data):
            assert found == near, "nothing is there to be looked for"
        elif error is None or expected < known:
            assert found == expected, "a range begins where a record does"
        else:
            assert known <= found <= len(data), "behind what is damaged nobody is told of a record before it"


def _scanned(split: SplitType) -> tuple[PayloadFormer, Callable[[], RecordScan]]:
    if split is SplitType.LINE:
        return csv_payload_former(BatchStrategy.SINGLE_RECORD, 0), CsvScan
    framing: Callable[[], Framing] = FRAMINGS[split]
    return payload_former(split, BatchStrategy.SINGLE_RECORD, 0), lambda: FrameScan(framing())


async def _found(data: bytes, cuts: Cuts, scan: Callable[[], RecordScan], nears: Sequence[int]) -> list[int]:
    starts = RecordStarts(_InChunks(data, cuts), ObjectRef("shop", "in"), len(data), scan)
    return [await starts.find(near) for near in nears]


class _InChunks(MemoryObjects):
    """A store of one object."""

    def __init__(self, data: bytes, cuts: Cuts) -> None:
        super().__init__()
        self._data = data
        self._cuts = cuts

    async def read(self, ref: ObjectRef, *, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        for chunk in self._cuts.apply(self._data[start:] if length is None else self._data[start : start + length]):
            yield chunk


def _check_split(data: bytes, split: SplitType) -> None:
    def make(strategy: BatchStrategy, limit: int) -> PayloadFormer:
        return payload_former(split, strategy, limit)

    _check(data, make, lambda: record_count(split), split)


def _check(
    data: bytes, make: Make, count: Callable[[], RecordCount], split: SplitType, *, quoted_newlines: bool = False
) -> None:
    """Hold a way to cut objects to its laws."""
    source = Source(data)
    strategy, limit = source.choice(list(BatchStrategy)), source.choice((0, 1, 12, 40, 1000))
    cuts = source.cuts()
    data = source.rest()
    payloads, error = outcome = _formed(make(strategy, limit), [data])
    assert _told(_formed(make(strategy, limit), cuts.apply(data))) == _told(outcome), "chunks change nothing"
    record, offset = 1, 0
    for payload in payloads:
        assert (payload.record, payload.offset) == (record, offset), "payloads follow each other"
        assert payload.records > 0
        assert not limit or payload.size <= limit
        assert strategy is BatchStrategy.MULTI_RECORD or payload.records == 1
        record, offset = record + payload.records, offset + payload.size
    if split is SplitType.LINE:
        assert b"".join(payload.joined() for payload in payloads) == data[:offset], "no byte is lost or changed"
    if error is None:
        assert offset == len(data)
        counted = count()
        for chunk in cuts.apply(data):
            counted.add(chunk)
        counted.finish()
        assert counted.records == record - 1, "counting agrees with forming"
        _check_halves(make, data, split, quoted_newlines=quoted_newlines)
    else:
        assert (error.record, error.offset) >= (record, offset)
        assert error.offset <= len(data)
    _check_reached(make(strategy, limit), cuts.apply(data), error)


def _check_reached(former: PayloadFormer, chunks: Sequence[bytes], error: UnusableRecord | None) -> None:
    """What is told of an object that could not be read on is the record that is damaged, or one before it."""
    size = 0
    for chunk in chunks:
        former.feed(chunk)
        size += len(chunk)
    record, offset = former.reached()
    assert record >= 1
    assert 0 <= offset <= size
    if isinstance(error, CorruptRecords):
        assert (record, offset) == (error.record, error.offset), "both tell of the same record"


def _check_halves(make: Make, data: bytes, split: SplitType, *, quoted_newlines: bool) -> None:
    for payload in _formed(make(BatchStrategy.MULTI_RECORD, 0), [data])[0]:
        original = payload.joined()
        parts = halves(payload, original, split, quoted_newlines=quoted_newlines) if payload.records > 1 else [payload]
        assert b"".join(part.joined() for part in parts) == original
        assert sum(part.records for part in parts) == payload.records
        assert all(part.records > 0 for part in parts)
        assert len(parts) == min(2, payload.records)


def _formed(former: PayloadFormer, chunks: Sequence[bytes]) -> Outcome:
    """Form payloads as the transform loop does: as many as there are after each chunk."""
    payloads: list[Payload] = []
    try:
        for chunk in chunks:
            former.feed(chunk)
            while (payload := former.take()) is not None:
                payloads.append(payload)
        former.finish()
        while (payload := former.take()) is not None:
            payloads.append(payload)
    except UnusableRecord as exc:
        return payloads, exc
    return payloads, None


def _told(outcome: Outcome) -> object:
    payloads, error = outcome
    told = [(payload.joined(), payload.record, payload.offset, payload.records) for payload in payloads]
    return told, error and (type(error), str(error), error.record, error.offset)
