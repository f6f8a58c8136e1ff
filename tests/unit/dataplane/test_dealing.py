"""Tests of dealing the input out, from file to files."""

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millrace.dataplane.dealing import deal_out
from millrace.dataplane.input_file import InputFile
from millrace.dataplane.plan import SORTED_INPUTS, InputObject, owners, share_out
from millrace.jobs.transform_options import Scheduling
from millrace.names import ObjectRef


def sized(sizes: list[int]) -> list[InputObject]:
    """Return inputs of these sizes, in key order."""
    return [
        InputObject(ref=ObjectRef("b", f"{n:06}"), size=size, output=ObjectRef("b", f"{n:06}.out"), version=f"v{n}")
        for n, size in enumerate(sizes)
    ]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.lists(st.integers(0, 2**40), max_size=700), st.integers(1, 7), st.sampled_from(Scheduling))
async def test_files_are_dealt_out_like_lists(
    tmp_path: Path, sizes: list[int], count: int, scheduling: Scheduling
) -> None:
    """Everybody gets the same share, in key order, and nothing else is left."""
    whole = InputFile(tmp_path)
    whole.add(sized(sizes))
    shares = await deal_out(whole, count, scheduling)
    assert [list(share) for share in shares] == share_out(sized(sizes), count, scheduling)
    for share in shares:
        share.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("most", [0, 3, 10**9])
def test_the_largest_goes_first_however_many_there_are(most: int) -> None:
    """Inputs that are sorted piece by piece are as if they were sorted at once; of one size, by their keys."""
    numbers = random.Random(most)
    sizes = [numbers.randint(0, most) for _ in range(2 * SORTED_INPUTS + 17)]
    loads, expected = [0] * 3, [0] * len(sizes)
    for number in sorted(range(len(sizes)), key=lambda number: (-sizes[number], number)):
        expected[number] = loads.index(min(loads))
        loads[expected[number]] += sizes[number] + 64 * 1024
    assert list(owners(sizes, 3)) == expected


async def test_an_input_that_cannot_be_dealt_out_leaves_no_file(tmp_path: Path) -> None:
    """What is closed meanwhile, for one: the files are gone, which a warning would else tell of."""
    whole = InputFile(tmp_path)
    whole.add(sized([1] * 1000))
    whole.close()
    with pytest.raises(ValueError, match="the file is closed"):
        await deal_out(whole, 3, Scheduling.BALANCED)
    assert list(tmp_path.iterdir()) == []
