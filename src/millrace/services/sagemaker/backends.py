"""What SageMaker's handlers are given: ports and a few facts, handed in by the composition root."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from millrace.clock import Clock
from millrace.jobs.training import MetricDefinition
from millrace.ports.documents import DocumentStore
from millrace.ports.jobs import JobStore
from millrace.ports.objects import ObjectStore
from millrace.ports.runtime import ImageCatalog

__all__ = ["Backends"]


@dataclass(frozen=True, kw_only=True)
class Backends:
    """The seams that the handlers use.

    `pump` makes the scheduler apply what was just posted, so that the next Describe sees it. `wait_for_end` returns
    once a job is terminal or the seconds are over. `is_strict` has what SageMaker refuses for its own reasons refused.
    """

    jobs: JobStore
    documents: DocumentStore
    objects: ObjectStore
    images: ImageCatalog
    clock: Clock
    built_in_metrics: Callable[[str], Sequence[MetricDefinition]]
    pump: Callable[[], Awaitable[None]]
    wait_for_end: Callable[[int, float], Awaitable[None]]
    is_strict: bool = False
