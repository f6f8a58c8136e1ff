"""How RecordIO and TFRecord are read, and what is told of those that are damaged."""

import struct
from collections.abc import Callable

import pytest
from tests.framed import recordio, tfrecord, tfrecord_header

from millrace.dataplane.batch import CorruptRecords, Payload, PayloadFormer, PayloadTooLarge, payload_former
from millrace.dataplane.frames import STEP_BYTES, FrameReader
from millrace.dataplane.recordio import RecordIO
from millrace.dataplane.tfrecord import KNOWN_HEADERS, TFRecord
from millrace.jobs.transform import BatchStrategy, SplitType

MAGIC = b"\x0a\x23\xd7\xce"
SINGLE, MANY = BatchStrategy.SINGLE_RECORD, BatchStrategy.MULTI_RECORD


def part(flag: int, payload: bytes) -> bytes:
    return MAGIC + struct.pack("<I", flag << 29 | len(payload)) + payload


def taken(former: PayloadFormer, *chunks: bytes) -> list[Payload]:
    payloads = []
    for chunk in chunks:
        former.feed(chunk)
        while (payload := former.take()) is not None:
            payloads.append(payload)
    former.finish()
    while (payload := former.take()) is not None:
        payloads.append(payload)
    return payloads


def failure(split: SplitType, data: bytes) -> CorruptRecords:
    with pytest.raises(CorruptRecords) as caught:
        taken(payload_former(split, SINGLE, 0), data)
    return caught.value


@pytest.mark.parametrize(
    ("damaged", "frame", "reason"),
    [
        (b"\x0a\x23\xd7\xcf\0\0\0\0", 0, "expected the magic 0a 23 d7 ce, got 0a 23 d7 cf"),
        (part(2, b"abcd"), 0, "expected the continuation flag 0 or 1 (a whole record or a first part), got 2"),
        (part(3, b"abcd"), 0, "expected the continuation flag 0 or 1 (a whole record or a first part), got 3"),
        (part(7, b"abcd"), 0, "expected the continuation flag 0 or 1 (a whole record or a first part), got 7"),
        (part(1, b"abcd") + part(0, b""), 12, "expected the continuation flag 2 or 3 (a middle or last part), got 0"),
        (part(1, b"abcd") + part(1, b""), 12, "expected the continuation flag 2 or 3 (a middle or last part), got 1"),
        (part(1, b"abcd") + b"\0" * 8, 12, "expected the magic 0a 23 d7 ce, got 00 00 00 00"),
        (MAGIC, 0, "the object ends after 4 bytes of a record of at least 8"),
        (part(0, b"abcde"), 0, "the object ends after 13 bytes of a record of at least 16"),
        (part(1, b"abcd"), 12, "the object ends after 12 bytes of a record of at least 20"),
    ],
)
def test_damaged_recordio_is_told(damaged: bytes, frame: int, reason: str) -> None:
    """The error names the record and its place, the place of the frame, and what was expected."""
    before = recordio(b"one") + recordio(b"two")
    error = failure(SplitType.RECORDIO, before + damaged)
    assert (error.record, error.offset) == (3, len(before))
    assert str(error) == f"Failed to split the object as RecordIO at byte {len(before) + frame}: {reason}"


HELLO = tfrecord(b"hello")


@pytest.mark.parametrize(
    ("damaged", "reason"),
    [
        (b"\x06" + HELLO[1:], "the length 6 has the checksum 37d56973, but the header says 3e04b2ea"),
        (HELLO[:12] + b"j" + HELLO[13:], "the record's bytes have the checksum 6aacbf7e, but the record says 191c1fbb"),
        (HELLO[:11], "the object ends after 11 bytes of a record of at least 12"),
        (HELLO[:12], "the object ends after 12 bytes of a record of at least 21"),
        (HELLO[:-1], "the object ends after 20 bytes of a record of at least 21"),
    ],
)
def test_damaged_tfrecord_is_told(damaged: bytes, reason: str) -> None:
    """Both checksums and the object's end are looked at, and what does not fit is named."""
    before = tfrecord(b"one") + tfrecord(b"")
    error = failure(SplitType.TFRECORD, before + damaged)
    assert (error.record, error.offset) == (3, len(before))
    assert str(error) == f"Failed to split the object as TFRecord at byte {len(before)}: {reason}"


