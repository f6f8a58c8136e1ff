"""moto's server with transform jobs that were put into its memory rather than created one request at a time.

    python moto_seeded.py PORT COUNT REGION REQUEST_JSON

It then calls the `main` of moto_server as it is.
"""

import json
import sys

from moto.sagemaker.models import sagemaker_backends
from moto.server import main

_MEMBERS = {
    "max_concurrent_transforms": "MaxConcurrentTransforms",
    "model_client_config": "ModelClientConfig",
    "max_payload_in_mb": "MaxPayloadInMB",
    "batch_strategy": "BatchStrategy",
    "environment": "Environment",
    "data_capture_config": "DataCaptureConfig",
    "data_processing": "DataProcessing",
    "tags": "Tags",
    "experiment_config": "ExperimentConfig",
}


def seed(region: str, count: int, request: dict[str, object]) -> None:
    """Put jobs named job-00000 and so on into the backend."""
    backend = sagemaker_backends["123456789012"][region]
    for number in range(count):
        backend.create_transform_job(
            transform_job_name=f"job-{number:05}",
            model_name=request["ModelName"],
            transform_input=request["TransformInput"],
            transform_output=request["TransformOutput"],
            transform_resources=request["TransformResources"],
            **{argument: request.get(member) for argument, member in _MEMBERS.items()},
        )


if __name__ == "__main__":
    port, count, region, text = sys.argv[1:]
    seed(region, int(count), json.loads(text))
    main(["-p", port])
