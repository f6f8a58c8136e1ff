"""A real server on a data directory of its own, and what tests ask of it."""

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import boto3
from botocore.config import Config

from millrace import settings as settings_module
from millrace.clock import SystemClock
from millrace.commands.environment import client_environment
from millrace.server_addresses import ServerAddress, read_addresses
from millrace.settings import Settings, as_environment
from millrace.store.opening import open_database
from millrace.store.sql_jobs import SqlJobStore

__all__ = ["IMAGE", "PROGRAM", "ROLE", "Platform", "wait_until"]

T = TypeVar("T")

ROLE = "arn:aws:iam::000000000000:role/MillraceExecutionRole"
IMAGE = "000000000000.dkr.ecr.us-east-1.amazonaws.com/brought:latest"
PROGRAM = Path(__file__).parents[1] / "programs" / "brought_program.py"
WAIT_SECONDS = 60.0
POLL_SECONDS = 0.02


def wait_until(what: str, look: Callable[[], T | None]) -> T:
    """Return what `look` returns once it is true; fail the test after a minute."""
    deadline = time.monotonic() + WAIT_SECONDS
    pause = threading.Event()
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        pause.wait(POLL_SECONDS)
    raise AssertionError(f"{what}: not within {WAIT_SECONDS:.0f} s")


