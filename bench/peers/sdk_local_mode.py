"""The transform loop of the SageMaker SDK's local mode, without Docker: the container listens already.

    python sdk_local_mode.py PORT INPUT_FOLDER OUTPUT_FOLDER

Prints its figures as JSON.
"""

import json
import resource
import sys
import time

import boto3
from sagemaker.local import LocalSession
from sagemaker.local.entities import _LocalTransformJob


class _Running:
    """The container, which somebody else started and will stop."""

    def stop_serving(self) -> None:
        """Leave it to that one."""


def main() -> None:
    """Run the loop and print seconds and processor seconds, start of the interpreter and imports left out."""
    port, source, target = sys.argv[1:]
    session = LocalSession(boto3.Session(region_name="us-east-1"))
    session.config = {"local": {"serving_port": int(port)}}
    job = _LocalTransformJob.__new__(_LocalTransformJob)  # its constructor asks for a model, and Docker for its image
    job.local_session, job.container, job.name = session, _Running(), "job"
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    job._perform_batch_inference(
        {"DataSource": {"S3DataSource": {"S3Uri": f"file://{source}"}}, "ContentType": "text/csv", "SplitType": "Line"},
        {"S3OutputPath": f"file://{target}", "Accept": "text/csv"},
        BatchStrategy="MultiRecord",
        MaxPayloadInMB="6",
    )
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu}))


if __name__ == "__main__":
    main()
