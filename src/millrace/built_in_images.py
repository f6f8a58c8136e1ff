"""What the platform asks the registry of built-in algorithms."""

from collections.abc import Sequence

from millrace.jobs.training import MetricDefinition
from millrace_algorithms import registry

__all__ = ["built_in_metrics", "find_built_in"]


def find_built_in(uri: str) -> str | None:
    """Return the name of the built-in algorithm behind an image URI, or None."""
    algorithm = registry.find(uri)
    return None if algorithm is None else algorithm.name


def built_in_metrics(name: str) -> Sequence[MetricDefinition]:
    """Return what a built-in algorithm's log lines tell."""
    definitions = registry.ALGORITHMS[name].metric_definitions
    return tuple(MetricDefinition(name=metric, regex=regex) for metric, regex in definitions)