class Platform:
    """A `millrace serve` process; it can be killed and started again on the same data."""

    def __init__(self, data_dir: Path, **settings: Any) -> None:
        self.settings: Settings = settings_module.load({}, data_dir=data_dir, port=0, **settings)
        data_dir.mkdir(parents=True, exist_ok=True)
        command = json.dumps([sys.executable, str(PROGRAM)])
        (data_dir / "host-images.toml").write_text(f'[[image]]\nmatch = "brought:*"\ncommand = {command}\n')
        self.process: subprocess.Popen[bytes] | None = None
        self._clients: dict[str, Any] = {}

    def start(self) -> "Platform":
        """Start the server and wait until it answers."""
        with (self.settings.data_dir / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "millrace", "serve"],
                env={**os.environ, **as_environment(self.settings)},
                stdout=log,
                stderr=log,
            )
        process = self.process

        def look() -> ServerAddress | None:
            assert process.poll() is None, "the server ended: see server.log"
            return next((it for it in read_addresses(self.settings) if it.process_id == process.pid), None)

        self.address = wait_until("server start", look)
        self._clients.clear()
        return self

    def kill(self) -> None:
        """SIGKILL the server."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM the server and return its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(WAIT_SECONDS)

    def client(self, service: str) -> Any:
        """Return a boto3 client of the server."""
        if service not in self._clients:
            environment = client_environment(self.settings, self.address, proxy=False)
            self._clients[service] = boto3.Session(
                aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
                aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
                region_name="us-east-1",
            ).client(service, endpoint_url=self.address.url, config=Config(retries={"total_max_attempts": 1}))
        return self._clients[service]

    # -- objects

    def put(self, uri: str, body: bytes) -> str:
        """Store an object, making its bucket as needed."""
        bucket, key = _split(uri)
        s3 = self.client("s3")
        if bucket not in [it["Name"] for it in s3.list_buckets()["Buckets"]]:
            s3.create_bucket(Bucket=bucket)
        s3.put_object(Bucket=bucket, Key=key, Body=body)
        return uri

    def get(self, uri: str) -> bytes:
        bucket, key = _split(uri)
        body: bytes = self.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
        return body

    def keys(self, uri: str) -> list[str]:
        bucket, prefix = _split(uri)
        pages = self.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def untar(self, uri: str) -> dict[str, bytes]:
        """Return the files of an archive by name."""
        files = {}
        with tarfile.open(fileobj=io.BytesIO(self.get(uri))) as archive:
            for member in archive:
                if (file := archive.extractfile(member)) is not None:
                    files[member.name] = file.read()
        return files

    # -- jobs

    def train(self, name: str, image: str = IMAGE, **members: Any) -> str:
        """Create a training job with one channel unless told otherwise."""
        request = {
            "TrainingJobName": name,
            "RoleArn": ROLE,
            "AlgorithmSpecification": {"TrainingImage": image, "TrainingInputMode": "File"},
            "OutputDataConfig": {"S3OutputPath": "s3://shop/out"},
            "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
            "StoppingCondition": {"MaxRuntimeInSeconds": 600},
            **members,
        }
        self.client("sagemaker").create_training_job(**request)
        return name

    def model(self, name: str, image: str = IMAGE, **environment: str) -> str:
        self.client("sagemaker").create_model(
            ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer={"Image": image, "Environment": environment}
        )
        return name

    def chain(self, name: str, *containers: Mapping[str, str], image: str = IMAGE, **members: Any) -> str:
        """Create a model of several containers of one image, each with variables of its own."""
        definitions = [{"Image": image, "Environment": dict(it)} for it in containers]
        self.client("sagemaker").create_model(
            ModelName=name, **{"ExecutionRoleArn": ROLE, "Containers": definitions, **members}
        )
        return name

    def transform(self, name: str, model: str, source: str, **members: Any) -> str:
        """Create a transform job over lines of CSV unless told otherwise."""
        request = {
            "TransformJobName": name,
            "ModelName": model,
            "TransformInput": {
                "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": source}},
                "ContentType": "text/csv",
                "SplitType": "Line",
            },
            "TransformOutput": {"S3OutputPath": f"s3://shop/{name}", "AssembleWith": "Line", "Accept": "text/csv"},
            "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
            **members,
        }
        self.client("sagemaker").create_transform_job(**request)
        return name

    def ended_transform(self, name: str) -> dict[str, Any]:
        """Wait for a transform job's end and return its description."""
        sagemaker = self.client("sagemaker")

        def look() -> dict[str, Any] | None:
            found: dict[str, Any] = sagemaker.describe_transform_job(TransformJobName=name)
            return found if found["TransformJobStatus"] in ("Completed", "Failed", "Stopped") else None

        return wait_until(f"end of {name}", look)

    def ended_training(self, name: str) -> dict[str, Any]:
        """Wait for a training job's end and return its description."""
        sagemaker = self.client("sagemaker")

        def look() -> dict[str, Any] | None:
            found: dict[str, Any] = sagemaker.describe_training_job(TrainingJobName=name)
            return found if found["TrainingJobStatus"] in ("Completed", "Failed", "Stopped") else None

        return wait_until(f"end of {name}", look)

    # -- processes

    def agents(self) -> list[int]:
        """Return the process ids of the agents registered for unfinished jobs."""
        database = open_database(self.settings)
        try:
            jobs = SqlJobStore(database, clock=SystemClock())
            found = [asyncio.run(jobs.list_agents(job_id)) for job_id in asyncio.run(jobs.list_unfinished())]
        finally:
            database.close()
        return [agent.process_id for agents in found for agent in agents]

    def kill_process(self, process_id: int) -> None:
        """SIGKILL an agent or a container; one that ended by itself meanwhile is none the worse."""
        with suppress(ProcessLookupError):
            os.kill(process_id, signal.SIGKILL)

    def show(self, name: str) -> dict[str, Any]:
        """Return what `millrace jobs show` prints."""
        command = [sys.executable, "-m", "millrace", "jobs", "show", name]
        environment = {**os.environ, **as_environment(self.settings)}
        shown = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout
        found: dict[str, Any] = json.loads(shown)
        return found

    def processes(self, word: str) -> list[int]:
        """Return the ids of processes that work below this platform's folder and have a word in their command line."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                command, folder = (entry / "cmdline").read_bytes(), (entry / "cwd").readlink()
            except OSError:
                continue
            if word.encode() in command and folder.is_relative_to(self.settings.data_dir):
                found.append(int(entry.name))
        return found

    def log(self, group: str, prefix: str) -> list[str]:
        """Return all lines of the streams that start with a prefix."""
        logs = self.client("logs")
        lines = []
        streams = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=prefix)["logStreams"]
        for stream in streams:
            events = logs.get_log_events(logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=True)
            lines += [event["message"] for event in events["events"]]
        return lines


def _split(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key
