"""Laws of splitting, batching and putting back in order."""

import gzip
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.acceptance.transform_rig import job

from millrace.dataplane.assemble import LineEnd, assemble, joined_parts
from millrace.dataplane.batch import Payload, PayloadFormer, PayloadTooLarge, payload_former
from millrace.dataplane.formats.job import JobFormats
from millrace.dataplane.gzip import gunzip
from millrace.dataplane.lane import Lane
from millrace.dataplane.object_output import ObjectOutput
from millrace.dataplane.plan import InputObject
from millrace.dataplane.progress import Counters
from millrace.dataplane.reading import ObjectReader
from millrace.dataplane.split import LineSplitter
from millrace.jobs.transform import BatchStrategy, SplitType
from millrace.names import ObjectRef
from millrace.ports.objects import ObjectMeta
from millrace.testing.clock import ManualClock
from millrace.testing.objects import MemoryObjects

text_like = st.lists(st.sampled_from([b"a", b"bcd", b"\n", b"\r\n", b"x" * 30, b"\0"]), max_size=60).map(b"".join)


@st.composite
def chunked(draw: st.DrawFn) -> list[bytes]:
    """An object, cut anywhere."""
    data = draw(text_like)
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def payloads(former: PayloadFormer, chunks: list[bytes]) -> list[Payload]:
    made: list[Payload] = []

    def take_all() -> None:
        while (payload := former.take()) is not None:
            made.append(payload)

    for chunk in chunks:
        former.feed(chunk)
        take_all()
    former.finish()
    take_all()
    return made


@given(chunked())
def test_joining_the_lines_gives_the_input(chunks: list[bytes]) -> None:
    """However an object is cut into chunks, its records joined are the object; a line feed ends each but the last."""
    splitter = LineSplitter()
    records: list[bytes] = []
    for chunk in chunks:
        splitter.feed(chunk)
        while found := splitter.next_records():
            records += found
    splitter.finish()
    while found := splitter.next_records():
        records += found
    assert b"".join(records) == b"".join(chunks)
    assert all(record.endswith(b"\n") for record in records[:-1])
    assert all(b"\n" not in record[:-1] and record for record in records)


@example(chunks=[b"\na"], strategy=BatchStrategy.MULTI_RECORD, limit=2)
@given(chunks=chunked(), strategy=st.sampled_from(list(BatchStrategy)), limit=st.integers(0, 90))
def test_payloads_keep_order_place_and_limit(chunks: list[bytes], strategy: BatchStrategy, limit: int) -> None:
    """Payloads joined are the object; each knows its place and fits the limit, unless a record alone does not."""
    data = b"".join(chunks)
    records = [line + b"\n" for line in data.split(b"\n")]
    records[-1] = records[-1][:-1]
    records = [record for record in records if record]
    too_long = [number for number, record in enumerate(records, 1) if limit and len(record) > limit]
    former = payload_former(SplitType.LINE, strategy, limit)
    if too_long:
        with pytest.raises(PayloadTooLarge) as caught:
            payloads(former, chunks)
        assert caught.value.record == too_long[0]
        assert caught.value.offset == sum(map(len, records[: too_long[0] - 1]))
        return
    made = payloads(former, chunks)
    assert b"".join(payload.joined() for payload in made) == data
    assert former.buffered == 0
    number, offset = 1, 0
    for payload in made:
        assert (payload.record, payload.offset, payload.size) == (number, offset, len(payload.joined()))
        assert not limit or payload.size <= limit
        number, offset = number + payload.records, offset + payload.size
    assert number == len(records) + 1
    if strategy is BatchStrategy.SINGLE_RECORD:
        assert [payload.joined() for payload in made] == records
    elif limit:
        for payload, following in itertools.pairwise(made):
            assert payload.size + len(records[following.record - 1]) > limit, "the next record would have fitted"


@given(chunked(), st.integers(0, 200))
def test_an_unsplit_object_is_one_payload(chunks: list[bytes], limit: int) -> None:
    """Without a split the object is one payload, none if it is empty, refused if it is too long."""
    data = b"".join(chunks)
    former = payload_former(SplitType.NONE, BatchStrategy.MULTI_RECORD, limit)
    if limit and len(data) > limit:
        with pytest.raises(PayloadTooLarge):
            payloads(former, chunks)
        return
    assert [payload.joined() for payload in payloads(former, chunks)] == ([data] if data else [])


