"""The DocumentStore and KeyStore contracts, on SQLite and on the memory twins."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace.clock import SystemClock
from millrace.ports.documents import DocumentStore
from millrace.ports.keys import KeyStore
from millrace.store.database import Database
from millrace.store.sql_documents import SqlDocumentStore
from millrace.store.sql_keys import SqlKeyStore
from millrace.testing.clock import ManualClock
from millrace.testing.contract_documents import DocumentStoreContract
from millrace.testing.contract_keys import KeyStoreContract
from millrace.testing.documents import MemoryDocumentStore
from millrace.testing.keys import MemoryKeyStore


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "state.db")
    yield database
    database.close()


class TestSqliteDocumentStore(DocumentStoreContract):
    @pytest.fixture
    def store(self, database: Database) -> DocumentStore:
        return SqlDocumentStore(database, clock=SystemClock())


class TestMemoryDocumentStore(DocumentStoreContract):
    @pytest.fixture
    def store(self) -> DocumentStore:
        return MemoryDocumentStore()


class TestSqliteKeyStore(KeyStoreContract):
    @pytest.fixture
    def store(self, clock: ManualClock, database: Database) -> KeyStore:
        return SqlKeyStore(database, clock=clock, account="000000000000")

    async def test_the_first_key_is_made_once(self, database: Database, clock: ManualClock) -> None:
        """Every process that asks gets the same one."""
        stores = [SqlKeyStore(database, clock=clock, account="000000000000") for _ in range(2)]
        first = await stores[0].ensure_first_key(role="Role")
        assert await stores[1].ensure_first_key(role="Role") == first
        assert first.id.startswith("AKIA")
        assert first.session_token is None

    async def test_expired_keys_can_be_forgotten(self, database: Database, clock: ManualClock) -> None:
        """Those that still hold stay."""
        store = SqlKeyStore(database, clock=clock, account="000000000000")
        short = await store.create_session_key(role="R", session_name="s", duration_seconds=60)
        long = await store.create_session_key(role="R", session_name="s", duration_seconds=6000)
        clock.advance(600)
        await store.delete_expired()
        another = SqlKeyStore(database, clock=clock, account="000000000000")
        assert await another.find_key(short.id) is None
        assert await another.find_key(long.id) == long


class TestMemoryKeyStore(KeyStoreContract):
    @pytest.fixture
    def store(self, clock: ManualClock) -> KeyStore:
        return MemoryKeyStore(clock=clock)


async def test_a_state_file_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    """An older program must not guess at a schema it does not know."""
    from millrace.errors import StoreUnavailable

    database = Database(tmp_path / "state.db")
    await database.write(lambda connection: connection.execute("PRAGMA user_version = 999"))
    database.close()
    with pytest.raises(StoreUnavailable, match="newer than this release"):
        Database(tmp_path / "state.db")


async def test_a_write_that_fails_changes_nothing(tmp_path: Path) -> None:
    """Each write is one transaction."""
    database = Database(tmp_path / "state.db")
    store = SqlDocumentStore(database, clock=SystemClock())
    await store.put("model", "r", "m", {"version": 1})

    def broken(connection: object) -> None:
        connection.execute("DELETE FROM documents")  # type: ignore[attr-defined]
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        await database.write(broken)
    assert (await store.get("model", "r", "m")).content == {"version": 1}
    database.close()
