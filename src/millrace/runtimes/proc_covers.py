"""What of /proc is the whole machine's, not a container's: shown read-only, or not at all.

The kernel guards most of it by the number of a file's owner alone, so that root in a container of the machine's root
could set sysctls, whatever its capabilities. The lists are Docker's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

__all__ = ["Cover", "ProcCover", "proc_covers"]


class Cover(Enum):
    """What a container sees instead of an entry of /proc."""

    READ_ONLY = auto()
    EMPTY_FILE = auto()
    EMPTY_FOLDER = auto()


@dataclass(frozen=True, slots=True)
class ProcCover:
    """One entry of /proc and what is seen of it."""

    path: str
    cover: Cover


_READ_ONLY = ("bus", "fs", "irq", "sys", "sysrq-trigger")
_MASKED = ("acpi", "kcore", "keys", "latency_stats", "sched_debug", "scsi", "timer_list", "timer_stats")


def proc_covers(proc: Path = Path("/proc")) -> list[ProcCover]:
    """Return how to cover what this kernel has."""
    found = [*_existing(proc, _READ_ONLY, lambda _: Cover.READ_ONLY)]
    return found + _existing(proc, _MASKED, lambda path: Cover.EMPTY_FOLDER if path.is_dir() else Cover.EMPTY_FILE)


def _existing(proc: Path, names: tuple[str, ...], choose: Callable[[Path], Cover]) -> list[ProcCover]:
    return [ProcCover(f"/proc/{name}", choose(proc / name)) for name in names if (proc / name).exists()]