@pytest.mark.parametrize("strategy", [SINGLE, MANY])
@pytest.mark.parametrize(
    ("split", "header"),
    [
        (SplitType.RECORDIO, MAGIC + struct.pack("<I", 993)),
        (SplitType.RECORDIO, part(1, b"x" * 500) + MAGIC + struct.pack("<I", 3 << 29 | 485)),
        (SplitType.TFRECORD, tfrecord(b"x" * 985)[:12]),
    ],
)
def test_a_long_record_is_refused_by_its_header(split: SplitType, header: bytes, strategy: BatchStrategy) -> None:
    """A record of more than the limit is refused before its bytes are read; the records before it are sent."""
    write = recordio if split is SplitType.RECORDIO else tfrecord
    former = payload_former(split, strategy, 1000)
    former.feed(write(b"one"))
    former.feed(header)
    first = former.take()
    assert first is not None
    for _ in range(2):
        with pytest.raises(PayloadTooLarge) as caught:
            former.take()
        assert (caught.value.record, caught.value.offset) == (2, first.size)


@pytest.mark.parametrize(("split", "write"), [(SplitType.RECORDIO, recordio), (SplitType.TFRECORD, tfrecord)])
def test_a_payload_is_cut_when_the_next_header_does_not_fit(split: SplitType, write: Callable[[bytes], bytes]) -> None:
    """A payload of many records does not wait for the bytes of a record that belongs to the next one."""
    first, second = write(b"x" * 600), write(b"y" * 600)
    former = payload_former(split, MANY, 1000)
    former.feed(first + second[:20])
    payload = former.take()
    assert payload is not None
    assert payload.joined() == first
    assert former.take() is None


def test_large_records_are_not_joined() -> None:
    """A record of several chunks is sent as views on them; a small one is joined."""
    payload = bytes(range(256)) * 1024
    framed = recordio(payload)
    chunks = [framed[start : start + 100_000] for start in range(0, len(framed), 100_000)]
    (large,) = taken(payload_former(SplitType.RECORDIO, SINGLE, 0), *chunks)
    assert isinstance(large.body, list)
    assert [len(piece) for piece in large.body] == [99_992, 100_000, 62_152]
    assert large.joined() == payload
    (small,) = taken(payload_former(SplitType.RECORDIO, SINGLE, 0), framed[:8], framed[8:])
    assert small.joined() == payload


def test_parts_are_joined_by_the_magic() -> None:
    """A record of many parts is one payload; framed, it is never separated."""
    payload = (b"abcd" + MAGIC) * 20_000 + MAGIC
    framed = recordio(payload)
    for chunks in ([framed], [framed[:100_001], framed[100_001:]]):
        (single,) = taken(payload_former(SplitType.RECORDIO, SINGLE, 0), *chunks)
        assert (single.joined(), single.sent_size, single.size) == (payload, len(payload), len(framed))
        (many,) = taken(payload_former(SplitType.RECORDIO, MANY, 0), *chunks)
        assert (many.joined(), many.records) == (framed, 1)


def test_tiny_records_are_listed_in_steps() -> None:
    """Of a chunk of many empty records no more are listed at a time than begin in a step."""
    reader = FrameReader(RecordIO())
    reader.feed(recordio(b"") * 20_000)
    steps = []
    while (step := reader.next_step()) is not None:
        steps.append(step.records)
    assert steps == [STEP_BYTES // 8, STEP_BYTES // 8, 20_000 - 2 * (STEP_BYTES // 8)]


def test_records_of_many_lengths_are_read() -> None:
    """Headers are remembered, but not too many: all lengths are read nevertheless."""
    framing = TFRecord()
    for length in (*range(KNOWN_HEADERS + 10), 0, 2**40):
        assert framing.open_frame(tfrecord_header(length), continues=False) == (length, 4, True)
