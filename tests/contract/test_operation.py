"""The OperationStore contract on SQLite and PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace.clock import SystemClock
from millrace.store.database import Database
from millrace.store.postgresql import PostgresqlDatabase
from millrace.store.sql_documents import SqlDocumentStore
from millrace.store.sql_jobs import SqlJobStore
from millrace.store.sql_keys import SqlKeyStore
from millrace.store.sql_operation import SqlOperationStore
from millrace.store.sqlite import SqliteDatabase
from millrace.testing.contract_operation import OperationStoreContract, StateStores


def _stores(database: Database) -> StateStores:
    clock = SystemClock()
    return StateStores(
        operation=SqlOperationStore(database),
        jobs=SqlJobStore(database, clock=clock),
        documents=SqlDocumentStore(database, clock=clock),
        keys=SqlKeyStore(database, clock=clock, account="000000000000"),
    )


class TestSqliteOperationStore(OperationStoreContract):
    """One state file."""

    @pytest.fixture
    def stores(self, tmp_path: Path) -> Iterator[StateStores]:
        database = SqliteDatabase(tmp_path / "state.db", durable=False)
        yield _stores(database)
        database.close()


class TestPostgresqlOperationStore(OperationStoreContract):
    """One database."""

    @pytest.fixture
    def stores(self, database_url: str) -> Iterator[StateStores]:
        database = PostgresqlDatabase(database_url, connections=3, statement_seconds=30, wait_seconds=0)
        yield _stores(database)
        database.close()