@given(st.permutations(range(20)))
def test_results_leave_in_input_order(order: list[int]) -> None:
    """Whatever order invocations finish in, results are written in input order, as soon as they can be."""
    ref = ObjectRef("shop", "a")
    entry = InputObject(ref=ref, size=1, output=ref)
    objects, clock = MemoryObjects(), ManualClock()
    formats = JobFormats(job())
    counters = Counters(objects_total=1, bytes_total=1)
    reader = ObjectReader(objects, entry, formats=formats, chunk_bytes=1, counters=counters)
    output = ObjectOutput(
        entry,
        objects=objects,
        meta=ObjectMeta(),
        formats=formats,
        reader=reader,
        kept_text=Path("rows"),
        checkpoints=None,
        in_parts=False,
        monotonic=clock.monotonic,
    )
    former = payload_former(SplitType.NONE, BatchStrategy.MULTI_RECORD, 0)
    lane = Lane(entry, former, reader, output, order=0)
    for done in range(1, len(order) + 1):
        payload = Payload(b"", 0, 1, 0, 1)
        payload.index = order[done - 1]
        lane.finish(payload, b"%d" % payload.index, 1)
        finished = set(order[:done])
        first_missing = next(index for index in range(len(order) + 1) if index not in finished)
        assert lane.answers == [b"%d" % index for index in range(first_missing)]
        assert lane.room == first_missing


ANSWER_BYTES = st.binary(max_size=5) | st.text("a\n", max_size=3).map(str.encode)


@given(st.lists(st.one_of(ANSWER_BYTES, st.lists(ANSWER_BYTES, min_size=2))), st.sampled_from(LineEnd))
def test_assembling_is_concatenation(answers: list[bytes | list[bytes]], line_end: LineEnd) -> None:
    """The output is the answers one after the other, each followed by a line feed where that was asked for."""
    whole = [answer if isinstance(answer, bytes) else b"".join(answer) for answer in answers]
    expected = {
        LineEnd.NOTHING: whole,
        LineEnd.ALWAYS: [answer + b"\n" for answer in whole],
        LineEnd.WHERE_MISSING: [answer.removesuffix(b"\n") + b"\n" for answer in whole],
    }
    assert b"".join(assemble(answers, line_end)) == b"".join(expected[line_end])


@given(st.lists(st.sampled_from([b"", b"a", b"a\n", b"a\nb", b"a\nb\n"]), min_size=1), st.sampled_from(LineEnd))
def test_parts_of_a_payload_are_put_together_like_one_answer(parts: list[bytes], line_end: LineEnd) -> None:
    """No blank lines stand where it was cut; only an empty part is one, and only where lines are to match."""
    written = b"".join(assemble([joined_parts(parts, line_end)], line_end))
    lines = [line for part in parts for line in (part.removesuffix(b"\n").split(b"\n"))]
    if line_end is LineEnd.NOTHING:
        assert written == b"".join(parts)
    elif line_end is LineEnd.WHERE_MISSING:
        assert written == b"".join(line + b"\n" for line in lines)
    else:
        end = b"\n\n" if parts[-1].endswith(b"\n") else b"\n"
        assert written == b"\n".join(lines) + end


@given(st.lists(st.binary(max_size=200), max_size=4), st.integers(1, 50), st.integers(1, 64), st.integers(0, 3))
async def test_gzip_members_decompress_in_bounded_chunks(
    members: list[bytes], cut: int, chunk_bytes: int, padding: int
) -> None:
    """Members, cut anywhere and padded with zeros, give back their plain bytes, never too many at once."""
    data = b"".join(gzip.compress(member) for member in members) + b"\0" * (padding if members else 0)

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(data), cut):
            yield data[start : start + cut]

    plain = [chunk async for chunk in gunzip(chunks(), chunk_bytes=chunk_bytes)]
    assert b"".join(plain) == b"".join(members)
    assert all(0 < len(chunk) <= chunk_bytes for chunk in plain)
