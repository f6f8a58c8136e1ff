"""Tests of how benchmarks take turns."""

from collections.abc import Callable, Iterator

import pytest
from bench.turns import Comparison, OutputDiffers, Sample, run


def contender(name: str, seconds: list[float], calls: list[str]) -> Callable[[], Sample]:
    """Return a contender that takes the given times, the warm-up first."""
    times: Iterator[float] = iter(seconds)

    def turn() -> Sample:
        calls.append(name)
        return Sample(seconds=next(times), work=10, cpu_seconds=1.0, facts={"p50": 2.0})

    return turn


def test_contenders_take_turns_and_ratios_belong_to_a_turn() -> None:
    """Each has a warm-up that does not count; a ratio is taken within a turn before the median is."""
    calls: list[str] = []
    comparison = Comparison(
        title="t",
        unit="jobs",
        contenders={"a": contender("a", [99, 2, 4, 6], calls), "b": contender("b", [99, 1, 4, 12], calls)},
        references=("a",),
    )
    outcome = run(comparison, rounds=3)
    assert "".join(calls) == "abababab"
    assert outcome.ratios("b", "a") == [2, 1, 0.5]
    assert outcome.median("a", lambda sample: sample.seconds) == 4
    assert outcome.facts("a") == {"p50": 2.0}


def test_a_contender_may_start_cold() -> None:
    """Without a warm-up the first turn counts."""
    calls: list[str] = []
    comparison = Comparison(
        title="t", unit="jobs", contenders={"a": contender("a", [3], calls)}, references=(), warm_up=False
    )
    assert run(comparison, rounds=1).median("a", lambda sample: sample.seconds) == 3


def test_nothing_is_timed_once_outputs_differ() -> None:
    """The check comes after the warm-up and before the first turn that counts."""
    calls: list[str] = []

    def check() -> None:
        raise OutputDiffers("a")

    comparison = Comparison(
        title="t", unit="jobs", contenders={"a": contender("a", [1, 1], calls)}, references=("a",), check=check
    )
    with pytest.raises(OutputDiffers):
        run(comparison, rounds=1)
    assert calls == ["a"]
