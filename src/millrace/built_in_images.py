"""What the platform asks the registry of built-in algorithms."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec

from millrace.errors import ImageUnavailable
from millrace.jobs.training import MetricDefinition
from millrace_algorithms import registry

__all__ = ["MODULES", "built_in_metrics", "find_built_in"]

MODULES = ("numpy", "scipy", "faiss", "simdjson", "jsonschema")
"""What built-in algorithms import: the extra `algorithms`."""


def find_built_in(uri: str, *, find_module: Callable[[str], object | None] = find_spec) -> str | None:
    """Return the name of the built-in algorithm behind an image URI, or None.

    Raises:
        ImageUnavailable: It is one, but what it is made with is not installed: better told now than by its log.
    """
    algorithm = registry.find(uri)
    if algorithm is None:
        return None
    absent = [name for name in MODULES if find_module(name) is None]
    if absent:
        raise ImageUnavailable(
            f"image {uri}: built-in algorithms need {', '.join(absent)}, which are not installed: "
            "pip install 'millrace[algorithms]'"
        )
    return algorithm.name


def built_in_metrics(name: str) -> Sequence[MetricDefinition]:
    """Return what a built-in algorithm's log lines tell."""
    definitions = registry.ALGORITHMS[name].metric_definitions
    return tuple(MetricDefinition(name=metric, regex=regex) for metric, regex in definitions)
