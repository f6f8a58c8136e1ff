"""Containers as plain processes: for images whose programs take their paths and port from the environment.

There is no isolation here beyond a process group, a working directory and an environment of their own. The program
finds its /opt/ml under $SAGEMAKER_BASE_DIR/opt/ml and its port in SAGEMAKER_BIND_TO_PORT (containers.md 9.6).
"""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from millrace.errors import ImageUnavailable, RuntimeUnavailable
from millrace.ports.runtime import Address, ContainerSpec, ExitStatus, RuntimeReport
from millrace.process_groups import ProcessGroup, end_left_over
from millrace.runtimes.free_ports import ReservedPort, reserve_again, reserve_port
from millrace.runtimes.lines import LineProtocol
from millrace.runtimes.started import STARTER_VARIABLE, StartedProcess, start_process
from millrace.runtimes.syscalls import die_with_parent, hand_on_only

__all__ = ["ProcessRuntime"]

log = logging.getLogger(__name__)

DRAIN_SECONDS = 5.0
"""How long output is read on after the program's end."""

_SOCKET_PATH_LIMIT = 100
_READ_AT_START = ("PYTHON", "LD_", "MALLOC_", "GLIBC_", "OMP_", "GOMP_", "KMP_", "OPENBLAS_", "MKL_", "LC_", "LANG")
"""Variables that interpreter and libraries read once, when they are loaded."""

_LOADS_CODE = ("PYTHON", "LD_", "GLIBC_", "GCONV_")
_LEADS_TO_CODE = ("PATH", "HOME", "TMPDIR")
"""Variables that make an interpreter or its libraries load code from where they say."""

_INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "PYTHONPATH", "HOME", "TMPDIR")


class ProcessRuntime:
    """Starts containers as child processes that die with their parent."""

    def __init__(self, environ: Mapping[str, str], *, drain_seconds: float = DRAIN_SECONDS) -> None:
        """Take the environment from which PATH and its like are handed on; nothing else of it is."""
        self._drain_seconds = drain_seconds
        self._inherited = {name: environ[name] for name in _INHERITED if name in environ}
        starter = environ.get(STARTER_VARIABLE)
        self._starter = None if starter is None else Path(starter)

    @property
    def name(self) -> str:
        return "process"

    async def launch(self, spec: ContainerSpec) -> "ProcessContainer":
        """Start the program in a session of its own.

        Raises:
            ImageUnavailable: The program of the image can't be started.
            RuntimeUnavailable: The image needs isolation that this runtime has not.
        """
        if not spec.image.honours_base_dir:
            raise RuntimeUnavailable(
                f"image {spec.image.uri} needs /opt/ml and port 8080 of its own, which the process runtime can't give"
            )
        base = spec.opt_ml.parent.parent
        request = _allowed(spec)
        environment = {
            **self._inherited,
            "PYTHONUNBUFFERED": "1",
            **spec.image.environment,
            **request,
            "SAGEMAKER_BASE_DIR": str(base),
        }
        address: Address | None = None
        port: ReservedPort | None = None
        if spec.serves:
            address, port = _take_address(base, environment, spec)
        lines = LineProtocol(spec.on_line)
        transport: asyncio.SubprocessTransport | StartedProcess | None = None
        try:
            if self._starter is not None and _may_be_forked(spec, request):
                arguments = spec.command[len(spec.image.command) - 1 :]
                transport = await start_process(
                    self._starter, arguments, environment=environment, folder=base, lines=lines
                )
            if transport is None:
                transport = await _execute(spec, environment, base, lines)
        except BaseException:
            if port is not None:
                port.release()
            raise
        container = ProcessContainer(transport, lines, address, self._drain_seconds, base, port)
        if lines.ended.done():  # a short program
            container.end_group()
        lines.on_exit = container.end_group
        return container

    async def end_left_over(self, folder: Path) -> None:
        await asyncio.to_thread(end_left_over, folder)

    async def probe(self) -> RuntimeReport:
        return RuntimeReport(
            name=self.name,
            works=sys.platform == "linux",
            detail="runs built-in algorithms and host images as plain processes, without isolation",
        )


