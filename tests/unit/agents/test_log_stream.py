"""A stream's lines are stored in order; a store that can't take them stops nothing."""

import asyncio
import errno
from collections.abc import Sequence
from pathlib import Path

from millrace.agents.log_stream import MAX_WAITING_LINES, LogStream
from millrace.ports.logs import LogEvent
from millrace.store.log_files import LogFiles


class FillingDisk(LogFiles):
    """Takes lines while there is room."""

    room = True

    def append(self, group: str, stream: str, events: Sequence[LogEvent]) -> None:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().append(group, stream, events)


def stored(store: LogFiles) -> list[str]:
    return [event.message for event in store.read("g", "s").events]


async def test_lines_are_stored_in_order(tmp_path: Path) -> None:
    """At the latest when they are flushed; the last ones are remembered."""
    store = LogFiles(tmp_path)
    stream = LogStream(store, "g", "s")
    for number in range(20):
        stream.write(1000 + number, f"line {number}")
    stream.flush()
    assert stored(store) == [f"line {number}" for number in range(20)]
    assert list(stream.tail) == [f"line {number}" for number in range(10, 20)]


async def test_a_full_disk_loses_lines_and_nothing_else(tmp_path: Path) -> None:
    """Whoever writes goes on; memory does not grow; the stream tells how much is missing once there is room."""
    store = FillingDisk(tmp_path)
    stream = LogStream(store, "g", "s")
    stream.write(1000, "first")
    stream.flush()
    store.room = False
    for _ in range(MAX_WAITING_LINES):
        stream.write(1001, "lost")
    stream.write(1002, "lost too")
    stream.flush()
    store.room = True
    stream.write(1003, "after")
    stream.flush()
    stream.write(1004, "last")
    stream.flush()
    missing = f"{MAX_WAITING_LINES + 1} log lines before this one could not be stored"
    assert stored(store) == ["first", missing, "after", "last"]


async def test_a_line_is_stored_without_being_flushed(tmp_path: Path) -> None:
    """It waits for company for a moment only."""
    store = LogFiles(tmp_path)
    LogStream(store, "g", "s").write(1000, "alone")
    async with asyncio.timeout(30):
        while not stored(store):
            await asyncio.sleep(0)
