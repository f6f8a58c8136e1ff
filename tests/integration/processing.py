"""Processing jobs as tests ask for them."""

from typing import Any

from botocore.exceptions import ClientError

from tests.integration.platform import IMAGE, ROLE, Platform, wait_until

__all__ = ["GROUP", "ended", "log_so_far", "process", "result", "source"]

GROUP = "/aws/sagemaker/ProcessingJobs"


def source(name: str, uri: str, path: str = "/opt/ml/processing/in", **members: Any) -> dict[str, Any]:
    """Return an input over a prefix unless told otherwise."""
    s3 = {"S3Uri": uri, "LocalPath": path, "S3DataType": "S3Prefix", "S3InputMode": "File", **members}
    return {"InputName": name, "S3Input": s3}


def result(uri: str, path: str = "/opt/ml/processing/out", mode: str = "EndOfJob", name: str = "out") -> dict[str, Any]:
    """Return an output."""
    return {"OutputName": name, "S3Output": {"S3Uri": uri, "LocalPath": path, "S3UploadMode": mode}}


def process(platform: Platform, name: str, image: str = IMAGE, **members: Any) -> str:
    """Create a processing job that stores its output under its name unless told otherwise."""
    outputs = members.pop("Outputs", [result(f"s3://shop/{name}")])
    request = {
        "ProcessingJobName": name,
        "RoleArn": ROLE,
        "AppSpecification": {"ImageUri": image},
        "ProcessingResources": {
            "ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1}
        },
        "ProcessingOutputConfig": {"Outputs": outputs},
        **members,
    }
    platform.client("sagemaker").create_processing_job(**request)
    return name


def ended(platform: Platform, name: str) -> dict[str, Any]:
    """Wait for a job's end and return its description."""
    sagemaker = platform.client("sagemaker")

    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = sagemaker.describe_processing_job(ProcessingJobName=name)
        return found if found["ProcessingJobStatus"] in ("Completed", "Failed", "Stopped") else None

    return wait_until(f"end of {name}", look)


def log_so_far(platform: Platform, name: str) -> list[str]:
    """Return a job's log lines, none before it has any."""
    try:
        return platform.log(GROUP, f"{name}/")
    except ClientError:  # the group or stream is not there yet
        return []
