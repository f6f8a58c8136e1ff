"""Copy a SQLite state file while servers and agents write to it."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from millrace.errors import StoreUnavailable

__all__ = ["snapshot"]


def snapshot(source: Path, target: Path) -> int:
    """Write the state as it is at one moment to a new file, its owner's only; return its size.

    Writers are not held up: in WAL mode they go on while the copy is made. In the copy no agent is at work: a server
    that is started on it must neither wait for the agents of the original nor stop them.

    Raises:
        StoreUnavailable: The file can't be read, or the copy can't be written.
    """
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        with (
            closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as reading,
            closing(sqlite3.connect(target, isolation_level=None)) as writing,
        ):
            reading.backup(writing)
            # One file, without a -wal beside it; whoever opens it turns it on again.
            writing.execute("PRAGMA journal_mode = DELETE")
            _forget_processes(writing)
            [damage] = writing.execute("PRAGMA quick_check").fetchone()
            if damage != "ok":
                raise StoreUnavailable(f"state file {source}: the copy is damaged: {damage}")
    except sqlite3.Error as exc:
        raise StoreUnavailable(f"state file {source}: {exc}") from exc
    return target.stat().st_size


def _forget_processes(connection: sqlite3.Connection) -> None:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "agents" in tables:
        connection.execute("UPDATE agents SET process_id = 0, process_start = -1, host = '' WHERE agent_id IS NOT NULL")
    if "servers" in tables:
        connection.execute("DELETE FROM servers")
