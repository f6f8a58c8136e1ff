"""Metrics are read out of log lines."""

from millrace.agents.metrics import MAX_METRIC_LINE, MetricReader
from millrace.jobs.training import MetricDefinition

LOSS = MetricDefinition(name="loss", regex="loss=([0-9.e+-]+|nan)")


def values(*lines: str, definitions: tuple[MetricDefinition, ...] = (LOSS,)) -> list[tuple[str, float]]:
    reader = MetricReader(definitions)
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
