"""Let contenders take turns, and tell their medians and ratios.

A wall time says little on a shared machine, a ratio within one run much more: in every round each contender has one
turn, so that a loud minute hurts all alike, and ratios are taken within the round before their median is.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bench.goals import Goal

__all__ = ["Comparison", "Outcome", "OutputDiffers", "Sample", "Turn", "run"]


class OutputDiffers(Exception):
    """A contender's output is not what it must be: its times mean nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """What one turn took."""

    seconds: float
    work: float = 1.0
    """How much was done, in the comparison's unit."""
    cpu_seconds: float | None = None
    """Processor time, of all processes that did the work; None where it cannot be told."""
    facts: Mapping[str, float] = field(default_factory=dict)
    """Further figures by name; medians of them are shown."""

    @property
    def rate(self) -> float:
        """Work a second."""
        return self.work / self.seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Contenders at the same work. Each is called once to warm up and then once in each round."""

    title: str
    unit: str
    contenders: Mapping[str, Callable[[], Sample]]
    references: Sequence[str]
    """Contenders against whose rate the others are told."""
    check: Callable[[], None] = lambda: None
    """Called after the warm-up, before any time is taken; raises OutputDiffers."""
    turns_per_round: int = 1
    warm_up: bool = True
    """Whether each contender has a turn that does not count before the first that does."""
    goals: Sequence[Goal] = ()
    absent: Mapping[str, str] = field(default_factory=dict)
    """Contenders that can't take part here, and why."""
    sides: str = ""
    """What each side does and does not do, where that is not the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """One sample and where it belongs."""

    number: int
    contender: str
    sample: Sample


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """All turns of one comparison."""

    comparison: Comparison
    turns: Sequence[Turn]

    def samples(self, contender: str) -> list[Sample]:
        """Return a contender's samples in order."""
        return [turn.sample for turn in self.turns if turn.contender == contender]

    def median(self, contender: str, figure: Callable[[Sample], float]) -> float:
        """Return the median of a figure over a contender's turns."""
        return statistics.median(figure(sample) for sample in self.samples(contender))

    def cpu_seconds(self, contender: str) -> float | None:
        """Return the median processor time of a contender, if it is known."""
        known = [one.cpu_seconds for one in self.samples(contender) if one.cpu_seconds is not None]
        return statistics.median(known) if known else None

    def ratios(self, contender: str, reference: str) -> list[float]:
        """Return the contender's rate in units of the reference's, turn by turn."""
        pairs = zip(self.samples(contender), self.samples(reference), strict=True)
        return [one.rate / other.rate for one, other in pairs]

    def facts(self, contender: str) -> dict[str, float]:
        """Return the medians of a contender's further figures."""
        samples = self.samples(contender)
        return {name: statistics.median(sample.facts[name] for sample in samples) for name in samples[0].facts}


def run(comparison: Comparison, rounds: int) -> Outcome:
    """Warm every contender up, have the outputs checked, then let them take turns."""
    if comparison.warm_up:
        for contend in comparison.contenders.values():
            contend()
        comparison.check()
    turns = []
    for number in range(rounds * comparison.turns_per_round):
        for name, contend in comparison.contenders.items():
            turns.append(Turn(number=number, contender=name, sample=contend()))
    return Outcome(comparison=comparison, turns=turns)
