"""Keep the figures of every case in one JSON document, the last run of each case."""

import json
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import machine
from bench.case import Case, Options
from bench.goals import Goal
from bench.turns import Outcome

__all__ = ["PATH", "as_document", "keep", "kept"]

PATH = Path(__file__).with_name("out") / "results.json"


def as_document(outcome: Outcome) -> dict[str, Any]:
    """Return a comparison's medians, ranges, ratios and goals, and every turn."""
    comparison = outcome.comparison
    return {
        "title": comparison.title,
        "unit": comparison.unit,
        "sides": comparison.sides,
        "absent": dict(comparison.absent),
        "contenders": {name: _contender(outcome, name) for name in comparison.contenders},
        "goals": [_judged(goal, outcome) for goal in comparison.goals],
        "turns": [
            {
                "turn": turn.number,
                "contender": turn.contender,
                "seconds": round(turn.sample.seconds, 6),
                "work": turn.sample.work,
                "cpu_seconds": turn.sample.cpu_seconds,
                **turn.sample.facts,
            }
            for turn in outcome.turns
        ],
    }


def _contender(outcome: Outcome, name: str) -> dict[str, Any]:
    return {
        "turns": len(outcome.samples(name)),
        "seconds": outcome.median(name, lambda sample: sample.seconds),
        "work": outcome.median(name, lambda sample: sample.work),
        "rate": outcome.median(name, lambda sample: sample.rate),
        "cpu_seconds": outcome.cpu_seconds(name),
        "facts": outcome.facts(name),
        "ratios": {
            reference: _spread(outcome.ratios(name, reference))
            for reference in outcome.comparison.references
            if reference in outcome.comparison.contenders
        },
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def _judged(goal: Goal, outcome: Outcome) -> dict[str, Any]:
    missing = [name for name in goal.needs if name not in outcome.comparison.contenders]
    if missing:
        return {"text": goal.text, "met": None, "why": f"{missing[0]} did not take part"}
    figures = _spread(goal.values(outcome))
    return {"text": goal.text, "met": goal.is_met(figures["median"]), **figures}


def keep(case: Case, options: Options, outcomes: Sequence[dict[str, Any]], path: Path = PATH) -> None:
    """Put the figures of one case in the place of those of its last run."""
    document = kept(path)
    document[case.name] = {
        "question": case.question,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": machine.describe(),
        "versions": case.versions(),
        "rounds": options.rounds,
        "quick": options.quick,
        "comparisons": list(outcomes),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    fresh.replace(path)


def kept(path: Path = PATH) -> dict[str, Any]:
    """Return the figures of all cases that were run, by name."""
    if not path.exists():
        return {}
    document: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return document
