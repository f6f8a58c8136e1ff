"""Show an outcome as a table, and keep its figures as JSON lines."""

import statistics
from collections.abc import Iterable
from pathlib import Path

import orjson
from rich.console import Console
from rich.table import Table

from bench.turns import Outcome

__all__ = ["show", "store"]


def show(console: Console, outcome: Outcome) -> None:
    """Print medians and ratios; a ratio above 1 means faster than the reference."""
    comparison = outcome.comparison
    turns = len(outcome.turns) // len(comparison.contenders)
    table = Table(title=f"{comparison.title}\nmedians of {turns} turns", title_justify="left", title_style="bold")
    table.add_column("contender")
    for heading in ("seconds", f"{comparison.unit}/s", "CPU s", "CPU ms per " + comparison.unit.rstrip("s")):
        table.add_column(heading, justify="right")
    for reference in comparison.references:
        table.add_column(f"speed / {reference}", justify="right")
    for contender in comparison.contenders:
        seconds = outcome.median(contender, lambda sample: sample.seconds)
        work = outcome.median(contender, lambda sample: sample.work)
        cpu = outcome.cpu_seconds(contender)
        table.add_row(
            contender,
            f"{seconds:.4f}",
            f"{outcome.median(contender, lambda sample: sample.rate):,.1f}",
            "" if cpu is None else f"{cpu:.3f}",
            "" if cpu is None else f"{cpu / work * 1000:.4f}",
            *(_ratio(outcome.ratios(contender, reference)) for reference in comparison.references),
        )
    console.print(table)
    for contender in comparison.contenders:
        facts = outcome.facts(contender)
        if facts:
            shown = ", ".join(f"{name} {value:.4g}" for name, value in facts.items())
            console.print(f"  {contender}: {shown}", highlight=False)


def _ratio(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


def store(path: Path, outcomes: Iterable[Outcome]) -> None:
    """Write the figures of a case, one JSON document a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [orjson.dumps(line) + b"\n" for outcome in outcomes for line in outcome.lines()]
    path.write_bytes(b"".join(lines))
