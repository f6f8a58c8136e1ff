"""Laws of records that are longer than a payload may be, and are passed over."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st
from tests.framed import recordio, tfrecord

from millrace.dataplane.batch import payload_former, record_end
from millrace.dataplane.formats.csv_payloads import csv_payload_former
from millrace.dataplane.long_records import CsvEnd, PassingOver, RecordEnd
from millrace.dataplane.payload import PayloadFormer, PayloadTooLarge
from millrace.jobs.transform import BatchStrategy, SplitType


class Kind(NamedTuple):
    """A way to cut objects: how a record is written, what forms payloads, and what looks for a long one's end."""

    write: Callable[[bytes], bytes]
    form: Callable[[BatchStrategy, int, tuple[int, int]], PayloadFormer]
    end: Callable[[int, int], RecordEnd]


def _quoted(body: bytes) -> bytes:
    return b'"' + body.replace(b'"', b'""') + b'"\n'


def _of_split(split: SplitType, write: Callable[[bytes], bytes]) -> Kind:
    return Kind(write, partial(payload_former, split), partial(record_end, split))


KINDS: Mapping[str, Kind] = {
    "lines": _of_split(SplitType.LINE, lambda body: body.replace(b"\n", b";") + b"\n"),
    "quoted": Kind(_quoted, csv_payload_former, CsvEnd),
    "recordio": _of_split(SplitType.RECORDIO, recordio),
    "tfrecord": _of_split(SplitType.TFRECORD, tfrecord),
}
BODIES = st.lists(
    st.one_of(st.binary(max_size=12), st.sampled_from([b'"\n"', b"\n" * 9, b"\x0a\x23\xd7\xce" * 4])).map(
        lambda body: body * (1 + len(body) % 5)
    ),
    max_size=12,
)


class Told(NamedTuple):
    """A payload, or a record that was passed over."""

    record: int
    offset: int
    size: int
    records: int
    is_long: bool


def form(kind: Kind, strategy: BatchStrategy, limit: int, chunks: Sequence[bytes]) -> list[Told]:
    """Form the payloads of an object as a run does, and see to it that all room is accounted for."""
    former = kind.form(strategy, limit, (1, 0))
    told: list[Told] = []
    held = 0

    def take_all(*, ended: bool) -> None:
        nonlocal former, held
        while True:
            try:
                payload = former.take()
            except PayloadTooLarge as exc:
                passing = PassingOver(
                    exc,
                    kind.end(exc.record, exc.offset),
                    former.rest(),
                    follow=lambda record, offset: kind.form(strategy, limit, (record, offset)),
                )
                if ended:
                    passing.finish()
                held -= passing.let_go()
                former = passing
                continue
            if payload is None:
                return
            if payload.too_large is not None:
                assert isinstance(former, PassingOver)
                assert former.following is not None
                assert former.taken() == (payload.record - 1, payload.offset)
                former = former.following
            held -= payload.size
            size = payload.length or payload.size
            told.append(Told(payload.record, payload.offset, size, payload.records, payload.too_large is not None))
            assert former.buffered == held
            assert former.taken() == (payload.record + payload.records - 1, payload.offset + size)

    for chunk in chunks:
        former.feed(chunk)
        held += len(chunk)
        if isinstance(former, PassingOver):
            held -= former.let_go()
        take_all(ended=False)
    former.finish()
    take_all(ended=True)
    assert held == former.buffered == 0
    return told


@given(st.data(), st.sampled_from(list(KINDS)), st.sampled_from(list(BatchStrategy)), BODIES, st.integers(1, 60))
def test_all_records_are_in_payloads_or_told_to_be_too_long(
    data: st.DataObject, name: str, strategy: BatchStrategy, bodies: list[bytes], limit: int
) -> None:
    """However an object is cut into chunks, each record is told once, in order, and long exactly if it is too long."""
    kind = KINDS[name]
    records = [kind.write(body) for body in bodies]
    text = b"".join(records)
    at = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    chunks = [text[start:end] for start, end in zip([0, *at], [*at, len(text)], strict=True)]
    told = form(kind, strategy, limit, chunks)
    assert told == form(kind, strategy, limit, [text])
    number, offset = 1, 0
    for one in told:
        assert (one.record, one.offset) == (number, offset)
        covered = records[number - 1 : number - 1 + one.records]
        assert one.size == sum(map(len, covered))
        assert one.is_long == (one.size > limit)
        assert not one.is_long or one.records == 1
        number, offset = number + one.records, offset + one.size
    assert number == len(records) + 1
