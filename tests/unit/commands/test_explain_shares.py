"""What `millrace transform --explain` tells of ranges."""

import pytest

from millrace.commands.explain_shares import numbers_told


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ([1], "1"),
        ([1, 2, 3], "1 to 3"),
        ([1, 3, 4, 9], "1, 3 to 4, 9"),
        ([1, 3, 5, 7, 9, 11], "1, 3, 5, 7, 9, 11"),
        (list(range(1, 1000, 2)), "1, 3, 5, 7, 9, ..., 999"),
    ],
)
def test_numbers_of_ranges_are_told_shortly(numbers: list[int], told: str) -> None:
    """Those that follow each other together; of many, the first ones and the last."""
    assert numbers_told(numbers) == told
