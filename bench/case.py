"""What a benchmark case is."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.turns import Outcome

__all__ = ["Case", "Options"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """How long and how large cases run."""

    rounds: int
    quick: bool
    """A tenth of the data or of the turns: to see that it runs, not to quote."""
    peers: bool
    """Whether peers that are heavy to install take part."""
    folder: Path
    """Where data, stores and servers' files go; empty, and removed afterwards."""
    large: bool = False
    """Whether what takes minutes because it is large is measured too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One question with its answer in ratios."""

    name: str
    question: str
    run: Callable[[Options], Iterator[Outcome]]
    versions: Callable[[], str]
    """The versions of what takes part."""
    has_peers: bool = False
    """Whether peers that are heavy to install can take part."""
