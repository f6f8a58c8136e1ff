"""Tests of objects that are kept in a file."""

from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millrace.dataplane.input_file import BLOCK_OBJECTS, InputFile
from millrace.dataplane.inputs import KeptInputs
from millrace.dataplane.plan import InputObject, count_objects
from millrace.dataplane.ranges import cut
from millrace.names import ObjectRef


def numbered(count: int, ranges: int) -> list[InputObject]:
    """Return objects whose keys are numbers; every third one is cut into `ranges`, if these are not none."""
    inputs: list[InputObject] = []
    for number in range(count):
        ref, output = ObjectRef("b", f"{number}"), ObjectRef("c", f"{number}.out")
        parts = cut(10 * ranges, 10) if number % 3 == 0 else ()
        inputs += [InputObject(ref=ref, size=it.end - it.start, output=output, range=it) for it in parts] or [
            InputObject(ref=ref, size=number, output=output, version="v")
        ]
    return inputs


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.lists(st.integers(0, 2 * BLOCK_OBJECTS), max_size=5), st.sampled_from([0, 2, 5]))
async def test_what_is_kept_is_what_was_added(tmp_path: Path, counts: list[int], ranges: int) -> None:
    """In that order, however it was added and however often it is gone over; the totals are right."""
    inputs = numbered(sum(counts), ranges)
    with InputFile(tmp_path) as file:
        start = 0
        for count in (*counts, len(inputs)):
            file.add(inputs[start : start + count])
            start += count
        assert [list(file), list(file)] == [inputs, inputs]
        assert (file.objects, file.size) == (count_objects(inputs), sum(entry.size for entry in inputs))
        assert file.first == (inputs[0] if inputs else None)
        assert file.ranges == Counter(entry.output for entry in inputs if entry.range is not None)
    assert list(tmp_path.iterdir()) == []


async def test_kept_objects_are_taken_in_blocks(tmp_path: Path) -> None:
    """And once; while they are, somebody may go over all of them."""
    file = InputFile(tmp_path)
    inputs = numbered(2 * BLOCK_OBJECTS + 3, 2)
    file.add(inputs)
    async with KeptInputs(file) as kept:
        assert await kept.has_any()
        assert (kept.first, kept.objects, kept.is_complete) == (inputs[0], count_objects(inputs), True)
        taken = [*await kept.take()]
        assert len(taken) == BLOCK_OBJECTS
        assert list(kept.known) == inputs
        while entries := await kept.take():
            taken += entries
        assert taken == inputs
    async with KeptInputs(InputFile(tmp_path)) as nothing:
        assert not await nothing.has_any()
        assert not await nothing.take()
