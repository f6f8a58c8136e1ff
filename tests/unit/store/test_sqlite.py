"""The state file: who may read it, and what a transaction that fails leaves."""

import asyncio
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from millrace.errors import StoreFull, StoreUnavailable, UsageError
from millrace.ports.servers import ServerRecord
from millrace.store.database import Transaction, migrations
from millrace.store.sql_servers import SqlServerStore
from millrace.store.sqlite import SqliteDatabase
from millrace.testing.clock import ManualClock


def mode(path: Path) -> int:
    """Return a file's permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


@contextmanager
def usual_umask() -> Iterator[None]:
    """Make new files readable by everybody, as on most machines."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


async def test_secrets_are_private_from_the_first_moment(tmp_path: Path) -> None:
    """Whatever command comes first on a new data directory, other users can't read the keys that it makes."""
    folder = tmp_path / "new" / "data"
    with usual_umask():
        database = SqliteDatabase(folder / "state.db")
        await database.write(lambda transaction: transaction.execute("SELECT 1"))
    try:
        assert mode(folder) == 0o700
        assert {entry.name: mode(entry) for entry in folder.iterdir()} == {
            "state.db": 0o600,
            "state.db-wal": 0o600,
            "state.db-shm": 0o600,
        }
    finally:
        database.close()


async def test_an_open_data_directory_is_closed_to_others(tmp_path: Path) -> None:
    """Opening the state again takes away what an earlier program left readable, also of its companions."""
    folder = tmp_path / "data"
    first = SqliteDatabase(folder / "state.db")
    await first.write(lambda transaction: transaction.execute("SELECT 1"))
    for path in folder.iterdir():
        path.chmod(0o644)
    folder.chmod(0o755)
    second = SqliteDatabase(folder / "state.db")
    try:
        assert mode(folder) == 0o700
        assert {mode(path) for path in folder.iterdir()} == {0o600}
    finally:
        second.close()
        first.close()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """The error tells the path and the system's reason."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match=r"data directory .*file: (Not a directory|File exists)"):
        SqliteDatabase(tmp_path / "file" / "state.db")


async def test_a_commit_that_fails_is_undone(tmp_path: Path) -> None:
    """Nothing of the failed write stays, and the next one goes through."""
    database = SqliteDatabase(tmp_path / "state.db")

    def dangling(connection: Transaction) -> None:
        connection.execute("PRAGMA defer_foreign_keys = ON")  # the missing job is found at COMMIT
        connection.execute("INSERT INTO job_events (job_id, posted_at, type, body) VALUES (999, 0, 'x', '')")

    def count(connection: Transaction) -> int:
        return int(connection.execute("SELECT count(*) FROM job_events").fetchone()[0])

    try:
        with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
            await database.write(dangling)
        assert await database.write(count) == 0
    finally:
        database.close()


async def test_jobs_from_before_there_were_owners_are_adopted(tmp_path: Path) -> None:
    """A state file of an older release is brought up to date, and its open jobs go to the server that comes."""
    path = tmp_path / "state.db"
    before = next(number for number, step in enumerate(migrations()) if "ADD COLUMN owner" in step)
    with closing(sqlite3.connect(path)) as older:
        for step in migrations()[:before]:
            older.executescript(step)
        for name, finished in (("running", 0), ("over", 1)):
            older.execute(
                "INSERT INTO jobs (kind, region, name, arn, status, finished, created_at, modified_at, body, request)"
                " VALUES ('training-job', 'r', ?, 'arn', 'InProgress', ?, 0, 0, '{}', '{}')",
                (name, finished),
            )
        older.execute(f"PRAGMA user_version = {before}")
        older.commit()
    database, clock = SqliteDatabase(path), ManualClock()
    try:
        server = ServerRecord(
            id="new", machine="m", process_id=1, process_start=1, joined_at=clock.now(), heartbeat_at=clock.now()
        )
        await SqlServerStore(database, clock=clock).join(server, alone=True)
        rows = await database.all("SELECT name, owner FROM jobs ORDER BY name", {})
        assert [(row["name"], row["owner"]) for row in rows] == [("over", None), ("running", "new")]
    finally:
        database.close()


async def test_a_damaged_file_is_a_state_that_is_not_available(tmp_path: Path) -> None:
    """Reads and writes say which file it is, as they do when the disk is full."""
    path = tmp_path / "state.db"
    SqliteDatabase(path).close()
    database = SqliteDatabase(path)
    with path.open("r+b") as file:  # the first page stays, so that the file can be opened
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    select, parameters = "SELECT * FROM jobs", dict[str, Any]()
    try:
        for read in (database.one, database.all, database.table):
            with pytest.raises(StoreUnavailable, match=r"state\.db: database disk image is malformed"):
                await read(select, parameters)
        with pytest.raises(StoreUnavailable, match=r"state\.db: database disk image is malformed"):
            await database.write(lambda transaction: transaction.execute("DELETE FROM jobs"))
    finally:
        database.close()


async def test_a_full_disk_is_told_from_other_troubles(tmp_path: Path) -> None:
    """What finds no room is StoreFull, which callers are told as a full disk."""
    database = SqliteDatabase(tmp_path / "state.db")
    with closing(database):
        await database.write(lambda transaction: transaction.execute("CREATE TABLE filler (content)"))
        await database.write(lambda transaction: transaction.execute("PRAGMA max_page_count = 1"))
        with pytest.raises(StoreFull, match="full"):
            await database.write(
                lambda transaction: transaction.execute("INSERT INTO filler VALUES (zeroblob(999999))")
            )


@pytest.mark.parametrize("turns", range(6))
async def test_whoever_waits_for_changes_can_be_cancelled_when_one_comes(tmp_path: Path, turns: int) -> None:
    """In whichever turn of the loop: else a server that writes as it ends would look for changes for ever."""
    with closing(SqliteDatabase(tmp_path / "state.db", durable=False)) as database:

        async def look() -> None:
            while True:
                await database.wait_for_change(60)

        looking = asyncio.create_task(look())
        while await database.wait_for_change(0):
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        await database.write(lambda transaction: None)
        for _ in range(turns):
            await asyncio.sleep(0)
        looking.cancel()
        ended, _ = await asyncio.wait({looking}, timeout=5)
        assert looking in ended
        looking.cancel()
