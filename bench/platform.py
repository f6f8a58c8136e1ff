"""A real `millrace serve` on a data directory of its own, asked with boto3 and, where it must be quick, without."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from bench import wrk
from bench.machine import TreeClock, pinned
from bench.turns import OutputDiffers
from millrace import settings as settings_module
from millrace.app import ServerAddress, read_address
from millrace.commands.environment import client_environment
from millrace.names import DEFAULT_ACCOUNT, DEFAULT_REGION
from millrace.settings import Settings, as_environment

__all__ = ["BUCKET", "ROLE", "EndedJob", "Platform", "built_in_image", "serve"]

ROLE = f"arn:aws:iam::{DEFAULT_ACCOUNT}:role/MillraceExecutionRole"
BUCKET = "bench"
START_SECONDS = 30.0
JOB_SECONDS = 600.0
CPU_LOOK_SECONDS = 0.02
"""Between two looks at the processes: often enough to see short ones, too seldom to be felt."""
WAITER = "Boto3/1.0 md/Botocore#1.0 m/B"
"""How botocore marks the calls of its waiters."""


def built_in_image(name: str) -> str:
    """Return the URI of a built-in algorithm's image, as the SDK would."""
    return f"382416733822.dkr.ecr.{DEFAULT_REGION}.amazonaws.com/{name}:1"


@dataclass(frozen=True, kw_only=True, slots=True)
class EndedJob:
    """A transform job that was completed: as the client saw it, and as Describe tells it."""

    seconds: float
    """From sending CreateTransformJob until Describe said Completed."""
    cpu_seconds: float
    created_to_started: float
    started_to_ended: float
    ended_to_seen: float


