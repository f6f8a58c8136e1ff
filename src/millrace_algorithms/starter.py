"""A process that has the libraries of all built-in algorithms loaded, and makes model servers by forking.

Loading them takes a model server most of the time until it answers. Whoever wants one connects to the socket and sends
one message: four bytes of length, then JSON with `arguments`, `environment` and `folder`, and with it, as a descriptor,
where the program is to print. The answers are lines of JSON: {"process_id": n} at once, {"code": n} once it has ended
(negative for a signal). When the other end closes the connection, or ends, the program and all of its group are killed.

    python -m millrace_algorithms.starter SOCKET

It takes no more wishes once its standard input is closed, and ends when its last child has.
"""

import ctypes
import gc
import json
import os
import random
import selectors
import signal
import socket
import struct
import sys
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from millrace_algorithms.__main__ import main as run_algorithm
from millrace_algorithms.blas_threads import limit_threads_of_serving
from millrace_algorithms.registry import ALGORITHMS

__all__ = ["main"]

MAX_MESSAGE_BYTES = 1024 * 1024
MESSAGE_SECONDS = 5.0
"""How long a message may take to come; it is sent in one piece by a process of this machine."""

BACKLOG = 128
_PR_SET_PDEATHSIG = 1


@dataclass(eq=False, slots=True)
class _Child:
    """A program and whoever wanted it."""

    process_id: int
    handle: int
    """A descriptor that becomes readable when it ends."""
    wanted_by: socket.socket


class Starter:
    """Forks programs and tells how they end."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._children: set[_Child] = set()
        self._is_closing = False

    def run(self) -> None:
        """Serve until the standard input is closed and no child is left."""
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(0, selectors.EVENT_READ, self._close)
        while not self._is_closing or self._children:
            for key, _ in self._selector.select():
                key.data()

    def _close(self) -> None:
        if os.read(0, 4096):
            return
        self._is_closing = True
        self._selector.unregister(0)
        self._selector.unregister(self._listener)
        self._listener.close()

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.settimeout(MESSAGE_SECONDS)
        output = -1
        try:
            message, output = _receive(connection)
            child = self._fork(connection, message, output)
            connection.sendall(b'{"process_id": %d}\n' % child.process_id)
        except (OSError, ValueError, KeyError) as exc:
            print(f"starter: {type(exc).__name__}: {exc}", file=sys.stderr, flush=True)
            connection.close()
        finally:
            if output >= 0:
                os.close(output)

    def _fork(self, connection: socket.socket, message: dict[str, Any], output: int) -> _Child:
        arguments, environment, folder = message["arguments"], message["environment"], message["folder"]
        parent = os.getpid()
        process_id = os.fork()
        if process_id == 0:
            _become(arguments, environment, folder, output, parent)
        child = _Child(process_id, os.pidfd_open(process_id), connection)
        self._children.add(child)
        self._selector.register(child.handle, selectors.EVENT_READ, lambda: self._bury(child))
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._hear(child))
        return child

    def _hear(self, child: _Child) -> None:
        """The other end says nothing as long as it lives."""
        with suppress(OSError):
            if child.wanted_by.recv(4096):
                return
        self._selector.unregister(child.wanted_by)
        child.wanted_by.close()
        with suppress(ProcessLookupError):
            os.killpg(child.process_id, signal.SIGKILL)
        with suppress(ProcessLookupError):  # it may not lead a group yet
            os.kill(child.process_id, signal.SIGKILL)

    def _bury(self, child: _Child) -> None:
        # What it has left in its group is killed while the number is still taken.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.process_id, signal.SIGKILL)
        _, status = os.waitpid(child.process_id, 0)
        self._selector.unregister(child.handle)
        os.close(child.handle)
        self._children.discard(child)
        if child.wanted_by.fileno() < 0:
            return
        self._selector.unregister(child.wanted_by)
        with suppress(OSError):
            child.wanted_by.sendall(b'{"code": %d}\n' % os.waitstatus_to_exitcode(status))
        child.wanted_by.close()


def _receive(connection: socket.socket) -> tuple[dict[str, Any], int]:
    """Return the message and the descriptor that came with it."""
    data, descriptors, _, _ = socket.recv_fds(connection, 65536, 1)
    output = descriptors[0] if descriptors else -1
    try:
        if len(data) < 4 or output < 0:
            raise ValueError("a message without length or descriptor")
        length = struct.unpack("!I", data[:4])[0]
        if length > MAX_MESSAGE_BYTES:
            raise ValueError(f"a message of {length} bytes, at most {MAX_MESSAGE_BYTES} are taken")
        body = data[4:]
        while len(body) < length:
            piece = connection.recv(65536)
            if not piece:
                raise ValueError("a message that breaks off")
            body += piece
        message: dict[str, Any] = json.loads(body)
    except BaseException:
        if output >= 0:
            os.close(output)
        raise
    return message, output


def _become(arguments: list[str], environment: dict[str, str], folder: str, output: int, parent: int) -> NoReturn:
    """Be the program, as if it had been started by itself; never return."""
    code = 1
    try:
        os.setsid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it ended between fork and prctl
            os._exit(137)
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        os.closerange(3, os.sysconf("SC_OPEN_MAX") if os.sysconf("SC_OPEN_MAX") > 0 else 65536)
        sys.stdout.reconfigure(line_buffering=True, write_through=True)  # type: ignore[union-attr]
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = ["millrace_algorithms", *arguments]
        random.seed()
        gc.unfreeze()
        code = run_algorithm(arguments, os.environ)
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else 1
    except BaseException:  # noqa: BLE001  # whatever it is: told, and then the end of this process
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main(path: str) -> int:
    """Load the libraries, listen, and serve."""
    limit_threads_of_serving(os.environ)  # before numpy: a library's threads would not survive the fork
    for info in ALGORITHMS.values():
        import_module(info.module)
    import_module("millrace_algorithms.serving.program")
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    draft = f"{path}.{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(draft)
        Path(draft).chmod(0o600)
        listener.listen(BACKLOG)
        Path(draft).rename(path)  # whoever finds it may connect
        gc.collect()
        gc.freeze()  # objects of the imports are never collected, so that forks go on sharing their pages
        Starter(listener).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
