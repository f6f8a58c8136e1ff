"""The one entrance to the lifecycles: which module moves which kind of job."""

from collections.abc import Sequence

from millrace.jobs import endpoint_lifecycle, finite_lifecycle
from millrace.jobs.job import Command, EndpointJob, Event, Job

__all__ = ["advance"]


def advance(job: Job, event: Event, *, max_attempts: int) -> tuple[Job, Sequence[Command]]:
    """Return the job after an event, and what is to be done about it.

    An event of an instance's earlier attempt changes nothing.

    Args:
        max_attempts: How often an instance whose agent died is started before the job fails.

    Raises:
        IllegalTransition: The event cannot happen in this status.
    """
    if isinstance(job, EndpointJob):
        return endpoint_lifecycle.advance(job, event)
    return finite_lifecycle.advance(job, event, max_attempts=max_attempts)
