"""Write the figures that were kept into docs/benchmarks.md, between two marks: python -m bench report."""

from pathlib import Path
from typing import Any

__all__ = ["DOCUMENT", "tables", "update"]

DOCUMENT = Path(__file__).parent.parent / "docs" / "benchmarks.md"
_BEGIN, _END = "<!-- figures: written by `python -m bench report` -->", "<!-- end of figures -->"


def update(results: dict[str, Any], document: Path = DOCUMENT) -> None:
    """Replace what stands between the marks.

    Raises:
        SystemExit: There are no figures, or the document has no marks.
    """
    if not results:
        raise SystemExit("there are no figures yet: run the cases first")
    text = document.read_text("utf-8")
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise SystemExit(f"{document} must hold the lines {_BEGIN!r} and {_END!r}")
    document.write_text(f"{before}{begin}\n\n{tables(results)}\n{end}{after}", "utf-8")


def tables(results: dict[str, Any]) -> str:
    """Return a table of all goals, then one table of figures for each comparison."""
    lines = ["### Goals", "", "| case | goal | measured (range) | |", "|---|---|---|---|"]
    lines += [
        f"| `{name}` | {goal['text']} | {_measured(goal)} | {_mark(goal)} |"
        for name, case in results.items()
        for comparison in case["comparisons"]
        for goal in comparison["goals"]
    ]
    for name, case in results.items():
        quick = ", QUICK: not to be quoted" if case["quick"] else ""
        about = f"{case['date']}, {case['machine']}; {case['rounds']} rounds{quick}. {case['versions']}."
        lines += ["", f"### `{name}`", "", f"{_capital(case['question'])} {about}"]
        for comparison in case["comparisons"]:
            lines += ["", f"**{comparison['title']}**", "", *_figures(comparison)]
            lines += [f"\n{comparison['sides']}"] if comparison["sides"] else []
            lines += [f"\n{contender} took no part: {why}." for contender, why in comparison["absent"].items()]
    return "\n".join(lines) + "\n"


def _figures(comparison: dict[str, Any]) -> list[str]:
    contenders: dict[str, dict[str, Any]] = comparison["contenders"]
    references = list(next(iter(contenders.values()))["ratios"])
    unit = comparison["unit"]
    headings = ["contender", "seconds", f"{unit}/s", f"CPU ms per {unit.rstrip('s')}"]
    headings += [f"speed / {reference}" for reference in references] + ["further"]
    lines = [_row(headings), "|" + "---|" * len(headings)]
    for name, figures in contenders.items():
        cpu = figures["cpu_seconds"]
        cells = [name, f"{figures['seconds']:.3g}", f"{figures['rate']:,.4g}"]
        cells.append("" if cpu is None else f"{cpu / figures['work'] * 1000:.3g}")
        for reference in references:
            ratio = figures["ratios"][reference]
            cells.append(
                "1" if name == reference else f"{ratio['median']:.3g} ({ratio['low']:.3g} to {ratio['high']:.3g})"
            )
        cells.append(", ".join(f"{fact} {value:.3g}" for fact, value in figures["facts"].items()))
        lines.append(_row(cells))
    return lines


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _measured(goal: dict[str, Any]) -> str:
    if "why" in goal:
        return str(goal["why"])
    return f"{goal['median']:.3g} ({goal['low']:.3g} to {goal['high']:.3g})"


def _mark(goal: dict[str, Any]) -> str:
    if "why" in goal:
        return "not judged"
    return {True: "met", False: "**not met**", None: "told"}[goal["met"]]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
