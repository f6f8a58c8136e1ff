"""The starter of built-in model servers as its server sees it: a process made with the first job."""

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["ContainerStarter"]

_SOCKET_PATH_LIMIT = 90
"""The kernel takes 107 bytes; the starter binds a name with its own number behind."""


class ContainerStarter:
    """One starter. It outlives the server as long as it has children; without it, programs start by themselves."""

    @classmethod
    def of_server(cls, run_dir: Path, log_file: Path) -> "ContainerStarter | None":
        """Return this process's starter; None where the folder's path is too long for a socket."""
        path = run_dir / f"starter-{os.getpid()}.sock"
        return cls(path, log_file) if len(str(path)) < _SOCKET_PATH_LIMIT else None

    def __init__(self, socket_path: Path, log_file: Path) -> None:
        """Take where it listens, and where it says what goes wrong."""
        self.socket_path = socket_path
        self._log_file = log_file
        self._process: asyncio.subprocess.Process | None = None

    async def open(self, environment: Mapping[str, str]) -> None:
        """Start it, unless it runs; it loads its libraries while others go on."""
        if self._process is not None and self._process.returncode is None:
            return
        self.socket_path.parent.mkdir(parents=True, exist_ok=True)
        self.socket_path.unlink(missing_ok=True)
        _sweep(self.socket_path.parent)
        with self._log_file.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "millrace_algorithms.starter", str(self.socket_path)),
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )

    def close(self) -> None:
        """Let it end with its last child."""
        self.socket_path.unlink(missing_ok=True)
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()


def _sweep(folder: Path) -> None:
    """Remove sockets of servers that were killed."""
    for path in folder.glob("starter-*.sock*"):
        number = path.name.removeprefix("starter-").partition(".")[0]
        if number.isdigit() and not Path("/proc", number).exists():
            path.unlink(missing_ok=True)
