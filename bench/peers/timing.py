"""Time a peer's job in its own process, twice in one session, and print the figures as JSON."""

import json
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["report"]

_TICKS = os.sysconf("SC_CLK_TCK")


def report(started: float, job: Callable[[str], None], targets: tuple[str, str]) -> None:
    """Run the job for each target and print what it took; `started` is when the process began, by time.time()."""
    ready = time.time()
    figures = {"start_seconds": ready - started}
    for name, target in zip(("first", "second"), targets, strict=True):
        cpu, begun = _cpu(), time.time()
        job(target)
        figures |= {f"{name}_seconds": time.time() - begun, f"{name}_cpu_seconds": _cpu() - cpu}
    print(json.dumps(figures), flush=True)


def _cpu() -> float:
    """Return the processor time of this process and all below it, those that ended in between left out."""
    own = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = own.ru_utime + own.ru_stime
    waiting = [os.getpid()]
    while waiting:
        process = waiting.pop()
        try:
            fields = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()
            children = [
                int(child)
                for thread in Path(f"/proc/{process}/task").iterdir()
                for child in (thread / "children").read_bytes().split()
            ]
        except OSError:
            continue
        total += (int(fields[11]) + int(fields[12])) / _TICKS
        waiting += children
    return total
