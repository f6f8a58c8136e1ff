"""The ServerStore contract on SQLite and PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace.store.database import Database
from millrace.store.postgresql import PostgresqlDatabase
from millrace.store.sql_jobs import SqlJobStore
from millrace.store.sql_servers import SqlServerStore
from millrace.store.sqlite import SqliteDatabase
from millrace.testing.clock import ManualClock
from millrace.testing.contract_servers import ServerStoreContract, ServerView


def view(database: Database, clock: ManualClock) -> ServerView:
    return ServerView(servers=SqlServerStore(database, clock=clock), jobs=SqlJobStore(database, clock=clock))


class TestSqliteServerStore(ServerStoreContract):
    """One state file, opened twice."""

    @pytest.fixture
    def views(self, tmp_path: Path, clock: ManualClock) -> Iterator[tuple[ServerView, ServerView]]:
        databases = [SqliteDatabase(tmp_path / "state.db", durable=False) for _ in range(2)]
        yield view(databases[0], clock), view(databases[1], clock)
        for database in databases:
            database.close()


class TestPostgresqlServerStore(ServerStoreContract):
    """One database, connected to twice."""

    @pytest.fixture
    def views(self, database_url: str, clock: ManualClock) -> Iterator[tuple[ServerView, ServerView]]:
        databases = [
            PostgresqlDatabase(database_url, connections=2, statement_seconds=30, wait_seconds=0) for _ in range(2)
        ]
        yield view(databases[0], clock), view(databases[1], clock)
        for database in databases:
            database.close()
