"""Agents as processes of this machine.

An agent is forked from a nursery, which has all imports done, and gets a session of its own, so that it outlives the
server. What agents print goes to one file for all.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path

from millrace.engines.agent_maker import AgentMaker
from millrace.engines.container_starter import ContainerStarter
from millrace.folder_removal import remove_folder
from millrace.machine import is_running
from millrace.ports.jobs import AgentRecord, InstanceRef
from millrace.process_groups import end_left_over, process_start

__all__ = ["ENDPOINT_VARIABLE", "LocalEngine", "instance_folder", "process_start"]

ENDPOINT_VARIABLE = "MILLRACE_ENDPOINT_URL"
"""Where containers reach the server; the server sets it in its agents' environment."""

REGISTRATION_SECONDS = 60.0
"""How long a started agent may take to register before another one is started in its place."""


def instance_folder(work_dir: Path, job_id: int, index: int) -> Path:
    """Return the folder of one instance's working files."""
    return work_dir / str(job_id) / str(index)


class LocalEngine:
    """Forks agents from its nursery and watches their processes."""

    def __init__(
        self,
        work_dir: Path,
        log_file: Path,
        environment: Mapping[str, str],
        *,
        on_exit: Callable[[], None],
        maker: AgentMaker | None = None,
        starter: ContainerStarter | None = None,
        is_alone: bool = False,
    ) -> None:
        """Take where instances work, where agents print, their environment, and whom to tell when one has ended.

        A nursery that is given is its giver's to close. `is_alone` tells that no other machine has agents on it:
        one that seems to be another's was ours before a restart.
        """
        self._work_dir = work_dir
        self._log_file = log_file
        self._environment = dict(environment)
        self._on_exit = on_exit
        self._maker = maker or AgentMaker(log_file)
        self._owns_maker = maker is None
        self._starter = starter
        self._is_alone = is_alone
        self._children: dict[InstanceRef, tuple[int, float]] = {}

    def set_environment(self, environment: Mapping[str, str]) -> None:
        """Give agents that start from now on another environment."""
        self._environment = dict(environment)

    async def open(self) -> None:
        """Start the nursery; it does its imports while others go on."""
        await self._maker.open(self._environment)

    async def start(self, ref: InstanceRef) -> None:
        folder = instance_folder(self._work_dir, ref.job_id, ref.index)
        folder.mkdir(parents=True, exist_ok=True)
        process_id = await self._fork(ref, folder)
        if self._starter is not None:
            await self._starter.open(self._environment)
        try:
            descriptor = os.pidfd_open(process_id)
        except ProcessLookupError:  # ended already, most likely for want of a lease
            self._on_exit()
            return
        self._children[ref] = (descriptor, time.monotonic())
        asyncio.get_running_loop().add_reader(descriptor, self._reap, ref)

    async def _fork(self, ref: InstanceRef, folder: Path) -> int:
        """Ask the nursery for an agent and return its process id."""
        return await self._maker.fork(
            {
                "ref": [ref.job_id, ref.index, ref.attempt],
                "folder": str(folder),
                "log": str(self._log_file),
                "environment": self._environment,
            }
        )

    def _reap(self, ref: InstanceRef) -> None:
        descriptor, _ = self._children.pop(ref)
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)
        self._on_exit()

    def is_starting(self, ref: InstanceRef) -> bool:
        child = self._children.get(ref)
        return child is not None and time.monotonic() - child[1] < REGISTRATION_SECONDS

    def is_alive(self, agent: AgentRecord) -> bool | None:
        if agent.ref in self._children:
            return True
        runs = is_running(agent.host, agent.process_id, agent.process_start)
        return False if runs is None and self._is_alone else runs

    def nudge(self, agent: AgentRecord) -> None:
        self._signal(agent, signal.SIGUSR1)

    def suspend(self, agent: AgentRecord) -> None:
        self._signal(agent, signal.SIGTERM)

    def kill(self, agent: AgentRecord) -> None:
        self._signal(agent, signal.SIGKILL)

    def kill_started(self) -> None:
        """Kill the agents that this engine started, registered or not: nobody is to go on with their jobs."""
        for descriptor, _ in self._children.values():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)

    def _signal(self, agent: AgentRecord, number: signal.Signals) -> None:
        if self.is_alive(agent):
            with contextlib.suppress(ProcessLookupError):
                os.kill(agent.process_id, number)

    async def remove_work(self, job_id: int, index: int | None) -> None:
        folder = self._work_dir / str(job_id)
        if index is not None:
            folder = folder / str(index)
        await asyncio.to_thread(_remove, folder)

    async def sweep(self, list_kept: Callable[[], Awaitable[Collection[int]]]) -> None:
        if self._work_dir.is_dir():
            found = {int(folder.name) for folder in self._work_dir.iterdir() if folder.name.isdigit()}
            for job_id in found.difference(await list_kept()):
                await self.remove_work(job_id, None)

    async def close(self) -> None:
        loop = asyncio.get_running_loop()
        for descriptor, _ in self._children.values():
            loop.remove_reader(descriptor)
            os.close(descriptor)
        self._children.clear()
        if self._starter is not None:
            self._starter.close()
        if self._owns_maker:
            await self._maker.close()


def _remove(folder: Path) -> None:
    end_left_over(folder)  # what still runs there would write on, into folders that are gone or another attempt's
    remove_folder(folder)
