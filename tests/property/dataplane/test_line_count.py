"""Laws of counting lines."""

from hypothesis import given
from hypothesis import strategies as st

from millrace.dataplane.line_count import LONG_LINE_BYTES, LineCounter

CHUNKS = st.lists(
    st.tuples(
        st.lists(
            st.one_of(st.binary(max_size=5), st.integers(0, 3 * LONG_LINE_BYTES).map(lambda size: b"x" * size))
        ).map(b"\n".join),
        st.integers(0, 50),
        st.integers(0, 50),
    ),
    max_size=6,
)


@given(CHUNKS)
def test_the_count_is_that_of_line_feeds(chunks: list[tuple[bytes, int, int]]) -> None:
    """However long lines are and were before, the count is the number of line feeds in the range."""
    counter = LineCounter()
    for chunk, before, behind in chunks:
        start = min(before, len(chunk))
        end = max(start, len(chunk) - behind)
        assert counter.count(chunk, start, end) == chunk.count(b"\n", start, end)