def _take_address(base: Path, environment: dict[str, str], spec: ContainerSpec) -> tuple[Address, ReservedPort | None]:
    """Choose where the program is to listen and tell it in the environment; the port, if it is one, is reserved."""
    path = str(base / "serve.sock")
    if spec.image.built_in is not None and len(path) < _SOCKET_PATH_LIMIT:
        Path(path).unlink(missing_ok=True)
        environment["MILLRACE_BIND_UNIX"] = path
        return Address(path=path), None
    port = reserve_port() if spec.address is None else reserve_again(spec.address.port)
    environment["SAGEMAKER_BIND_TO_PORT"] = str(port.number)
    environment["SAGEMAKER_BIND_ADDRESS"] = "127.0.0.1"
    environment["SAGEMAKER_SAFE_PORT_RANGE"] = f"{port.number}-{port.number}"
    return Address(port=port.number), port


class ProcessContainer:
    """A child process and all that it started."""

    def __init__(
        self,
        transport: "asyncio.SubprocessTransport | StartedProcess",
        lines: LineProtocol,
        address: Address | None,
        drain_seconds: float,
        folder: Path,
        port: ReservedPort | None = None,
    ) -> None:
        self._port = port
        self._transport = transport
        self._drain_seconds = drain_seconds
        self._lines = lines
        self._address = address
        self._pid = transport.get_pid()
        self._folder = folder
        self._group = ProcessGroup.of_leader(self._pid)
        if self._group is not None:
            try:
                self._group.note(folder)
            except OSError:  # the container runs; only what it would leave behind a killed agent could not be found
                log.warning("process group not noted", extra={"folder": str(folder)}, exc_info=True)

    @property
    def address(self) -> Address | None:
        return self._address

    @property
    def process_id(self) -> int:
        return self._pid

    async def wait(self) -> ExitStatus:
        """Return once the process has ended and its last line was delivered."""
        code = await asyncio.shield(self._lines.ended)
        # A child that left the group may hold the pipe open for as long as it likes; the container has ended.
        await asyncio.wait({self._lines.drained}, timeout=self._drain_seconds)
        self._transport.close()
        return ExitStatus(128 - code if code < 0 else code)

    def end_group(self) -> None:
        """Kill what the ended program left running in its group: it would hold ports and files for ever.

        At once, and once: while there is something left the group's number is taken, later it may be a stranger's.
        """
        _signal_group(self._pid, signal.SIGKILL)
        if self._port is not None:
            self._port.release()
        if self._group is not None:
            self._group.forget(self._folder)

    async def stop(self, grace_seconds: float) -> ExitStatus:
        """Send SIGTERM to the group, SIGKILL after the grace or where the wait is cancelled."""
        if not self._lines.ended.done():
            _signal_group(self._pid, signal.SIGTERM)
            try:
                await asyncio.wait({self._lines.ended}, timeout=grace_seconds)
            finally:
                if not self._lines.ended.done():  # nor does it go on where nobody waits any more
                    _signal_group(self._pid, signal.SIGKILL)
        return await self.wait()


async def _execute(
    spec: ContainerSpec, environment: Mapping[str, str], base: Path, lines: LineProtocol
) -> asyncio.SubprocessTransport:
    try:
        transport, _ = await asyncio.get_running_loop().subprocess_exec(
            lambda: lines,
            *spec.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environment,
            cwd=base,
            start_new_session=True,
            preexec_fn=_prepare_child(os.getpid()),
        )
    except OSError as exc:
        raise ImageUnavailable(f"image {spec.image.uri}: can't start {spec.command[0]!r}: {exc}") from exc
    return transport


def _prepare_child(parent: int) -> Callable[[], None]:
    stay_with_parent = die_with_parent(parent)

    def prepare() -> None:
        stay_with_parent()
        hand_on_only()

    return prepare


def _allowed(spec: ContainerSpec) -> Mapping[str, str]:
    """Return the variables of a request that its program may have.

    A built-in program is ours and runs without isolation: what would make it load other code is left out, and told.
    """
    if spec.image.built_in is None:
        return spec.environment
    refused = sorted(name for name in spec.environment if name.startswith(_LOADS_CODE) or name in _LEADS_TO_CODE)
    if refused:
        text = f"millrace: variables that built-in algorithms don't take are left out: {', '.join(refused)}"
        spec.on_line(time.time_ns() // 1_000_000, text)
    return {name: value for name, value in spec.environment.items() if name not in refused}


def _may_be_forked(spec: ContainerSpec, request: Mapping[str, str]) -> bool:
    """Whether the program is one that the starter has, and is asked for nothing that must be known before it starts."""
    given = (*request, *spec.image.environment)
    is_whole = tuple(spec.command) == (*spec.image.command, "serve")
    return spec.image.built_in is not None and is_whole and not any(name.startswith(_READ_AT_START) for name in given)


def _signal_group(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return
