"""A process that has imported what an agent needs, and makes agents by forking.

Importing takes hundreds of milliseconds, forking two. The server talks to it over its standard input and output, a
line each: a request names an attempt and its environment, the answer is the agent's process id. It ends when the
server's end of the pipe closes; its children are in sessions of their own and go on.
"""

import gc
import json
import os
import signal
import sys
from typing import Any, NoReturn

__all__ = ["main"]

_FIRST_INHERITED, _END_OF_DESCRIPTORS = 3, 2**31 - 1
"""Descriptors beyond the standard ones."""


def main() -> int:
    """Fork an agent for each request until the input ends."""
    os.closerange(_FIRST_INHERITED, _END_OF_DESCRIPTORS)  # the server's event loop leaves the pipes' own numbers open
    from millrace import agent  # what this process is for: it is here before the first request

    agent.warm_up()
    gc.collect()
    gc.freeze()  # objects of the imports are never collected, so that forks go on sharing their pages
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries children; the server watches them itself
    for line in sys.stdin.buffer:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _become_agent(agent.main, request)
        sys.stdout.buffer.write(b"%d\n" % child)
        sys.stdout.buffer.flush()
    return 0


def _become_agent(run: Any, request: dict[str, Any]) -> NoReturn:
    """Be the agent that the request asks for; never return."""
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDONLY)
        log = os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        for source, target in ((null, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        os.closerange(_FIRST_INHERITED, _END_OF_DESCRIPTORS)
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environment"])
        code = run([str(number) for number in request["ref"]])
    except BaseException:  # noqa: BLE001  # whatever it is: told, and then the end of this process
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
