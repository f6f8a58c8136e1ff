"""Metrics out of log lines."""

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime

from millrace.jobs.training import MetricDefinition, MetricValue

__all__ = ["MetricReader"]

MAX_METRIC_LINE = 16 * 1024
"""Characters of a line in which metrics are looked for. The patterns are the users', run between heartbeats, and many
take time that grows with the square of a line's length; a line with metrics is short."""


class MetricReader:
    """Remembers the last value of each metric.

    Source:
        containers.md 2.11: every match of a line counts, the first group is the value, others are ignored.
    """

    def __init__(self, definitions: Sequence[MetricDefinition]) -> None:
        self._patterns = [(definition.name, re.compile(definition.regex)) for definition in definitions]
        self._last: dict[str, MetricValue] = {}

    def read(self, timestamp_ms: int, line: str) -> None:
        """Look for metrics in one line, up to MAX_METRIC_LINE characters of it."""
        line = line[:MAX_METRIC_LINE]
        for name, pattern in self._patterns:
            for match in pattern.finditer(line):
                if (value := _number(match)) is not None:
                    self._last[name] = MetricValue(
                        name=name, value=value, at=datetime.fromtimestamp(timestamp_ms / 1000, UTC)
                    )

    @property
    def values(self) -> tuple[MetricValue, ...]:
        """The metrics seen, in the order of their definitions."""
        return tuple(self._last[name] for name, _ in self._patterns if name in self._last)


def _number(match: re.Match[str]) -> float | None:
    try:
        value = float(match[1])
    except (IndexError, TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None
