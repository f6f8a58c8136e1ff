"""The JobStore contract on SQLite and PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace.clock import SystemClock
from millrace.ports.jobs import JobStore
from millrace.store.postgresql import PostgresqlDatabase
from millrace.store.sql_jobs import SqlJobStore
from millrace.store.sqlite import SqliteDatabase
from millrace.testing.contract_jobs import JobStoreContract


class TestSqliteJobStore(JobStoreContract):
    """One state file, opened twice: as by the server and by an agent."""

    @pytest.fixture
    def stores(self, tmp_path: Path) -> Iterator[tuple[JobStore, JobStore]]:
        databases = [SqliteDatabase(tmp_path / "state.db", durable=durable) for durable in (True, False)]
        yield SqlJobStore(databases[0], clock=SystemClock()), SqlJobStore(databases[1], clock=SystemClock())
        for database in databases:
            database.close()


class TestPostgresqlJobStore(JobStoreContract):
    """One database, connected to twice: as by two servers."""

    @pytest.fixture
    def stores(self, database_url: str) -> Iterator[tuple[JobStore, JobStore]]:
        databases = [
            PostgresqlDatabase(database_url, connections=2, statement_seconds=30, wait_seconds=0) for _ in range(2)
        ]
        yield SqlJobStore(databases[0], clock=SystemClock()), SqlJobStore(databases[1], clock=SystemClock())
        for database in databases:
            database.close()
