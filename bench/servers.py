"""Start a server as a process of its own, await its first answer, and tell the memory of a process and its children."""

import http.client
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.machine import descendants

__all__ = ["Memory", "RunningServer", "await_answer", "free_port", "memory_of", "running"]

START_SECONDS = 60.0
POLL_SECONDS = 0.002


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """Memory of a process and all its descendants, in megabytes of a million bytes."""

    resident: float
    """Of the process alone."""
    proportional: float
    """Of all of them, each shared page divided among those that share it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunningServer:
    """A server that answers."""

    process_id: int
    netloc: str

    @property
    def url(self) -> str:
        return f"http://{self.netloc}"


def free_port() -> int:
    """Return a port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def await_answer(process: subprocess.Popen[bytes], netloc: str, path: str) -> None:
    """Return once GET of the path is answered with 200; ask every two milliseconds.

    Raises:
        SystemExit: The process ended, or a minute passed.
    """
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        connection = http.client.HTTPConnection(netloc, timeout=START_SECONDS)
        try:
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(POLL_SECONDS)
        finally:
            connection.close()
    raise SystemExit(f"{process.args!r} did not answer GET {path}; exit code {process.poll()}")


@contextmanager
def running(
    command: Sequence[str], *, port: int, ready: str, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[RunningServer]:
    """Run a server on a port while the block runs; it has answered GET of `ready` once."""
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    try:
        await_answer(process, f"127.0.0.1:{port}", ready)
        yield RunningServer(process_id=process.pid, netloc=f"127.0.0.1:{port}")
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def memory_of(root: int) -> Memory:
    """Return the memory of a process and its descendants."""
    return Memory(
        resident=_field(root, "status", "VmRSS:"),
        proportional=sum(_field(process, "smaps_rollup", "Pss:") for process in descendants(root)),
    )


def _field(process: int, file: str, name: str) -> float:
    for line in Path(f"/proc/{process}/{file}").read_text("utf-8").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0
