"""SageMaker's control plane: one module per resource."""

from collections.abc import Mapping

from millrace.protocol.message import Handler
from millrace.services.sagemaker import (
    endpoint_configs,
    endpoints,
    models,
    processing_jobs,
    tags,
    training_jobs,
    transform_jobs,
)
from millrace.services.sagemaker.backends import Backends

__all__ = ["Backends", "handlers"]


def handlers(backends: Backends) -> Mapping[str, Handler]:
    """Return the handlers of all operations served, by operation name."""
    return {
        **training_jobs.handlers(backends),
        **transform_jobs.handlers(backends),
        **processing_jobs.handlers(backends),
        **models.handlers(backends),
        **endpoint_configs.handlers(backends),
        **endpoints.handlers(backends),
        **tags.handlers(backends),
    }
