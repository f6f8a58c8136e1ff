"""Metrics out of log lines."""

import math
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from millrace.agents.deadline import Deadline, DeadlineOver
from millrace.jobs.training import MetricDefinition, MetricValue

__all__ = ["MetricReader"]

MAX_METRIC_LINE = 16 * 1024
"""Characters of a line in which metrics are looked for. The patterns are the users', run between heartbeats, and many
take time that grows with the square of a line's length; a line with metrics is short."""

SEARCH_SECONDS = 0.1
"""How long a pattern may take for one line; what takes longer has run away, and that line is passed over."""

CREDIT_SECONDS = 2.0
EARNED_SHARE = 0.25
"""Searching may take a quarter of all time, and two seconds at once."""

SLOW_SECONDS = 0.001
"""What takes longer is given up once the credit is used; an honest pattern takes microseconds."""


class MetricReader:
    """Remembers the last value of each metric.

    Patterns that take too long are given up, and told of: neither may they hold up the agent's heartbeats, nor is a
    training to fail for them.

    Source:
        containers.md 2.11: every match of a line counts, the first group is the value, others are ignored.
    """

    def __init__(
        self,
        definitions: Sequence[MetricDefinition],
        *,
        report: Callable[[str], None],
        clock: Callable[[], float] = time.perf_counter,
        used: Callable[[], float] = time.thread_time,
    ) -> None:
        """Take the definitions, whom to tell of those given up, a clock, and what tells this thread's processor time.

        What others do on the machine while a search waits for its turn is not put down to its pattern.
        """
        self._definitions = definitions
        self._patterns = [(definition.name, re.compile(definition.regex)) for definition in definitions]
        self._last: dict[str, MetricValue] = {}
        self._report = report
        self._clock = clock
        self._used = used
        self._deadline = Deadline(SEARCH_SECONDS)
        self._credit = CREDIT_SECONDS
        self._credited_at = clock()

    def read(self, timestamp_ms: int, line: str) -> None:
        """Look for metrics in one line, up to MAX_METRIC_LINE characters of it."""
        line = line[:MAX_METRIC_LINE]
        for name, pattern in tuple(self._patterns):
            began = self._used()
            with suppress(DeadlineOver), self._deadline:
                self._search(name, pattern, timestamp_ms, line)
            self._charge(name, pattern, began)

    def _search(self, name: str, pattern: re.Pattern[str], timestamp_ms: int, line: str) -> None:
        for match in pattern.finditer(line):
            if (value := _number(match)) is not None:
                self._last[name] = MetricValue(
                    name=name, value=value, at=datetime.fromtimestamp(timestamp_ms / 1000, UTC)
                )

    def _charge(self, name: str, pattern: re.Pattern[str], began: float) -> None:
        """Take the time of a search from the credit; give the pattern up if it is slow and there is none left."""
        took, now = self._used() - began, self._clock()
        earned = EARNED_SHARE * (now - self._credited_at)
        self._credited_at = now
        self._credit = min(CREDIT_SECONDS, self._credit + earned) - took
        if self._credit < 0 and took > SLOW_SECONDS:
            self._patterns.remove((name, pattern))
            self._report(f"metric {name!r} is given up: its expression {pattern.pattern!r} takes too long")

    @property
    def values(self) -> tuple[MetricValue, ...]:
        """The metrics seen, in the order of their definitions."""
        return tuple(self._last[it.name] for it in self._definitions if it.name in self._last)


def _number(match: re.Match[str]) -> float | None:
    try:
        value = float(match[1])
    except (IndexError, TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None
