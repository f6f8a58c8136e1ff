"""A running container of the sandbox: bubblewrap, the first process of its namespace, and the program below that.

Bubblewrap waits outside. Inside, its other half is process 1, which has no default actions for signals; the program is
its first child. So SIGTERM goes to the program and SIGKILL to process 1, with which the kernel ends all processes of
the namespace.
"""

import asyncio
import json
import logging
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from millrace.errors import RuntimeUnavailable
from millrace.folder_removal import remove_folder
from millrace.ports.runtime import Address, ExitStatus
from millrace.process_groups import ProcessGroup, oldest_child
from millrace.runtimes.account_switch import SWITCH_FAILED
from millrace.runtimes.descriptors import read_to_end
from millrace.runtimes.lines import LineProtocol
from millrace.runtimes.sandbox_limits import SandboxLimits, watch_limits
from millrace.runtimes.sandbox_network import SandboxNetwork

__all__ = ["NOT_STARTED", "SANDBOX_FOLDER", "FirstWords", "SandboxContainer"]

log = logging.getLogger(__name__)

SANDBOX_FOLDER = "sandbox"
"""Where below a container's folder its root is kept."""

SET_UP_SECONDS = 30.0
"""How long bubblewrap may take to set a container up; it takes some 10 ms."""

KILLED = 128 + signal.SIGKILL
NOT_STARTED = 127
"""The status of a program that is not there; Docker's and the shell's."""

_EXEC_FAILED, _CHDIR_FAILED = "bwrap: execvp ", "bwrap: Can't chdir to "


class FirstWords:
    """Hands lines on, and keeps the first: before the program starts they are bubblewrap's."""

    def __init__(self, on_line: Callable[[int, str], None]) -> None:
        self._on_line = on_line
        self.first: str | None = None

    def __call__(self, timestamp_ms: int, line: str) -> None:
        if self.first is None:
            self.first = line
            prefix = next((it for it in (_EXEC_FAILED, SWITCH_FAILED) if line.startswith(it)), None)
            if prefix is not None:
                program, _, why = line.removeprefix(prefix).partition(": ")
                line = f"the image has no program {program!r} that could be started: {why}"
            elif line.startswith(_CHDIR_FAILED):
                folder, _, why = line.removeprefix(_CHDIR_FAILED).partition(": ")
                line = f"the image has no working directory {folder!r}: {why}"
        self._on_line(timestamp_ms, line)

    @property
    def is_not_started(self) -> bool:
        """Whether bubblewrap said that it can't become the program."""
        return self.first is not None and self.first.startswith((_EXEC_FAILED, _CHDIR_FAILED, SWITCH_FAILED))


class SandboxContainer:
    """A container from its first process to the end of its last."""

    def __init__(
        self,
        transport: asyncio.SubprocessTransport,
        lines: LineProtocol,
        said: FirstWords,
        *,
        address: Address | None,
        folder: Path,
        drain_seconds: float,
        on_end: Callable[[], None],
    ) -> None:
        self._transport = transport
        self._lines = lines
        self._said = said
        self._address = address
        self._folder = folder
        self._drain_seconds = drain_seconds
        self._on_end: Callable[[], None] | None = on_end
        self._pid = transport.get_pid()
        self._init = 0
        self._init_handle = -1
        self._limit: str | None = None
        self._watch: asyncio.Task[None] | None = None
        self._removal: asyncio.Task[None] | None = None
        self._groups: list[tuple[ProcessGroup, Path]] = []
        self._note(self._pid, folder)

    @property
    def address(self) -> Address | None:
        return self._address

    @property
    def process_id(self) -> int:
        return self._init

    async def set_up(self, info: int, network: SandboxNetwork, limits: SandboxLimits) -> None:
        """Wait until all is mounted and the program is about to start.

        Raises:
            RuntimeUnavailable: Bubblewrap could not do it; the text has what it said.
        """
        try:
            async with asyncio.timeout(SET_UP_SECONDS):
                document = await read_to_end(info)
            self._init = int(json.loads(document)["child-pid"])
            self._init_handle = os.pidfd_open(self._init)
        except (TimeoutError, ValueError, KeyError, ProcessLookupError) as exc:
            self._transport.kill()
            await self._lines.ended
            await asyncio.wait({self._lines.drained}, timeout=self._drain_seconds)
            self._transport.close()
            raise RuntimeUnavailable(f"bubblewrap can't set a container up: {self._said.first or exc!r}") from exc
        self._note(self._init, self._folder / SANDBOX_FOLDER)
        await network.choose_process_ids(self._init)
        if limits.any:
            self._watch = asyncio.create_task(watch_limits(self._init, limits, self._breach))
        if self._lines.ended.done():  # killed meanwhile
            self._finish()
        self._lines.on_exit = self._finish

    def abandon(self) -> None:
        """Kill what was started of a container that nobody will have; its network is left to the caller."""
        self._on_end = None
        with suppress(ProcessLookupError):
            self._transport.kill()
        self._finish()
        self._transport.close()

    def _note(self, leader: int, folder: Path) -> None:
        group = ProcessGroup.of_leader(leader)
        if group is None:
            return
        try:
            group.note(folder)
        except OSError:  # the container runs; only what it would leave behind a killed agent could not be found
            log.warning("process group not noted", extra={"folder": str(folder)}, exc_info=True)
        self._groups.append((group, folder))

    def _breach(self, limit: str) -> None:
        self._limit = limit
        self._kill()

    def _finish(self) -> None:
        """Let go of what was held for the container; its processes are dead or about to be."""
        self._kill()
        if self._watch is not None:
            self._watch.cancel()
        for group, folder in self._groups:
            group.forget(folder)
        if self._init_handle >= 0:
            os.close(self._init_handle)
            self._init_handle = -1
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end()

    async def wait(self) -> ExitStatus:
        """Return once the program has ended and its last line was delivered."""
        code = await asyncio.shield(self._lines.ended)
        await asyncio.wait({self._lines.drained}, timeout=self._drain_seconds)
        self._transport.close()
        # What it wrote beside /opt/ml is of no use; seldom is this more than a few milliseconds.
        await asyncio.shield(self._remove_root())
        if self._limit is not None:
            return ExitStatus(KILLED, self._limit)
        if self._said.is_not_started:
            return ExitStatus(NOT_STARTED)
        return ExitStatus(128 - code if code < 0 else code)

    def _remove_root(self) -> "asyncio.Task[None]":
        if self._removal is None:
            removal = asyncio.to_thread(remove_folder, self._folder / SANDBOX_FOLDER)
            self._removal = asyncio.create_task(removal)
        return self._removal

    async def stop(self, grace_seconds: float) -> ExitStatus:
        """Send SIGTERM to the program, after the grace (or where the wait is cancelled) SIGKILL to all."""
        if not self._lines.ended.done():
            self._terminate()
            try:
                await asyncio.wait({self._lines.ended}, timeout=grace_seconds)
            finally:
                if not self._lines.ended.done():  # nor does it go on where nobody waits any more
                    self._kill()
        return await self.wait()

    def _terminate(self) -> None:
        program = oldest_child(self._init)
        if program is None:  # not started yet
            self._kill()
            return
        with suppress(ProcessLookupError):
            handle = os.pidfd_open(program)
            try:
                # Looked at again: the number may have been given to a stranger before we had a handle on it.
                if oldest_child(self._init) == program:
                    signal.pidfd_send_signal(handle, signal.SIGTERM)
            finally:
                os.close(handle)

    def _kill(self) -> None:
        if self._init_handle >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._init_handle, signal.SIGKILL)
