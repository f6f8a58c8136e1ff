"""What the machine is, which of its cores a process may use, and the processor time of processes."""

import os
import platform
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path

__all__ = ["TreeClock", "cpu_seconds", "descendants", "describe", "on_core", "pinned", "versions"]

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def describe() -> str:
    """Return the machine in a line: processor, cores, load."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    cores = len(os.sched_getaffinity(0))
    return f"{model}, {cores} cores, Linux {platform.release()}, load {os.getloadavg()[0]:.1f}"


def versions(*distributions: str) -> str:
    """Return the versions of Python and of installed distributions."""
    found = [f"{name} {metadata.version(name)}" for name in distributions]
    return ", ".join([f"Python {platform.python_version()}", *found])


def pinned(command: list[str], core: int) -> list[str]:
    """Return the command bound to one core, on a machine that has several."""
    cores = sorted(os.sched_getaffinity(0))
    return ["taskset", "-c", str(cores[core]), *command] if len(cores) > 1 else command


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Keep this thread, and threads that it starts meanwhile, on one core, on a machine that has several."""
    before = os.sched_getaffinity(0)
    if len(before) > 1:
        os.sched_setaffinity(0, {sorted(before)[core]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_seconds(*, children: bool = False) -> float:
    """Return the processor time of this process so far, or of its children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN if children else resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class TreeClock:
    """The processor time of a process and all its descendants, by looking often.

    What a descendant used between the last look and its end is missed: a few ticks of 10 ms a process at most.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._ticks: dict[int, int] = {}

    @contextmanager
    def looking(self, *, every: float) -> Iterator[None]:
        """Look as often, in a thread, while the block runs."""
        ended = threading.Event()

        def look_on() -> None:
            while not ended.wait(every):
                self.look()

        thread = threading.Thread(target=look_on)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def look(self) -> float:
        """Return the seconds used so far by all processes ever seen."""
        for process in descendants(self._root):
            with suppress(OSError):  # ended since it was listed
                fields = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()
                self._ticks[process] = int(fields[11]) + int(fields[12])
        return sum(self._ticks.values()) / _TICKS_PER_SECOND


def descendants(root: int) -> list[int]:
    """Return a process and all its descendants as they are just now."""
    found = []
    waiting = [root]
    while waiting:
        process = waiting.pop()
        try:
            children = Path(f"/proc/{process}/task/{process}/children").read_bytes().split()
        except OSError:  # ended since it was listed
            continue
        found.append(process)
        waiting += map(int, children)
    return found
