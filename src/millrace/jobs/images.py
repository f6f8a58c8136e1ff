"""The images that a job runs."""

from millrace.jobs.endpoint import EndpointSpec
from millrace.jobs.job import EndpointJob, Job, ProcessingJob, TrainingJob, TransformJob

__all__ = ["images_of"]


def images_of(job: Job) -> frozenset[str]:
    """Return the URIs of a job's images; those of endpoints and transform jobs by digest, where they have one."""
    match job:
        case TransformJob():
            return frozenset(it.resolved_image or it.image for it in job.containers)
        case TrainingJob() | ProcessingJob():
            return frozenset({job.spec.image})
        case EndpointJob():
            specs = (job.spec, job.target, job.scaled_from)
            return frozenset().union(*(_images_of_spec(it) for it in specs if it is not None))
        case _:
            return frozenset()


def _images_of_spec(spec: EndpointSpec) -> frozenset[str]:
    return frozenset(it.resolved_image or it.image for variant in spec.variants for it in variant.containers)
