"""The JobStore contract on SQLite."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace.clock import SystemClock
from millrace.ports.jobs import JobStore
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
