"""Agents as processes of this machine.

An agent gets a session of its own, so that it outlives the server; what agents print goes to one file for all.
"""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from millrace.ports.jobs import AgentRecord, InstanceRef

__all__ = ["LocalEngine", "instance_folder"]

REGISTRATION_SECONDS = 60.0
"""How long a started agent may take to register before another one is started in its place."""


def instance_folder(work_dir: Path, job_id: int, index: int) -> Path:
    """Return the folder of one instance's working files."""
    return work_dir / str(job_id) / str(index)


class LocalEngine:
    """Starts `python -m millrace.agent` for each instance."""

    def __init__(
        self, work_dir: Path, log_file: Path, environment: Mapping[str, str], *, on_exit: Callable[[], None]
    ) -> None:
        """Take where instances work, where agents print, their environment, and whom to tell when one has ended."""
        self._work_dir = work_dir
        self._log_file = log_file
        self._environment = dict(environment)
        self._on_exit = on_exit
        self._children: dict[InstanceRef, tuple[subprocess.Popen[bytes], int, float]] = {}

    def set_environment(self, environment: Mapping[str, str]) -> None:
        """Give agents that start from now on another environment."""
        self._environment = dict(environment)

    async def start(self, ref: InstanceRef) -> None:
        folder = instance_folder(self._work_dir, ref.job_id, ref.index)
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "millrace.agent", str(ref.job_id), str(ref.index), str(ref.attempt)]
        with self._log_file.open("ab") as log:
            process = subprocess.Popen(  # noqa: ASYNC220  # a fork of a small process; 2 ms
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                cwd=folder,
                start_new_session=True,
            )
        descriptor = os.pidfd_open(process.pid)
        self._children[ref] = (process, descriptor, time.monotonic())
        asyncio.get_running_loop().add_reader(descriptor, self._reap, ref)

    def _reap(self, ref: InstanceRef) -> None:
        process, descriptor, _ = self._children.pop(ref)
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)
        process.wait()
        self._on_exit()

    def is_starting(self, ref: InstanceRef) -> bool:
        child = self._children.get(ref)
        return child is not None and time.monotonic() - child[2] < REGISTRATION_SECONDS

    def is_alive(self, agent: AgentRecord) -> bool | None:
        if agent.host != socket.gethostname():
            return None
        if agent.ref in self._children:
            return True
        # After a restart of the server the agent is no child of ours; its command line tells it from a later process
        # that was given the same number.
        try:
            words = Path(f"/proc/{agent.process_id}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        ref = agent.ref
        return [b"millrace.agent", b"%d" % ref.job_id, b"%d" % ref.index, b"%d" % ref.attempt] == words[2:6]

    def nudge(self, agent: AgentRecord) -> None:
        self._signal(agent, signal.SIGUSR1)

    def suspend(self, agent: AgentRecord) -> None:
        self._signal(agent, signal.SIGTERM)

    def _signal(self, agent: AgentRecord, number: signal.Signals) -> None:
        if self.is_alive(agent):
            try:
                os.kill(agent.process_id, number)
            except ProcessLookupError:
                return

    async def remove_work(self, job_id: int, index: int | None) -> None:
        folder = self._work_dir / str(job_id)
        if index is not None:
            folder = folder / str(index)
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def close(self) -> None:
        loop = asyncio.get_running_loop()
        for process, descriptor, _ in self._children.values():
            loop.remove_reader(descriptor)
            os.close(descriptor)
            process.returncode = 0  # the agent goes on without us: Popen need not warn that it still runs
        self._children.clear()
