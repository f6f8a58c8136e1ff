"""Tests of what is kept of a comparison, and of the page it is written into."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bench import goals, page, results
from bench.case import Case, Options
from bench.turns import Comparison, Outcome, Sample, run


def constant(seconds: float, **facts: float) -> Callable[[], Sample]:
    """Return a contender that always takes as long."""
    return lambda: Sample(seconds=seconds, cpu_seconds=seconds / 2, facts=facts)


def outcome(*wanted: goals.Goal) -> Outcome:
    """Return two turns of a quick and a slow contender; a third is not there."""
    comparison = Comparison(
        title="Racing",
        unit="laps",
        contenders={"quick": constant(1, peak=110), "slow": constant(4, peak=100)},
        references=("slow",),
        goals=wanted,
        absent={"gone": "not installed"},
    )
    return run(comparison, rounds=2)


def judged(goal: goals.Goal) -> dict[str, Any]:
    """Return what is kept of one goal."""
    kept: dict[str, Any] = results.as_document(outcome(goal))["goals"][0]
    return kept


@pytest.mark.parametrize(
    ("goal", "median", "met"),
    [
        (goals.speed("quick", "slow", 3), 4, True),
        (goals.speed("quick", "slow", 5), 4, False),
        (goals.told_speed("quick", "slow"), 4, None),
        (goals.seconds("slow", 4), 4, True),
        (goals.fact("quick", "peak", 100), 110, False),
        (goals.fact_ratio("quick", "slow", "peak", at_least=0.9, at_most=1.1), 1.1, True),
        (goals.fact_difference("quick", "slow", "peak", 5), 10, False),
    ],
)
def test_a_goal_is_judged_by_the_median_over_turns(goal: goals.Goal, median: float, met: bool | None) -> None:
    """A bound holds or not; a figure without a bound is told."""
    kept = judged(goal)
    assert kept["median"] == pytest.approx(median)
    assert kept["met"] is met


def test_a_goal_against_who_is_absent_is_not_judged() -> None:
    """The reason is told in place of a figure."""
    kept = judged(goals.speed("quick", "gone", 2))
    assert (kept["met"], kept["why"]) == (None, "gone did not take part")


def test_figures_are_kept_by_case_and_written_between_the_marks(tmp_path: Path) -> None:
    """A case's figures take the place of its last ones; the page keeps what stands around them."""
    kept, document = tmp_path / "out" / "results.json", tmp_path / "page.md"
    case = Case(name="race", question="who is quick?", run=lambda options: iter(()), versions=lambda: "one 1.0")
    options = Options(rounds=2, quick=False, peers=False, folder=tmp_path)
    for _ in range(2):
        results.keep(case, options, [results.as_document(outcome(goals.speed("quick", "slow", 5)))], kept)
    assert list(results.kept(kept)) == ["race"]
    begin, end = "<!-- figures: written by `python -m bench report` -->", "<!-- end of figures -->"
    document.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    page.update(results.kept(kept), document)
    text = document.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert "| `race` | quick: at least 5 times the rate of slow | 4 (4 to 4) | **not met** |" in text
    assert "gone took no part: not installed." in text


def test_a_page_without_marks_is_refused(tmp_path: Path) -> None:
    """What is asked for is named."""
    (tmp_path / "page.md").write_text("nothing")
    with pytest.raises(SystemExit, match="must hold the lines"):
        page.update({"race": {}}, tmp_path / "page.md")
    with pytest.raises(SystemExit, match="there are no figures yet"):
        page.update({}, tmp_path / "page.md")
