"""Note process groups in files, so that what is left of one can be ended by a process that did not start it.

The kernel ends a program with its parent, but not what the program has started. A group's number alone is no name to
kill by: numbers are given again. The note has the start of the group's leader and the machine's boot too.
"""

import logging
import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ProcessGroup", "end_left_over", "oldest_child", "process_start"]

log = logging.getLogger(__name__)

NOTE_FILE = ".process-group"

END_SECONDS = 10.0
"""How long a killed process may take to end; one that the kernel holds in a call may take any time."""

_PLACES = (NOTE_FILE, f"*/{NOTE_FILE}", f"*/*/{NOTE_FILE}")
"""Where notes are below a folder of a host, an instance or a job; a full search would go through all data."""

_PARENT_FIELD, _GROUP_FIELD, _SESSION_FIELD, _START_FIELD = 1, 2, 3, 19
"""Positions of ppid, pgrp, session, starttime in /proc/PID/stat, counted behind the name (proc(5), fields 4, 5, 6, 22).
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessGroup:
    """A session's first process and all of its group, named for good."""

    number: int
    leader_start: int
    boot: str

    @classmethod
    def of_leader(cls, process_id: int) -> "ProcessGroup | None":
        """Return the group that a process leads, None if the process is gone."""
        start = process_start(process_id)
        return None if start is None else cls(number=process_id, leader_start=start, boot=_boot())

    def note(self, folder: Path) -> None:
        """Write the note into a folder that the group works in."""
        (folder / NOTE_FILE).write_text(self._text())

    def forget(self, folder: Path) -> None:
        """Remove the note, unless it is another group's by now."""
        with suppress(OSError):
            if (folder / NOTE_FILE).read_text() == self._text():
                (folder / NOTE_FILE).unlink()

    def _text(self) -> str:
        return f"{self.number} {self.leader_start} {self.boot}\n"

    def members(self) -> list[int]:
        """Return the processes of the group that live."""
        if self.boot != _boot() or process_start(self.number) not in (None, self.leader_start):
            return []  # the number is a stranger's
        return [
            process_id
            for process_id, fields in _iter_processes()
            # All are of the leader's session and younger. A leader that is gone leaves its number taken while it has
            # members, so that nobody else's group can be meant.
            if fields[_GROUP_FIELD] == fields[_SESSION_FIELD] == b"%d" % self.number
            and int(fields[_START_FIELD]) >= self.leader_start
        ]

    def end(self) -> None:
        """Kill what lives of the group and wait until it has ended."""
        deadline = time.monotonic() + END_SECONDS
        while members := self.members():
            watched = list(_open_processes(members))
            try:
                os.killpg(self.number, signal.SIGKILL)
                for descriptor in watched:
                    _await_end(descriptor, deadline)
            except ProcessLookupError:
                return
            except PermissionError:
                log.warning("process group is another user's", extra={"group": self.number})
                return
            finally:
                for descriptor in watched:
                    os.close(descriptor)
            if time.monotonic() > deadline:
                log.warning("killed processes have not ended", extra={"group": self.number, "processes": members})
                return


def end_left_over(folder: Path) -> None:
    """End the groups that are noted in a folder or, up to two levels, below it; blocks until they have ended."""
    for note in _find_notes(folder):
        group = _read_note(note)
        if group is not None:
            group.end()
        note.unlink(missing_ok=True)


def process_start(process_id: int) -> int | None:
    """Return when a process started, in clock ticks since the machine did, or None if it is gone.

    With the process id it names a process for good: numbers are given again, but not at the same tick.
    """
    fields = _live_fields(process_id)
    return None if fields is None else int(fields[_START_FIELD])


def oldest_child(process_id: int) -> int | None:
    """Return a process's first child that lives, or None; children that it was given later are younger."""
    try:
        text = Path(f"/proc/{process_id}/task/{process_id}/children").read_text("ascii")
        children = [int(word) for word in text.split()]
    except FileNotFoundError:  # gone, or a kernel without CONFIG_PROC_CHILDREN
        children = [it for it, fields in _iter_processes() if int(fields[_PARENT_FIELD]) == process_id]
    starts = [(start, child) for child in children if (start := process_start(child)) is not None]
    return min(starts)[1] if starts else None


def _live_fields(process_id: int) -> list[bytes] | None:
    try:
        text = Path(f"/proc/{process_id}/stat").read_bytes()
    except OSError:
        return None
    fields = text.rpartition(b")")[2].split()
    return None if fields[0] in (b"Z", b"X") else fields


def _iter_processes() -> Iterator[tuple[int, list[bytes]]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _live_fields(int(entry.name))) is not None:
            yield int(entry.name), fields


def _open_processes(process_ids: list[int]) -> Iterator[int]:
    for process_id in process_ids:
        with suppress(ProcessLookupError):
            yield os.pidfd_open(process_id)


def _await_end(descriptor: int, deadline: float) -> None:
    poll = select.poll()  # select() takes no descriptor above 1023
    poll.register(descriptor, select.POLLIN)
    poll.poll(max(0.0, deadline - time.monotonic()) * 1000)


def _find_notes(folder: Path) -> list[Path]:
    with suppress(FileNotFoundError):  # somebody else removes it
        return [path for place in _PLACES for path in folder.glob(place)]
    return []


def _read_note(path: Path) -> ProcessGroup | None:
    """Return the group of a note; None if it is torn, or names what no container's group can be."""
    try:
        number, start, boot = path.read_text().split()
        group = ProcessGroup(number=int(number), leader_start=int(start), boot=boot)
    except (OSError, ValueError):
        return None
    return group if group.number > 1 and group.number != os.getpgrp() else None


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
