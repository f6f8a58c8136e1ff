"""Reads that are given again while nobody writes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from millrace.store.kept_reads import KeptReads
from millrace.store.sqlite import SqliteDatabase
from millrace.store.timed_database import TimedDatabase

COUNT = "SELECT COUNT(*) FROM accounts"
ADD = "INSERT INTO accounts (id, name, created_at) VALUES (:id, :id, 0)"


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    """Return a new state."""
    with closing(SqliteDatabase(tmp_path / "state.db")) as found:
        yield found


class Reader:
    """Counts accounts, and how often it was asked to."""

    def __init__(self, database: SqliteDatabase) -> None:
        self.database = database
        self.reads = 0

    async def __call__(self) -> int:
        self.reads += 1
        [(count,)] = await self.database.table(COUNT, {})
        return int(count)


async def add(database: SqliteDatabase, name: str) -> None:
    """Add an account."""
    await database.write(lambda transaction: transaction.execute(ADD, {"id": name}))


async def test_an_unchanged_state_is_read_no_more_than_twice(database: SqliteDatabase) -> None:
    """Each key has an answer of its own, kept when it is asked for the second time."""
    kept: KeptReads[int] = KeptReads(TimedDatabase(database, lambda seconds: None), limit=2)
    read = Reader(database)
    assert [await kept.get(key, read) for key in "aababaab"] == [0] * 8
    assert read.reads == 4


async def test_what_is_asked_once_takes_no_room(database: SqliteDatabase) -> None:
    """Walking through many answers leaves those that are asked again."""
    kept: KeptReads[int] = KeptReads(database, limit=2)
    read = Reader(database)
    for key in "aa":
        await kept.get(key, read)
    for number in range(10):
        await kept.get(number, read)
    await kept.get("a", read)
    assert read.reads == 12


async def test_each_commit_has_everything_read_anew(database: SqliteDatabase, tmp_path: Path) -> None:
    """Whether this process wrote or another; what was rolled back or only read changes nothing."""
    kept: KeptReads[int] = KeptReads(database, limit=2)
    read = Reader(database)
    assert [await kept.get("a", read) for _ in range(3)] == [0] * 3
    await add(database, "1")
    assert [await kept.get("a", read) for _ in range(3)] == [1] * 3
    with closing(SqliteDatabase(tmp_path / "state.db")) as other:
        await add(other, "2")
        assert [await kept.get("a", read) for _ in range(3)] == [2] * 3
        with pytest.raises(ZeroDivisionError):
            await other.write(lambda transaction: 1 // 0)
        assert await kept.get("a", read) == 2
    assert read.reads == 4  # two for the first state, one for each that followed


async def test_a_commit_during_the_read_is_not_lost(database: SqliteDatabase) -> None:
    """What was read before a commit is not kept for the state after it."""
    kept: KeptReads[int] = KeptReads(database, limit=2)
    read = Reader(database)

    async def overtaken() -> int:
        count = await read()
        await add(database, "1")
        return count

    assert await kept.get("a", read) == 0
    assert await kept.get("a", overtaken) == 0
    assert await kept.get("a", read) == 1


async def test_a_slow_read_does_not_stand_for_a_newer_state(database: SqliteDatabase) -> None:
    """A read that began before a commit and ends after another's look is answered, and then forgotten."""
    kept: KeptReads[int] = KeptReads(database, limit=2)
    read = Reader(database)
    go_on = asyncio.Event()

    async def slow() -> int:
        count = await read()
        await go_on.wait()
        return count

    assert await kept.get("a", read) == 0
    waiting = asyncio.create_task(kept.get("a", slow))
    await asyncio.sleep(0)
    await add(database, "1")
    assert await kept.get("b", read) == 1
    go_on.set()
    assert await waiting == 0
    assert await kept.get("a", read) == 1


async def test_no_more_is_kept_than_the_limit(database: SqliteDatabase) -> None:
    """The oldest answer makes room for a new one."""
    kept: KeptReads[int] = KeptReads(database, limit=2)
    read = Reader(database)
    for key in "aabbcc":
        await kept.get(key, read)
    assert read.reads == 6
    for key in "bc":
        await kept.get(key, read)
    assert read.reads == 6
    await kept.get("a", read)
    assert read.reads == 7
