"""What a case is to reach, as a bound on a figure taken turn by turn."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.turns import Outcome

__all__ = ["Goal", "fact", "fact_difference", "fact_ratio", "seconds", "speed", "told_speed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Goal:
    """A bound, and how the figure that it bounds is taken. A goal not reached is told; it fails nothing."""

    text: str
    needs: tuple[str, ...]
    """Contenders without which it can't be judged."""
    values: Callable[["Outcome"], list[float]]
    at_least: float | None = None
    at_most: float | None = None

    def is_met(self, value: float) -> bool | None:
        """Return whether a value, the median over turns, is within the bounds; None if it is only to be told."""
        if self.at_least is None and self.at_most is None:
            return None
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)


def speed(contender: str, reference: str, at_least: float) -> Goal:
    """Ask for a rate of at least so many times the reference's."""
    return Goal(
        text=f"{contender}: at least {at_least:.3g} times the rate of {reference}",
        needs=(contender, reference),
        values=lambda outcome: outcome.ratios(contender, reference),
        at_least=at_least,
    )


def told_speed(contender: str, reference: str) -> Goal:
    """Have a ratio of rates told, without a bound."""
    return Goal(
        text=f"{contender}: times the rate of {reference}",
        needs=(contender, reference),
        values=lambda outcome: outcome.ratios(contender, reference),
    )


def seconds(contender: str, at_most: float) -> Goal:
    """Ask for a turn to take at most so long."""
    return Goal(
        text=f"{contender}: at most {at_most:g} s",
        needs=(contender,),
        values=lambda outcome: [sample.seconds for sample in outcome.samples(contender)],
        at_most=at_most,
    )


def fact(contender: str, name: str, at_most: float) -> Goal:
    """Ask for a further figure to be at most so large."""
    return Goal(
        text=f"{contender}: {name} at most {at_most:g}",
        needs=(contender,),
        values=lambda outcome: [sample.facts[name] for sample in outcome.samples(contender)],
        at_most=at_most,
    )


def fact_ratio(contender: str, reference: str, name: str, *, at_least: float, at_most: float) -> Goal:
    """Ask for a further figure to be about the reference's."""
    return Goal(
        text=f"{contender}: {name} between {at_least:g} and {at_most:g} of that of {reference}",
        needs=(contender, reference),
        values=lambda outcome: [
            one.facts[name] / other.facts[name]
            for one, other in zip(outcome.samples(contender), outcome.samples(reference), strict=True)
        ],
        at_least=at_least,
        at_most=at_most,
    )


def fact_difference(contender: str, reference: str, name: str, at_most: float) -> Goal:
    """Ask for a further figure to exceed the reference's by at most so much."""
    return Goal(
        text=f"{contender}: {name} at most {at_most:g} more than {reference}",
        needs=(contender, reference),
        values=lambda outcome: [
            one.facts[name] - other.facts[name]
            for one, other in zip(outcome.samples(contender), outcome.samples(reference), strict=True)
        ],
        at_most=at_most,
    )