class Platform:
    """A running server."""

    def __init__(self, settings: Settings, address: ServerAddress) -> None:
        self.settings = settings
        self.process_id = address.process_id
        self._netloc = urlsplit(address.url).netloc
        environment = client_environment(settings, address, proxy=False)
        self._credentials = Credentials(environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"])
        self._session = boto3.Session(
            aws_access_key_id=self._credentials.access_key,
            aws_secret_access_key=self._credentials.secret_key,
            region_name=DEFAULT_REGION,
        )
        self.url = address.url
        self.s3: Any = self._session.client("s3", endpoint_url=address.url)
        self.sagemaker: Any = self._session.client("sagemaker", endpoint_url=address.url)
        self.runtime: Any = self._session.client("sagemaker-runtime", endpoint_url=address.url)
        self.s3.create_bucket(Bucket=BUCKET)

    def put(self, key: str, body: bytes) -> None:
        """Upload an object."""
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=body)

    def get(self, key: str) -> bytes:
        """Download an object."""
        body: bytes = self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return body

    def signed(self, service: str, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
        """Return a request as it goes over the wire, signed for some minutes, its body's digest included."""
        request = AWSRequest(method, self.url + path, headers=headers, data=body)
        signer = S3SigV4Auth if service == "s3" else SigV4Auth
        signer(self._credentials, service, DEFAULT_REGION).add_auth(request)
        return wrk.raw_request(method, path, {"Host": self._netloc, **dict(request.headers)}, body)

    def train(self, algorithm: str, channels: dict[str, bytes], **hyperparameters: str) -> str:
        """Train a built-in algorithm on channels of CSV, make a model of the result and return its name."""
        for channel, text in channels.items():
            self.put(f"{algorithm}/{channel}/data.csv", text)
        image = built_in_image(algorithm)
        self.sagemaker.create_training_job(
            TrainingJobName=algorithm,
            RoleArn=ROLE,
            AlgorithmSpecification={"TrainingImage": image, "TrainingInputMode": "File"},
            HyperParameters=hyperparameters,
            InputDataConfig=[
                {
                    "ChannelName": channel,
                    "ContentType": "text/csv",
                    "DataSource": {
                        "S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/{algorithm}/{channel}/"}
                    },
                }
                for channel in channels
            ],
            OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/models"},
            ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
            StoppingCondition={"MaxRuntimeInSeconds": 600},
        )
        found = self._wait_for_end("TrainingJob", algorithm)
        artifact = f"s3://{BUCKET}/models/{algorithm}/output/model.tar.gz"
        if found["TrainingJobStatus"] != "Completed":
            raise SystemExit(f"training of {algorithm} failed: {found.get('FailureReason')}")
        self.sagemaker.create_model(
            ModelName=algorithm,
            ExecutionRoleArn=ROLE,
            PrimaryContainer={"Image": image, "ModelDataUrl": artifact},
        )
        return algorithm

    def transform(self, name: str, model: str, key: str, *, media_type: str = "text/csv", **members: Any) -> EndedJob:
        """Run one transform job over lines from CreateTransformJob, which gets the further members, to its end.

        Raises:
            OutputDiffers: It was not completed.
        """
        clock = TreeClock(self.process_id)
        cpu_before = clock.look()
        started = time.perf_counter()
        with clock.looking(every=CPU_LOOK_SECONDS):
            self.sagemaker.create_transform_job(
                TransformJobName=name,
                ModelName=model,
                BatchStrategy="MultiRecord",
                TransformInput={
                    "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/{key}"}},
                    "ContentType": media_type,
                    "SplitType": "Line",
                },
                TransformOutput={"S3OutputPath": f"s3://{BUCKET}/out/{name}", "Accept": media_type},
                TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
                **members,
            )
            found = self._wait_for_end("TransformJob", name)
            seconds, seen_at = time.perf_counter() - started, time.time()
        if found["TransformJobStatus"] != "Completed":
            raise OutputDiffers(f"job {name}: {found['TransformJobStatus']}, {found.get('FailureReason')}")
        created, began, ended = (found[name] for name in ("CreationTime", "TransformStartTime", "TransformEndTime"))
        return EndedJob(
            seconds=seconds,
            cpu_seconds=clock.look() - cpu_before,
            created_to_started=began - created,
            started_to_ended=ended - began,
            ended_to_seen=seen_at - ended,
        )

    def _wait_for_end(self, kind: str, name: str) -> dict[str, Any]:
        """Ask Describe as a waiter of boto3 does, whose answer is held until the job ends; return that.

        A boto3 client would use more processor time than the job.
        """
        body = json.dumps({f"{kind}Name": name}).encode()
        headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": f"SageMaker.Describe{kind}"}
        request = AWSRequest("POST", self.url + "/", headers=headers, data=body)
        SigV4Auth(self._credentials, "sagemaker", DEFAULT_REGION).add_auth(request)
        deadline = time.monotonic() + JOB_SECONDS
        connection = http.client.HTTPConnection(self._netloc)
        try:
            while time.monotonic() < deadline:
                connection.request("POST", "/", body, {**request.headers, "User-Agent": WAITER})
                answer = connection.getresponse()
                found: dict[str, Any] = json.loads(answer.read())
                if answer.status != 200:
                    raise SystemExit(f"Describe{kind} of {name}: {answer.status} {found}")
                if found[f"{kind}Status"] in ("Completed", "Failed", "Stopped"):
                    return found
        finally:
            connection.close()
        raise SystemExit(f"{kind} {name} did not end within {JOB_SECONDS:.0f} seconds")


@contextmanager
def serve(data_dir: Path, *, core: int | None = None) -> Iterator[Platform]:
    """Run a server with default settings on a data directory while the block runs, on one core if it is named."""
    settings = settings_module.load({}, data_dir=data_dir, port=0)
    data_dir.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "millrace", "serve"]
    log_path = data_dir / "server.log"
    with log_path.open("wb") as log:
        server = subprocess.Popen(
            command if core is None else pinned(command, core),
            env={**os.environ, **as_environment(settings)},
            stdout=log,
            stderr=log,
        )
    try:
        yield Platform(settings, _await_address(settings, server, log_path))
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()


def _await_address(settings: Settings, server: subprocess.Popen[bytes], log_path: Path) -> ServerAddress:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        address = read_address(settings)
        if address is not None and address.process_id == server.pid:
            return address
        time.sleep(0.01)
    raise SystemExit(f"the server did not start:\n{log_path.read_text('utf-8')[-2000:]}")
