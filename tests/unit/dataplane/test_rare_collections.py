"""Collecting garbage seldom."""

import gc

from millrace.dataplane.rare_collections import OBJECTS, rare_collections


def test_what_was_there_is_not_looked_at_in_the_block_only() -> None:
    """Objects from before are set aside, and thresholds raised, until the block is left."""
    before = gc.get_threshold()
    with rare_collections():
        assert gc.get_threshold()[0] >= OBJECTS
        assert gc.get_freeze_count() > 0
        with rare_collections():
            assert gc.get_threshold()[0] >= OBJECTS
        assert gc.get_threshold()[0] >= OBJECTS
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0


def test_garbage_is_collected_all_the_same() -> None:
    """Cycles that are made in the block do not stay for ever."""
    with rare_collections():
        for _ in range(3 * OBJECTS):
            cycle: list[object] = []
            cycle.append(cycle)
        assert sum(1 for one in gc.get_objects() if type(one) is list and one and one[0] is one) <= OBJECTS
