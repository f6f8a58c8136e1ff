"""A folder that stands for /opt/ml, and the programs run on it as real processes."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["JobFolder", "Served", "UnixConnection", "serve"]


@dataclass(frozen=True)
class JobFolder:
    """Writes what the platform writes and reads what an algorithm leaves."""

    root: Path

    def configure(
        self,
        hyperparameters: Mapping[str, Any],
        content_types: Mapping[str, str | None],
        *,
        input_mode: str = "File",
        record_wrapper: str = "None",
    ) -> "JobFolder":
        """Write the three configuration files."""
        config = self.root / "input" / "config"
        for folder in (config, self.root / "input" / "data", self.root / "model", self.root / "output" / "data"):
            folder.mkdir(parents=True, exist_ok=True)
        channels = {}
        for name, content_type in content_types.items():
            channels[name] = {
                "TrainingInputMode": input_mode,
                "S3DistributionType": "FullyReplicated",
                "RecordWrapperType": record_wrapper,
            }
            if content_type is not None:
                channels[name]["ContentType"] = content_type
        (config / "hyperparameters.json").write_text(json.dumps(hyperparameters))
        (config / "inputdataconfig.json").write_text(json.dumps(channels))
        (config / "resourceconfig.json").write_text(
            json.dumps({"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "eth0"})
        )
        return self

    def put(self, channel: str, name: str, content: bytes | str) -> "JobFolder":
        """Write one object of a File channel."""
        path = self.root / "input" / "data" / channel / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return self

    @property
    def model(self) -> Path:
        return self.root / "model"

    @property
    def failure(self) -> str:
        return (self.root / "output" / "failure").read_text()

    def environment(self, **more: str) -> dict[str, str]:
        return {**os.environ, "SAGEMAKER_BASE_DIR": str(self.root), **more}

    @contextmanager
    def training(self, algorithm: str) -> Iterator[subprocess.Popen[str]]:
        """Start the training program; one that still runs in the end is killed, so that it fails no other test."""
        with subprocess.Popen(
            [sys.executable, "-m", "millrace_algorithms", algorithm, "train"],
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()  # nothing is sent to a process that has been waited for

    def train(self, algorithm: str) -> tuple[int, str]:
        """Run the training program; return exit code and log."""
        with self.training(algorithm) as process:
            log, _ = process.communicate(timeout=60)
        return process.returncode, log


class UnixConnection(http.client.HTTPConnection):
    """http.client over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(30)
        self.sock.connect(str(self._path))


@dataclass(frozen=True)
class Served:
    """A running serving program."""

    process: subprocess.Popen[bytes]
    connection: http.client.HTTPConnection

    def request(
        self, method: str, path: str, body: bytes | str | None = None, **headers: str
    ) -> tuple[int, str | None, bytes]:
        """Return status, content type and body of one answer."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.request(method, path, body, named)
        response = self.connection.getresponse()
        return response.status, response.getheader("content-type"), response.read()

    def invoke(
        self, body: bytes | str, content_type: str | None = None, accept: str | None = None
    ) -> tuple[int, str | None, bytes]:
        headers = {"Content_Type": content_type, "Accept": accept}
        return self.request("POST", "/invocations", body, **{n: v for n, v in headers.items() if v is not None})


@contextmanager
def serve(folder: JobFolder, algorithm: str, *, port: bool = False, **environment: str) -> Iterator[Served]:
    """Serve the folder's model on a Unix socket, or on a free port; ends with SIGTERM and exit code 0."""
    connection: http.client.HTTPConnection
    if port:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            number = probe.getsockname()[1]
        bind = {"SAGEMAKER_BIND_TO_PORT": str(number), "SAGEMAKER_BIND_ADDRESS": "127.0.0.1"}
        connection = http.client.HTTPConnection("127.0.0.1", number, timeout=30)
    else:
        path = folder.root / "serve.sock"
        bind = {"MILLRACE_BIND_UNIX": str(path)}
        connection = UnixConnection(path)
    process = subprocess.Popen(
        [sys.executable, "-m", "millrace_algorithms", algorithm, "serve"],
        env=folder.environment(**bind, **environment),
        stdout=subprocess.DEVNULL,
    )
    try:
        _wait_until_it_listens(process, connection)
        yield Served(process, connection)
    finally:
        connection.close()
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=30)
    assert code == 0


def _wait_until_it_listens(process: subprocess.Popen[bytes], connection: http.client.HTTPConnection) -> None:
    while process.poll() is None:
        try:
            connection.connect()
        except (ConnectionRefusedError, FileNotFoundError):
            connection.close()
            os.sched_yield()
        else:
            return
    raise AssertionError(f"the serving program ended with {process.returncode}")
