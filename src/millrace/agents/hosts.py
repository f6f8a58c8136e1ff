"""The hosts of a job that one agent owns: their folders and containers, from the start to the end of all of them."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from millrace.agents.backends import AgentBackends
from millrace.agents.job_config import on_this_machine
from millrace.agents.log_stream import LogStream
from millrace.errors import FAILURE_REASON_LIMIT
from millrace.folder_removal import remove_folder
from millrace.jobs.job import Job
from millrace.ports.runtime import Container, ContainerSpec, ExitStatus, Image
from millrace.told import printable

__all__ = ["Ending", "Host", "HostGroup", "exit_reason"]

_LABELS = ("AlgorithmError:", "ClientError:", "InternalServerError:")

OnLine = Callable[[int, str], None]


@dataclass
class Host:
    """One host of the job and what runs on it."""

    name: str
    opt_ml: Path
    stream: LogStream
    container: Container | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """How the containers of a job ended.

    `failed` is the first host, in their order, that ended with an error by itself, and how it ended.
    """

    failed: tuple[Host, ExitStatus] | None = None
    stopped: bool = False
    time_limit_reached: bool = False

    @property
    def interrupted(self) -> bool:
        """Whether the containers were made to end."""
        return self.stopped or self.time_limit_reached


class HostGroup:
    """All hosts of one job. The first failure, a stop or the time limit ends all of them."""

    def __init__(
        self,
        job: Job,
        hosts: Sequence[Host],
        names: Sequence[str],
        *,
        folder: Path,
        backends: AgentBackends,
        max_runtime_seconds: float,
        stop_grace_seconds: float,
    ) -> None:
        self.hosts = hosts
        self._job = job
        self._names = names
        self._folder = folder
        self._backends = backends
        self._session = backends.session
        self._max_runtime = max_runtime_seconds
        self._grace = stop_grace_seconds

    @classmethod
    async def prepare(
        cls,
        job: Job,
        names: Sequence[str],
        folder: Path,
        *,
        image: Image,
        parts: Sequence[str],
        log_group: str,
        backends: AgentBackends,
        max_runtime_seconds: float,
        stop_grace_seconds: float,
    ) -> "HostGroup":
        """Make clean folders for the hosts; what an earlier attempt still runs there is ended first.

        Args:
            parts: Folders below /opt/ml that are there when a container starts.
        """
        await backends.runtime.end_left_over(folder)
        epoch = int(job.created_at.timestamp())
        hosts = []
        for name in names[:1] if image.single_host else names:
            opt_ml = folder / name / "opt" / "ml"
            remove_folder(folder / name)
            for part in parts:
                (opt_ml / part).mkdir(parents=True, exist_ok=True)
            stream = LogStream(backends.logs, log_group, f"{job.name}/{name}-{epoch}")
            hosts.append(Host(name=name, opt_ml=opt_ml, stream=stream))
        return cls(
            job,
            hosts,
            names,
            folder=folder,
            backends=backends,
            max_runtime_seconds=max_runtime_seconds,
            stop_grace_seconds=stop_grace_seconds,
        )

    async def run(
        self,
        image: Image,
        command: Sequence[str],
        environment: Callable[[Host, Mapping[str, str]], Mapping[str, str]],
        *,
        background: Sequence[asyncio.Task[None]],
        network_isolation: bool = False,
        read_only: Sequence[str] = (),
        on_line: OnLine | None = None,
    ) -> Ending:
        """Start a container on each host and return once all have ended.

        Args:
            environment: A host's variables, given temporary keys of the execution role.
            background: What goes on beside the containers; it is cancelled with their end. If one of them ends, it has
                failed, and so has the job.
            on_line: What else is to see each log line.

        Raises:
            LeaseLost: Another attempt has taken over before a container was started.
        """
        try:
            await self._session.check_lease()  # bringing data took a while: the folder may be another attempt's
            if self._session.stop.is_set():
                return Ending(stopped=True)
            credentials = await self._backends.mint_credentials(self._job.name)
            for host in self.hosts:
                host.container = await self._backends.runtime.launch(
                    ContainerSpec(
                        name=f"{self._job.name}-{host.name}",
                        image=image,
                        command=command if image.root is not None else on_this_machine(command, host.opt_ml),
                        environment=environment(host, credentials),
                        opt_ml=host.opt_ml,
                        host_name=host.name,
                        hosts=self._names,
                        network=self._folder / "network",
                        network_isolation=network_isolation,
                        read_only=read_only,
                        on_line=partial(_write_line, host.stream, on_line),
                    )
                )
            return await self._watch(background)
        finally:
            await self._end(background)

    async def _watch(self, background: Sequence[asyncio.Task[None]]) -> Ending:
        """Wait for all hosts to end well, for the first to fail, for a stop or for the time limit."""
        running = {asyncio.create_task(host.container.wait()): host for host in self.hosts if host.container}
        stop = asyncio.create_task(self._session.stop.wait())
        limit = asyncio.create_task(self._session.clock.sleep(self._seconds_left()))
        statuses: dict[str, ExitStatus] = {}
        done: set[asyncio.Task[Any]]
        try:
            while running:
                done, _ = await asyncio.wait({*running, stop, limit, *background}, return_when=asyncio.FIRST_COMPLETED)
                for task in [task for task in running if task in done]:
                    statuses[running.pop(task).name] = task.result()
                # First: a program that was fed half of its data may well end, even well, for that reason.
                for broken in [task for task in background if task in done]:
                    broken.result()  # raises: a background task has no other way to end
                failed = next(((it, statuses[it.name]) for it in self.hosts if not _ended_well(it, statuses)), None)
                if failed is not None or not running:
                    return Ending(failed=failed)
                if stop in done:
                    return Ending(stopped=True)
                if limit in done:
                    return Ending(time_limit_reached=True)
            return Ending()
        finally:
            for unfinished in (*running, stop, limit):
                unfinished.cancel()

    def _seconds_left(self) -> float:
        """The time limit counts from the job's start, over all attempts."""
        started = self._job.started_at or self._session.clock.now()
        used = (self._session.clock.now() - started).total_seconds()
        return max(0.0, self._max_runtime - used)

    async def _end(self, background: Sequence[asyncio.Task[None]]) -> None:
        stopping = [host.container.stop(self._grace) for host in self.hosts if host.container is not None]
        await asyncio.gather(*stopping)
        for task in background:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task

    def flush(self) -> None:
        """Store the log lines that still wait."""
        for host in self.hosts:
            host.stream.flush()


def exit_reason(text: str, status: ExitStatus, *, label: str) -> str:
    """Word a container's failure; a long text is cut so that the exit code still fits behind it.

    Source:
        containers.md 2.7.
    """
    if not text.startswith(_LABELS):
        text = f"{label}: {text}"
    text = printable(text).rstrip()
    suffix = f"{_killed(status)}, exit code: {status.code}"
    return text[: FAILURE_REASON_LIMIT - len(suffix)] + suffix


def _killed(status: ExitStatus) -> str:
    if status.code != 137:
        return ""
    if status.limit is not None:
        return f" (killed: {status.limit})"
    return " (killed by signal 9 (SIGKILL), perhaps by the kernel for want of memory)"


def _write_line(stream: LogStream, also: OnLine | None, timestamp_ms: int, line: str) -> None:
    stream.write(timestamp_ms, line)
    if also is not None:
        also(timestamp_ms, line)


def _ended_well(host: Host, statuses: Mapping[str, ExitStatus]) -> bool:
    """Whether a host has ended well, or has not ended."""
    status = statuses.get(host.name)
    return status is None or status.ok
