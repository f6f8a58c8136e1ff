"""Agents as processes of this machine.

An agent is forked from a nursery, which has all imports done, and gets a session of its own, so that it outlives the
server. What agents print goes to one file for all.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from millrace.errors import RuntimeUnavailable
from millrace.ports.jobs import AgentRecord, InstanceRef
from millrace.process_groups import end_left_over, process_start

__all__ = ["ENDPOINT_VARIABLE", "LocalEngine", "instance_folder", "process_start"]

ENDPOINT_VARIABLE = "MILLRACE_ENDPOINT_URL"
"""Where containers reach the server; the server sets it in its agents' environment."""

REGISTRATION_SECONDS = 60.0
"""How long a started agent may take to register before another one is started in its place."""

FORK_SECONDS = 60.0
"""How long the nursery may take to answer; the first time it has its imports to do."""


def instance_folder(work_dir: Path, job_id: int, index: int) -> Path:
    """Return the folder of one instance's working files."""
    return work_dir / str(job_id) / str(index)


class LocalEngine:
    """Forks agents from its nursery and watches their processes."""

    def __init__(
        self, work_dir: Path, log_file: Path, environment: Mapping[str, str], *, on_exit: Callable[[], None]
    ) -> None:
        """Take where instances work, where agents print, their environment, and whom to tell when one has ended."""
        self._work_dir = work_dir
        self._log_file = log_file
        self._environment = dict(environment)
        self._on_exit = on_exit
        self._nursery: asyncio.subprocess.Process | None = None
        self._children: dict[InstanceRef, tuple[int, float]] = {}

    def set_environment(self, environment: Mapping[str, str]) -> None:
        """Give agents that start from now on another environment."""
        self._environment = dict(environment)

    async def open(self) -> None:
        """Start the nursery; it does its imports while others go on."""
        with self._log_file.open("ab") as log:
            self._nursery = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "millrace.nursery"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )

    async def start(self, ref: InstanceRef) -> None:
        folder = instance_folder(self._work_dir, ref.job_id, ref.index)
        folder.mkdir(parents=True, exist_ok=True)
        process_id = await self._fork(ref, folder)
        try:
            descriptor = os.pidfd_open(process_id)
        except ProcessLookupError:  # ended already, most likely for want of a lease
            self._on_exit()
            return
        self._children[ref] = (descriptor, time.monotonic())
        asyncio.get_running_loop().add_reader(descriptor, self._reap, ref)

    async def _fork(self, ref: InstanceRef, folder: Path) -> int:
        """Ask the nursery for an agent and return its process id; a nursery that ended is replaced."""
        request = {
            "ref": [ref.job_id, ref.index, ref.attempt],
            "folder": str(folder),
            "log": str(self._log_file),
            "environment": self._environment,
        }
        line = json.dumps(request).encode() + b"\n"
        for _ in range(2):
            if self._nursery is None or self._nursery.returncode is not None:
                await self.open()
            assert self._nursery is not None and self._nursery.stdin is not None and self._nursery.stdout is not None
            with contextlib.suppress(ConnectionError):
                self._nursery.stdin.write(line)
                await self._nursery.stdin.drain()
                with contextlib.suppress(TimeoutError):
                    answer = await asyncio.wait_for(self._nursery.stdout.readline(), FORK_SECONDS)
                    if answer:
                        return int(answer)
                    await self._nursery.wait()
                    continue
            with contextlib.suppress(ProcessLookupError):
                self._nursery.kill()
            await self._nursery.wait()
        raise RuntimeUnavailable(f"the process that starts agents ends at once; see {self._log_file}")

    def _reap(self, ref: InstanceRef) -> None:
        descriptor, _ = self._children.pop(ref)
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)
        self._on_exit()

    def is_starting(self, ref: InstanceRef) -> bool:
        child = self._children.get(ref)
        return child is not None and time.monotonic() - child[1] < REGISTRATION_SECONDS

    def is_alive(self, agent: AgentRecord) -> bool | None:
        if agent.host != socket.gethostname():
            return None
        return agent.ref in self._children or process_start(agent.process_id) == agent.process_start

    def nudge(self, agent: AgentRecord) -> None:
        self._signal(agent, signal.SIGUSR1)

    def suspend(self, agent: AgentRecord) -> None:
        self._signal(agent, signal.SIGTERM)

    def kill(self, agent: AgentRecord) -> None:
        self._signal(agent, signal.SIGKILL)

    def _signal(self, agent: AgentRecord, number: signal.Signals) -> None:
        if self.is_alive(agent):
            with contextlib.suppress(ProcessLookupError):
                os.kill(agent.process_id, number)

    async def remove_work(self, job_id: int, index: int | None) -> None:
        folder = self._work_dir / str(job_id)
        if index is not None:
            folder = folder / str(index)
        await asyncio.to_thread(_remove, folder)

    async def sweep(self, keep: Collection[int]) -> None:
        if self._work_dir.is_dir():
            for folder in list(self._work_dir.iterdir()):
                if folder.name.isdigit() and int(folder.name) not in keep:
                    await self.remove_work(int(folder.name), None)

    async def close(self) -> None:
        loop = asyncio.get_running_loop()
        for descriptor, _ in self._children.values():
            loop.remove_reader(descriptor)
            os.close(descriptor)
        self._children.clear()
        if self._nursery is not None and self._nursery.stdin is not None:
            self._nursery.stdin.close()
            await self._nursery.wait()


def _remove(folder: Path) -> None:
    end_left_over(folder)  # what still runs there would write on, into folders that are gone or another attempt's
    shutil.rmtree(folder, ignore_errors=True)
