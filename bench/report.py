"""Show the figures of a comparison as tables on the terminal."""

from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = ["show"]


def show(console: Console, comparison: dict[str, Any]) -> None:
    """Print medians, ratios and goals; a ratio above 1 means faster than the reference."""
    contenders: dict[str, dict[str, Any]] = comparison["contenders"]
    references = list(next(iter(contenders.values()))["ratios"])
    turns = next(iter(contenders.values()))["turns"]
    table = Table(title=f"{comparison['title']}\nmedians of {turns} turns", title_justify="left", title_style="bold")
    table.add_column("contender")
    for heading in ("seconds", f"{comparison['unit']}/s", "CPU s", f"CPU ms per {comparison['unit'].rstrip('s')}"):
        table.add_column(heading, justify="right")
    for reference in references:
        table.add_column(f"speed / {reference}", justify="right")
    for name, figures in contenders.items():
        cpu = figures["cpu_seconds"]
        table.add_row(
            name,
            f"{figures['seconds']:.4f}",
            f"{figures['rate']:,.1f}",
            "" if cpu is None else f"{cpu:.3f}",
            "" if cpu is None else f"{cpu / figures['work'] * 1000:.4f}",
            *(_spread(figures["ratios"][reference]) for reference in references),
        )
    console.print(table)
    for name, figures in contenders.items():
        if figures["facts"]:
            shown = ", ".join(f"{fact} {value:.4g}" for fact, value in figures["facts"].items())
            console.print(f"  {name}: {shown}", highlight=False)
    for name, reason in comparison["absent"].items():
        console.print(f"  {name} takes no part: {reason}", highlight=False)
    for goal in comparison["goals"]:
        console.print(f"  goal: {goal['text']}: {_verdict(goal)}", highlight=False)


def _spread(ratio: dict[str, float]) -> str:
    return f"{ratio['median']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f})"


def _verdict(goal: dict[str, Any]) -> str:
    if "why" in goal:
        return f"not judged, {goal['why']}"
    figures = f"{goal['median']:.4g} ({goal['low']:.4g} to {goal['high']:.4g})"
    return figures if goal["met"] is None else f"{'met' if goal['met'] else 'NOT MET'}, {figures}"
