"""Metrics are read out of log lines."""

import re

import pytest

from millrace.agents.deadline import Deadline, DeadlineOver
from millrace.agents.metrics import CREDIT_SECONDS, MAX_METRIC_LINE, MetricReader
from millrace.jobs.training import MetricDefinition

LOSS = MetricDefinition(name="loss", regex="loss=([0-9.e+-]+|nan)")


def values(*lines: str, definitions: tuple[MetricDefinition, ...] = (LOSS,)) -> list[tuple[str, float]]:
    reader = MetricReader(definitions, report=print)
    for line in lines:
        reader.read(1_600_000_000_000, line)
    return [(metric.name, metric.value) for metric in reader.values]


def test_the_last_number_counts() -> None:
    """Over lines, and within one; what is no finite number is passed over."""
    assert values("loss=3 loss=2.5", "nothing", "loss=1e-3 loss=nan", "loss=...") == [("loss", 0.001)]


def test_metrics_keep_the_order_of_their_definitions() -> None:
    """Those never seen are left out."""
    definitions = tuple(MetricDefinition(name=name, regex=f"{name}=(.)") for name in ("a", "b", "c"))
    assert values("c=3 a=1", definitions=definitions) == [("a", 1.0), ("c", 3.0)]


def test_a_pattern_without_a_group_has_no_value() -> None:
    """It matches, and nothing comes of it."""
    assert values("loss=1", definitions=(MetricDefinition(name="loss", regex="loss"),)) == []


def test_only_the_beginning_of_a_long_line_is_searched() -> None:
    """A pattern that is slow on long lines must not hold up the heartbeats."""
    line = "loss=1 ".ljust(MAX_METRIC_LINE - 6) + "loss=2" + "loss=3"
    assert values(line) == [("loss", 2.0)]


RUNAWAY = MetricDefinition(name="runaway", regex="x(a+)+$")
RUNAWAY_LINE = "x" + "a" * 60 + "! loss=4"


def test_a_runaway_pattern_is_ended_and_the_others_go_on() -> None:
    """Backtracking would take longer than the universe has been there."""
    assert values("loss=3", RUNAWAY_LINE, definitions=(RUNAWAY, LOSS)) == [("loss", 4.0)]
    with pytest.raises(DeadlineOver), Deadline(0.01):
        re.search(RUNAWAY.regex, RUNAWAY_LINE)


def test_a_pattern_that_keeps_running_away_is_given_up() -> None:
    """Once, told to the job's owner; what it found before stays.

    The clock stands still, for time that passes earns credit, and a busy machine may let much of it pass.
    """
    told: list[str] = []
    reader = MetricReader((RUNAWAY, LOSS), report=told.append, clock=lambda: 0.0)
    for number in range(100):
        reader.read(number, RUNAWAY_LINE)
    assert told == ["metric 'runaway' is given up: its expression 'x(a+)+$' takes too long"]
    assert [(metric.name, metric.at.microsecond) for metric in reader.values] == [("loss", 99_000)]


def test_only_slow_patterns_are_given_up() -> None:
    """A quick one stays when the credit is used."""
    told: list[str] = []
    used = iter([0.0, CREDIT_SECONDS + 1, CREDIT_SECONDS + 1, CREDIT_SECONDS + 1.0005])
    slow, quick = (MetricDefinition(name=name, regex=f"{name}=(.)") for name in ("slow", "quick"))
    reader = MetricReader((slow, quick), report=told.append, clock=lambda: 0.0, used=lambda: next(used))
    reader.read(0, "slow=1 quick=1")
    assert [line.split()[1] for line in told] == ["'slow'"]
    assert [metric.name for metric in reader.values] == ["slow", "quick"]
