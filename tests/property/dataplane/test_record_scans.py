"""Laws of finding where records begin: whatever is asked for, and however the bytes come, it is where they do."""

from collections.abc import Callable
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.framed import recordio, tfrecord, tfrecord_header

from millrace.dataplane.csv_records import csv_records
from millrace.dataplane.record_scan import CsvScan, FrameScan, RecordScan
from millrace.dataplane.record_starts import SEEK_BYTES, RecordStarts
from millrace.dataplane.recordio import RecordIO
from millrace.dataplane.tfrecord import TFRecord
from millrace.testing.objects import MemoryObjects

PAYLOADS = st.lists(
    st.one_of(
        st.binary(max_size=20),
        st.just(b"1234\x0a\x23\xd7\xce" * 2),  # parts of RecordIO
        st.just(recordio(b"ab") + tfrecord(b"ab")),
    ),
    max_size=12,
)
CSV = st.lists(st.sampled_from([b"a", b'"', b"\n", b'"\n"', b'""', b",", b"bb\r\n"]), max_size=60).map(b"".join)


async def starts_found(
    data: bytes, make_scan: Callable[[], RecordScan], asked: list[int], chunk_bytes: int
) -> list[int]:
    """Return what is found for each place that is asked for, in this order."""
    objects = MemoryObjects(chunk_bytes=chunk_bytes)
    ref = objects.add("s3://shop/a", data)
    starts = RecordStarts(objects, ref, len(data), make_scan)
    return [await starts.find(near) for near in asked]


def expected(begins: list[int], size: int, asked: list[int]) -> list[int]:
    """Return the first place at each one asked for, or behind it, where a record begins or the object ends."""
    return [near if near >= size else min([it for it in begins if it >= near], default=size) for near in asked]


@given(PAYLOADS, st.booleans(), st.lists(st.integers(0, 400)), st.integers(1, 30), st.booleans())
async def test_frames_are_found(
    payloads: list[bytes], is_recordio: bool, asked: list[int], chunk_bytes: int, in_order: bool
) -> None:
    """Also those whose bytes look like frames, and those of several parts."""
    frame = recordio if is_recordio else tfrecord
    records = [frame(payload) for payload in payloads]
    size = sum(map(len, records))
    begins = list(accumulate(map(len, records), initial=0))
    asked = [near for near in asked if near <= size]

    def make() -> RecordScan:
        return FrameScan(RecordIO() if is_recordio else TFRecord())

    places = sorted(asked) if in_order else asked
    assert await starts_found(b"".join(records), make, places, chunk_bytes) == expected(begins, size, places)


@given(CSV, st.lists(st.integers(0, 100)), st.integers(1, 30), st.booleans())
async def test_records_of_csv_are_found(data: bytes, asked: list[int], chunk_bytes: int, in_order: bool) -> None:
    """However quotes and line feeds follow each other."""
    begins = list(accumulate(map(len, csv_records(data)), initial=0))
    asked = [near for near in asked if near <= len(data)]
    places = sorted(asked) if in_order else asked
    assert await starts_found(data, CsvScan, places, chunk_bytes) == expected(begins, len(data), places)


async def test_large_payloads_are_not_read() -> None:
    """Behind a header the scan goes on where the next one is."""
    data = b"".join(recordio(b"y" * (2 * SEEK_BYTES)) for _ in range(4))
    objects = MemoryObjects(chunk_bytes=1000)
    read = 0

    class Counting(MemoryObjects):
        async def read(self, ref, *, start=0, length=None):  # type: ignore[no-untyped-def]
            nonlocal read
            async for chunk in objects.read(ref, start=start, length=length):
                read += len(chunk)
                yield chunk

    ref = objects.add("s3://shop/a", data)
    found = await RecordStarts(Counting(), ref, len(data), lambda: FrameScan(RecordIO())).find(len(data) // 2 + 1)
    assert found == len(data) // 4 * 3
    assert read <= 4 * 1000


@pytest.mark.parametrize("damage", [b"\xff" * 40, tfrecord_header(2**60)])
async def test_behind_damage_nothing_begins(damage: bytes) -> None:
    """Whoever reads the damaged record tells of it; nobody guesses where another one might be."""
    good = tfrecord(b"abc")
    data = good + damage + good * 5
    asked = [1, len(good), len(good) + 1, len(good) + 60, len(data)]
    found = await starts_found(data, lambda: FrameScan(TFRecord()), asked, 16)
    assert found == [len(good), len(good), len(data), len(data), len(data)]
