"""Laws of ranges: each byte is in one, each begins with a record, and no neighbour has to be asked."""

from hypothesis import given
from hypothesis import strategies as st

from millrace.dataplane.ranges import MAX_RANGES, cut
from millrace.dataplane.record_starts import next_line
from millrace.testing.objects import MemoryObjects


@given(st.integers(0, 10**13), st.integers(1, 10**9))
def test_nominal_ranges_cover_an_object(size: int, range_bytes: int) -> None:
    """They are of about one length, not longer than asked for unless there would be too many of them."""
    ranges = cut(size, range_bytes)
    assert bool(ranges) == (size > range_bytes)
    assert len(ranges) <= MAX_RANGES
    if not ranges:
        return
    assert [part.start for part in ranges] == [0, *(part.end for part in ranges[:-1])]
    assert ranges[-1].end == size
    lengths = [part.end - part.start for part in ranges]
    assert max(lengths) - min(lengths) <= 1
    assert max(lengths) <= range_bytes or len(ranges) == MAX_RANGES


@given(
    st.lists(st.sampled_from([b"a", b"bb\r", b"\n", b"\n\n", b"c" * 9])).map(b"".join),
    st.integers(1, 30),
    st.integers(1, 5),
)
async def test_ranges_are_the_lines_of_an_object(data: bytes, range_bytes: int, chunk_bytes: int) -> None:
    """Wherever the cuts fall and however the store's chunks lie, they begin and end where lines do."""
    objects = MemoryObjects(chunk_bytes=chunk_bytes)
    ref = objects.add("s3://shop/a.csv", data)
    starts, at = {0, len(data)}, 0
    for line in data.replace(b"\r", b"x").splitlines(keepends=True):  # else it were an end of lines too
        starts.add(at)
        at += len(line)
    ends = [await next_line(objects, ref, part.end, size=len(data)) for part in cut(len(data), range_bytes)]
    assert set(ends) <= starts
    assert ends == sorted(ends)
    assert ends[-1:] in ([], [len(data)])
