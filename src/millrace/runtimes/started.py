"""Model servers of built-in algorithms from the starter, which has their libraries loaded."""

import asyncio
import json
import os
import signal
import socket
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from millrace.runtimes.lines import LineProtocol

__all__ = ["STARTER_VARIABLE", "StartedProcess", "start_process"]

STARTER_VARIABLE = "MILLRACE_STARTER"
"""Names the starter's socket in the environment of agents."""

ANSWER_SECONDS = 5.0
"""How long the starter may take to fork; it does one thing at a time, in milliseconds."""


class StartedProcess:
    """A process that the starter forked; it has of a SubprocessTransport what a container needs."""

    def __init__(self, process_id: int, connection: asyncio.StreamWriter, output: asyncio.ReadTransport) -> None:
        self._process_id = process_id
        self._connection = connection
        self._output = output
        self._code: int | None = None
        self._watching: asyncio.Task[None] | None = None

    def get_pid(self) -> int:
        """Return its process id."""
        return self._process_id

    def get_returncode(self) -> int | None:
        """Return its exit code, negative for a signal; None while it runs."""
        return self._code

    def close(self) -> None:
        """Read its output no more, and let the starter kill what is left of it."""
        self._output.close()
        self._connection.close()

    def watch(self, reader: asyncio.StreamReader, lines: LineProtocol) -> None:
        """Tell `lines` when it ends."""
        self._watching = asyncio.create_task(self._watch(reader, lines))

    async def _watch(self, reader: asyncio.StreamReader, lines: LineProtocol) -> None:
        answer = b""
        with suppress(ConnectionError):
            answer = await reader.readline()
        # Without a word the starter itself has ended, and its children with it.
        self._code = json.loads(answer)["code"] if answer else -signal.SIGKILL
        lines.process_exited()


class _Output(asyncio.Protocol):
    """Hands on what the process prints."""

    def __init__(self, lines: LineProtocol) -> None:
        self._lines = lines

    def data_received(self, data: bytes) -> None:
        self._lines.pipe_data_received(1, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lines.pipe_connection_lost(1, exc)


async def start_process(
    starter: Path, arguments: Sequence[str], *, environment: Mapping[str, str], folder: Path, lines: LineProtocol
) -> StartedProcess | None:
    """Return a new process, or None if the starter is not there or does not answer: it is to be started by itself.

    Args:
        arguments: Of `python -m millrace_algorithms`.
    """
    message = json.dumps({"arguments": list(arguments), "environment": dict(environment), "folder": str(folder)})
    body = message.encode()
    connection = socket.socket(socket.AF_UNIX)
    connection.setblocking(False)
    reads, writes = os.pipe2(os.O_CLOEXEC)
    pipe = os.fdopen(reads, "rb", buffering=0)  # the transport closes it
    writer = None
    try:
        connection.connect(str(starter))
        sent = socket.send_fds(connection, [struct.pack("!I", len(body)) + body], [writes])
        reader, writer = await asyncio.open_unix_connection(sock=connection)
        writer.write((struct.pack("!I", len(body)) + body)[sent:])
        async with asyncio.timeout(ANSWER_SECONDS):
            answer = await reader.readline()
        process_id = int(json.loads(answer)["process_id"])
    except (OSError, ValueError, TimeoutError):
        pipe.close()
        (writer or connection).close()
        return None
    finally:
        os.close(writes)
    output, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: _Output(lines), pipe)
    started = StartedProcess(process_id, writer, output)
    lines.connection_made(started)  # type: ignore[arg-type]
    started.watch(reader, lines)
    return started
