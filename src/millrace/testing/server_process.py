"""A test server in a process of its own, and what tests ask of it. Imports nothing of the server: it must be quick."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["MillraceServer", "ServerNotStarted"]

STOP_SECONDS = 30.0

DISTURBING = ("AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_CA_BUNDLE")
"""Variables of another login, which clients would mix with the server's."""


class ServerNotStarted(RuntimeError):
    """The server process ended; the text has the end of its log."""


class MillraceServer:
    """A running server. `url` and the credentials stay the same for its life; each reset brings another `data_dir`."""

    def __init__(self, folder: Path) -> None:
        """Start it in an empty folder.

        Raises:
            ServerNotStarted: It ended before it was ready.
        """
        self._log = folder / "server.log"
        self._clients: dict[str, Any] = {}
        self._session: Any = None
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "millrace.testing.server", str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the tests, which then end it
            )
        told = self._hear()
        self.url: str = told["url"]
        self.data_dir = Path(told["data_dir"])
        self._environment: Mapping[str, str] = told["environment"]

    @property
    def env(self) -> dict[str, str]:
        """Variables that make AWS clients, and the `millrace` command, use this server and its state of now."""
        return {**self._environment, "MILLRACE_DATA_DIR": str(self.data_dir)}

    def boto3_client(self, service: str) -> Any:
        """Return a boto3 client; it is kept, and works on after resets."""
        client = self._clients.get(service)
        if client is None:
            import boto3  # the user's: nothing of ours needs it

            if self._session is None:
                self._session = boto3.session.Session(
                    aws_access_key_id=self._environment["AWS_ACCESS_KEY_ID"],
                    aws_secret_access_key=self._environment["AWS_SECRET_ACCESS_KEY"],
                    region_name=self._environment["AWS_DEFAULT_REGION"],
                )
            client = self._clients[service] = self._session.client(service, endpoint_url=self.url)
        return client

    def reset(self) -> None:
        """Go on with an empty state; the jobs of the one before are killed."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(b"reset\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._gone() from None
        self.data_dir = Path(self._hear()["data_dir"])

    def close(self) -> None:
        """End the server and its jobs; what it left in its folder stays."""
        for client in self._clients.values():
            client.close()
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> "MillraceServer":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._gone()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _gone(self) -> ServerNotStarted:
        code = self._process.wait()
        log = self._log.read_text("utf-8", "replace")[-4000:]
        return ServerNotStarted(f"the test server ended with exit code {code}; the end of {self._log}:\n{log}")
