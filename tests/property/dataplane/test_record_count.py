"""Laws of counting records that go by."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.framed import recordio, tfrecord

from millrace.dataplane.batch import CorruptRecords, payload_former
from millrace.dataplane.record_count import record_count
from millrace.jobs.transform import BatchStrategy, SplitType

WRITERS: dict[SplitType, Callable[[bytes], bytes]] = {
    SplitType.NONE: lambda record: record,
    SplitType.LINE: lambda record: record + b"\n",
    SplitType.RECORDIO: recordio,
    SplitType.TFRECORD: tfrecord,
}


@given(
    st.data(),
    st.sampled_from(list(WRITERS)),
    st.lists(st.binary(max_size=20), max_size=10),
    st.one_of(st.just(b""), st.binary(max_size=9)),
)
def test_what_goes_by_is_counted_as_it_is_split(
    data: st.DataObject, split: SplitType, records: list[bytes], rest: bytes
) -> None:
    """Records are counted as they are split, and what is wrong is told alike, wherever chunks end."""
    given_bytes = b"".join(map(WRITERS[split], records)) + rest
    former = payload_former(split, BatchStrategy.SINGLE_RECORD, 0)
    former.feed(given_bytes)
    former.finish()
    expected = 0
    error: CorruptRecords | None = None
    try:
        while former.take() is not None:
            expected += 1
    except CorruptRecords as exc:
        error = exc
    count = record_count(split)
    places = sorted(data.draw(st.lists(st.integers(0, len(given_bytes)), max_size=5)))

    def count_all() -> None:
        for start, end in zip([0, *places], [*places, len(given_bytes)], strict=True):
            count.add(given_bytes[start:end])
        count.finish()

    if error is None:
        count_all()
    else:
        with pytest.raises(CorruptRecords) as caught:
            count_all()
        assert (str(caught.value), caught.value.record) == (str(error), error.record)
    assert count.records == expected
