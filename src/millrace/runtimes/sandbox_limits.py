"""Watch what a container uses, and tell when it is more than it may.

Address-space limits break Java and CUDA, and control groups are rarely writable for users; so the container's
processes, those of its namespace, are counted several times a second. What they share is counted once, but only when
the quick sum is over the limit: telling shares takes the kernel a walk through all pages.
"""

import asyncio
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["SandboxLimits", "watch_limits"]

WATCH_SECONDS = 0.25
"""How often a container is looked at."""

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, kw_only=True, slots=True)
class SandboxLimits:
    """What one container may use; None is no limit."""

    memory_bytes: int | None = None
    processes: int | None = None
    """Processes and threads."""

    @property
    def any(self) -> bool:
        return self.memory_bytes is not None or self.processes is not None


async def watch_limits(init: int, limits: SandboxLimits, on_breach: Callable[[str], None]) -> None:
    """Look at a container, named by its first process, until it is gone or over a limit, which is told once."""
    while True:
        breach = await asyncio.to_thread(find_breach, init, limits)
        if breach is not None:
            on_breach(breach)
            return
        await asyncio.sleep(WATCH_SECONDS)


def find_breach(init: int, limits: SandboxLimits) -> str | None:
    """Return which limit the container is over, in words; None if it is over none, or gone."""
    members = list(_iter_members(init))
    if limits.processes is not None:
        threads = sum(_count_threads(member) for member in members)
        if threads > limits.processes:
            return f"{threads} processes and threads, the limit is {limits.processes}"
    if limits.memory_bytes is not None:
        used = sum(_resident_bytes(member) for member in members)
        if used > limits.memory_bytes:
            used = sum(_share_bytes(member) for member in members)
        if used > limits.memory_bytes:
            return f"{used} bytes of memory used, the limit is {limits.memory_bytes}"
    return None


def _iter_members(init: int) -> Iterator[Path]:
    """Yield the folders of /proc of a namespace's first process and all that descend from it.

    In a namespace of its own an orphan becomes the first process's child, so that none is left out but one that
    changes its parent while it is looked for; the next look finds it.
    """
    todo = [str(init)]
    while todo:
        process = Path("/proc", todo.pop())
        yield process
        try:
            for thread in (process / "task").iterdir():
                todo += (thread / "children").read_text().split()
        except OSError:  # gone
            continue


def _count_threads(process: Path) -> int:
    try:
        return sum(1 for _ in (process / "task").iterdir())
    except OSError:
        return 0


def _resident_bytes(process: Path) -> int:
    try:
        return int((process / "statm").read_bytes().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError):
        return 0


def _share_bytes(process: Path) -> int:
    """Return the process's share of the memory that it uses together with others (Pss)."""
    try:
        for line in (process / "smaps_rollup").read_text("ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return 0
