"""The PostgreSQL database: what collides, what breaks, what waits, and what is never told."""

import asyncio
import re
import sqlite3
import threading
import traceback
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from tests.postgresql import PostgresqlServer

from millrace import store
from millrace.clock import SystemClock
from millrace.errors import StoreUnavailable
from millrace.store.database import Transaction, migrations, queries
from millrace.store.dialect import statement_for_postgresql
from millrace.store.postgresql import PostgresqlDatabase
from millrace.store.sql_documents import SqlDocumentStore
from millrace.store.sqlite import SqliteDatabase

QUERIES = Path(store.__file__).parent / "queries"
COUNT = "SELECT count(*) AS number FROM documents"


def opened(url: str, *, statement_seconds: float = 30.0, wait_seconds: float = 0.0) -> PostgresqlDatabase:
    return PostgresqlDatabase(url, connections=4, statement_seconds=statement_seconds, wait_seconds=wait_seconds)


@pytest.fixture
def database(database_url: str) -> Iterator[PostgresqlDatabase]:
    database = opened(database_url)
    yield database
    database.close()


def terminate(url: str) -> None:
    """End all other connections to a database, as an operator may."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


async def number(database: PostgresqlDatabase) -> int:
    row = await database.one(COUNT, {})
    assert row is not None
    return int(row["number"])


def test_both_engines_have_the_same_tables(database_url: str, tmp_path: Path) -> None:
    """After all migrations, each table has the same columns on both."""
    SqliteDatabase(tmp_path / "state.db").close()
    with closing(sqlite3.connect(tmp_path / "state.db")) as sqlite:
        tables = [name for (name,) in sqlite.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()]
        here = {
            (table, name)
            for table in tables
            for _, name, *_ in sqlite.execute(f"PRAGMA table_info({table})").fetchall()
            if table != "sqlite_sequence"
        }
    with psycopg.connect(database_url) as postgresql:
        query = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
        there = set(postgresql.execute(query).fetchall())
    assert there - {("schema_version", "version")} == here


@pytest.mark.parametrize("file", sorted(path.stem for path in QUERIES.glob("*.sql")))
def test_every_query_is_understood(database_url: str, file: str) -> None:
    """The server plans each of them, with the tables as the migrations made them."""
    with psycopg.connect(database_url) as connection:
        for name, statement in queries(file).items():
            query = statement_for_postgresql(statement)
            parameters = dict.fromkeys(re.findall(r"%\((\w+)\)s", query.decode()))
            plan = connection.execute(b"EXPLAIN " + query.strip(), parameters).fetchall()
            assert plan, name


def test_servers_that_start_together_migrate_once(postgresql: PostgresqlServer) -> None:
    """One makes the schema, the others wait and find it made."""
    url = postgresql.create_database(empty=True)
    failures: list[BaseException] = []

    def start() -> None:
        try:
            opened(url).close()
        except BaseException as exc:  # noqa: BLE001  # reported below
            failures.append(exc)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT version FROM schema_version").fetchall() == [(len(migrations()),)]


def test_a_schema_of_a_newer_release_is_refused(database_url: str) -> None:
    """An older program must not guess at a schema it does not know."""
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE schema_version SET version = 999")
    with pytest.raises(StoreUnavailable, match="schema version 999 is newer than this release's"):
        opened(database_url)


def test_a_server_that_is_not_there_is_named_without_the_password(tmp_path: Path) -> None:
    """At the start nobody waits for it."""
    with pytest.raises(StoreUnavailable) as refused:
        opened(f"postgresql://user:hush-hush@/shop?host={tmp_path}", wait_seconds=60)
    assert "'shop'" in str(refused.value)
    assert str(tmp_path) in str(refused.value)
    assert "hush" not in str(refused.value)


async def test_transactions_that_collide_are_all_done(database: PostgresqlDatabase) -> None:
    """Each is run again until it has seen what the others did."""
    store = SqlDocumentStore(database, clock=SystemClock())
    await store.put("counter", "r", "c", {"seen": 0})
    await asyncio.gather(
        *(store.change("counter", "r", "c", lambda it: {"seen": (it or {})["seen"] + 1}) for _ in range(20))
    )
    assert (await store.get("counter", "r", "c")).content == {"seen": 20}


async def test_a_decision_on_rows_that_are_not_there_holds(database: PostgresqlDatabase) -> None:
    """Alone in a table, nobody adds the row that was found missing."""

    def add_first(transaction: Transaction) -> bool:
        if transaction.execute(COUNT, {}).fetchone()["number"]:
            return False
        transaction.execute(
            "INSERT INTO documents VALUES ('k', 'r', :name, 0, 0, '')", {"name": str(threading.get_ident())}
        )
        return True

    made = await asyncio.gather(*(database.write(add_first, alone_in="documents") for _ in range(8)))
    assert sum(made) == 1
    assert await number(database) == 1


async def test_a_write_that_fails_changes_nothing(database: PostgresqlDatabase) -> None:
    """And leaves a connection that the next one can use."""
    store = SqlDocumentStore(database, clock=SystemClock())
    await store.put("model", "r", "m", {})

    def broken(transaction: Transaction) -> None:
        transaction.execute("DELETE FROM documents", {})
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        await database.write(broken)
    assert await number(database) == 1


async def test_texts_with_nul_are_stored_without_it(database: PostgresqlDatabase) -> None:
    """Clients and containers send them: no reason for an internal error. They are found again by what they were."""
    store = SqlDocumentStore(database, clock=SystemClock())
    assert await store.find("model", "r", "a\0b") is None
    await store.put("model", "r", "a\0b", {"text": "c\0d"})
    found = await store.get("model", "r", "a\0b")
    assert (found.name, found.content) == ("a\N{REPLACEMENT CHARACTER}b", {"text": "c\0d"})


async def test_broken_connections_are_replaced_unnoticed(database: PostgresqlDatabase, database_url: str) -> None:
    """Reads and writes are done on new ones."""
    store = SqlDocumentStore(database, clock=SystemClock())
    await asyncio.gather(*(store.put("model", "r", f"m{index}", {}) for index in range(8)))
    terminate(database_url)
    assert await number(database) == 8
    terminate(database_url)
    await store.put("model", "r", "after", {})
    assert await number(database) == 9


async def test_a_write_whose_connection_breaks_midway_is_done_once(
    database: PostgresqlDatabase, database_url: str
) -> None:
    """What was begun is undone by the server, and begun again."""
    runs = 0

    def interrupted(transaction: Transaction) -> None:
        nonlocal runs
        runs += 1
        transaction.execute("INSERT INTO documents VALUES ('k', 'r', 'n', 0, 0, '')", {})
        if runs == 1:
            terminate(database_url)
        transaction.execute(COUNT, {})

    await database.write(interrupted)
    assert runs == 2
    assert await number(database) == 1


async def test_a_commit_that_nobody_answered_is_not_repeated(database: PostgresqlDatabase, database_url: str) -> None:
    """Nobody can tell whether it was done, so the caller is told just that."""

    def cut_off(transaction: Transaction) -> None:
        transaction.execute("INSERT INTO documents VALUES ('k', 'r', 'n', 0, 0, '')", {})
        terminate(database_url)

    with pytest.raises(StoreUnavailable, match="committed, or not"):
        await database.write(cut_off)


async def test_calls_wait_for_a_server_that_is_away(fragile_postgresql: PostgresqlServer) -> None:
    """As long as they are told to; it comes back meanwhile, and they go through."""
    database = opened(fragile_postgresql.create_database(), wait_seconds=60)
    fragile_postgresql.stop()
    waiting = [asyncio.create_task(number(database)) for _ in range(3)]
    await asyncio.to_thread(fragile_postgresql.start)
    assert await asyncio.gather(*waiting) == [0, 0, 0]
    database.close()


async def test_a_server_that_stays_away_is_told(fragile_postgresql: PostgresqlServer) -> None:
    """Reads, writes and the first look for changes fail by name; they go through when it is back."""
    database = opened(fragile_postgresql.create_database())
    fragile_postgresql.stop()
    with pytest.raises(StoreUnavailable, match="PostgreSQL database 'shop"):
        await number(database)
    with pytest.raises(StoreUnavailable, match="PostgreSQL database 'shop"):
        await database.write(lambda transaction: None)
    assert await database.wait_for_change(0.0) is True  # nobody knows
    fragile_postgresql.start()
    assert await number(database) == 0
    database.close()


async def test_closing_does_not_wait_for_a_server_that_is_away(fragile_postgresql: PostgresqlServer) -> None:
    """Calls under way fail at once."""
    database = opened(fragile_postgresql.create_database(), wait_seconds=600)
    fragile_postgresql.stop()
    waiting = asyncio.create_task(number(database))
    await asyncio.sleep(0)
    await asyncio.to_thread(database.close)
    with pytest.raises(StoreUnavailable):
        await waiting
    fragile_postgresql.start()


async def test_a_statement_that_takes_too_long_is_given_up(database_url: str) -> None:
    """The call fails, the connection is used again."""
    database = opened(database_url, statement_seconds=0.1)
    with pytest.raises(StoreUnavailable, match="statement timeout"):
        await database.one("SELECT pg_sleep(60)", {})
    assert await number(database) == 0
    database.close()


async def test_what_is_fleeting_wakes_nobody(database: PostgresqlDatabase, database_url: str) -> None:
    """Heartbeats of hundreds of agents would keep every server awake."""
    listener = opened(database_url)
    while await listener.wait_for_change(0.0):
        pass
    waiting = asyncio.create_task(listener.wait_for_change(30.0))
    await database.write(lambda transaction: transaction.execute(COUNT, {}).fetchone(), is_fleeting=True)
    assert not waiting.done()
    await database.write(lambda transaction: transaction.execute(COUNT, {}).fetchone())
    assert await waiting is True
    listener.close()


async def test_a_listener_that_was_cut_off_listens_again(database: PostgresqlDatabase, database_url: str) -> None:
    """It counts as a change: something may have been missed."""
    listener = opened(database_url)
    while await listener.wait_for_change(0.0):
        pass
    waiting = asyncio.create_task(listener.wait_for_change(30.0))
    await asyncio.sleep(0)
    terminate(database_url)
    assert await waiting is True
    while await listener.wait_for_change(0.0):
        pass
    waiting = asyncio.create_task(listener.wait_for_change(30.0))
    await asyncio.sleep(0)
    await database.write(lambda transaction: None)
    assert await waiting is True
    listener.close()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:s3cr%zzet@h/db",
        "postgresql://u:p@s3cret@h/db",
        "postgresql://u:12/s3cret@h/db",
        "postgresql://u:s3cret@[h/db",
        "postgresql://u:s3cret",
        "postgresql://h/db?s3cret=1",
    ],
)
def test_an_address_that_does_not_parse_is_never_told(url: str) -> None:
    """Whatever part of a password stands where, the error names the setting and how it is written, not its value."""
    with pytest.raises(StoreUnavailable, match="MILLRACE_DATABASE_URL must be postgresql://") as caught:
        opened(url)
    assert "s3cr" not in "".join(traceback.format_exception(caught.value))


async def test_a_write_that_nobody_waits_for_is_heard_of_when_it_is_committed(database: PostgresqlDatabase) -> None:
    """A cancelled caller does not keep the transaction from coming: whoever waits for changes is told then."""
    begun, go_on = threading.Event(), threading.Event()

    def work(transaction: Transaction) -> None:
        begun.set()
        assert go_on.wait(30)
        transaction.execute("SELECT 1 AS one")

    writing = asyncio.create_task(database.write(work))
    await asyncio.to_thread(begun.wait, 30)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    while await database.wait_for_change(0.01):
        pass
    waiting = asyncio.create_task(database.wait_for_change(30.0))
    go_on.set()
    assert await waiting
