"""The DocumentStore and KeyStore contracts, on SQLite, on PostgreSQL and on the memory twins."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace.clock import SystemClock
from millrace.errors import UsageError
from millrace.ports.documents import DocumentStore
from millrace.ports.keys import KeyStore
from millrace.store.database import Database
from millrace.store.postgresql import PostgresqlDatabase
from millrace.store.sql_documents import SqlDocumentStore
from millrace.store.sql_keys import SqlKeyStore
from millrace.store.sqlite import SqliteDatabase
from millrace.testing.clock import ManualClock
from millrace.testing.contract_documents import DocumentStoreContract
from millrace.testing.contract_keys import KeyStoreContract
from millrace.testing.documents import MemoryDocumentStore
from millrace.testing.keys import MemoryKeyStore


class OnSqlite:
    """Gives a new state file."""

    @pytest.fixture
    def database(self, tmp_path: Path) -> Iterator[Database]:
        database = SqliteDatabase(tmp_path / "state.db")
        yield database
        database.close()


class OnPostgresql:
    """Gives a new database of the tests' server."""

    @pytest.fixture
    def database(self, database_url: str) -> Iterator[Database]:
        database = PostgresqlDatabase(database_url, connections=4, statement_seconds=30, wait_seconds=0)
        yield database
        database.close()


class SqlDocumentStoreContract(DocumentStoreContract):
    @pytest.fixture
    def store(self, database: Database) -> DocumentStore:
        return SqlDocumentStore(database, clock=SystemClock())


class TestSqliteDocumentStore(OnSqlite, SqlDocumentStoreContract):
    pass


class TestPostgresqlDocumentStore(OnPostgresql, SqlDocumentStoreContract):
    pass


class TestMemoryDocumentStore(DocumentStoreContract):
    @pytest.fixture
    def store(self) -> DocumentStore:
        return MemoryDocumentStore()


class SqlKeyStoreContract(KeyStoreContract):
    """What those on SQL do beyond the contract."""

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

    async def test_a_new_owner_has_an_account_of_its_own(self, database: Database, clock: ManualClock) -> None:
        """A second key of the same name is of the same account; without a name it is the default account's."""
        store = SqlKeyStore(database, clock=clock, account="000000000000")
        first, ann = await store.create_key(role="R", owner="ann")
        second, again = await store.create_key(role="R", owner="ann")
        third, default = await store.create_key(role="R")
        assert ann == again
        assert first.account == second.account == ann.id != "000000000000" == third.account
        assert default.name == "millrace"
        assert [account.id for account in await store.list_accounts()].count(ann.id) == 1
        assert len(ann.id) == 12
        assert ann.canonical_id != default.canonical_id

    async def test_an_account_is_named_by_its_id_too(self, database: Database, clock: ManualClock) -> None:
        """A name that belongs to another account, or an account of another name, is refused."""
        store = SqlKeyStore(database, clock=clock, account="000000000000")
        _, bob = await store.create_key(role="R", owner="bob", account="111122223333")
        assert (bob.id, bob.name) == ("111122223333", "bob")
        _, nameless = await store.create_key(role="R", account="444455556666")
        assert nameless.name == "444455556666"
        with pytest.raises(UsageError, match="'bob' belongs to the account 111122223333"):
            await store.create_key(role="R", owner="bob", account="444455556666")
        with pytest.raises(UsageError, match="111122223333 is named 'bob'"):
            await store.create_key(role="R", owner="eve", account="111122223333")

    async def test_a_removed_key_is_unknown_to_other_processes_in_a_second(
        self, database: Database, clock: ManualClock
    ) -> None:
        """They may believe what they have in memory for that long."""
        server, command = (SqlKeyStore(database, clock=clock, account="000000000000") for _ in range(2))
        key, _ = await command.create_key(role="R", owner="ann")
        assert await server.find_key(key.id) == key
        assert [stored.id for stored in await command.list_keys()] == [key.id]
        assert await command.delete_key(key.id)
        clock.advance(1)
        assert await server.find_key(key.id) is None
        assert not await command.delete_key(key.id)

    async def test_the_first_key_is_one_of_the_default_account(self, database: Database, clock: ManualClock) -> None:
        """A key made for somebody else beforehand is not what `millrace env` prints."""
        store = SqlKeyStore(database, clock=clock, account="000000000000")
        await store.create_key(role="R", owner="ann")
        assert (await store.ensure_first_key(role="R")).account == "000000000000"


class TestSqliteKeyStore(OnSqlite, SqlKeyStoreContract):
    pass


class TestPostgresqlKeyStore(OnPostgresql, SqlKeyStoreContract):
    pass


class TestMemoryKeyStore(KeyStoreContract):
    @pytest.fixture
    def store(self, clock: ManualClock) -> KeyStore:
        return MemoryKeyStore(clock=clock)


async def test_a_state_file_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    """An older program must not guess at a schema it does not know."""
    from millrace.errors import StoreUnavailable

    database = SqliteDatabase(tmp_path / "state.db")
    await database.write(lambda transaction: transaction.execute("PRAGMA user_version = 999"))
    database.close()
    with pytest.raises(StoreUnavailable, match="newer than this release"):
        SqliteDatabase(tmp_path / "state.db")


async def test_a_write_that_fails_changes_nothing(tmp_path: Path) -> None:
    """Each write is one transaction."""
    database = SqliteDatabase(tmp_path / "state.db")
    store = SqlDocumentStore(database, clock=SystemClock())
    await store.put("model", "r", "m", {"version": 1})

    def broken(connection: object) -> None:
        connection.execute("DELETE FROM documents")  # type: ignore[attr-defined]
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        await database.write(broken)
    assert (await store.get("model", "r", "m")).content == {"version": 1}
    database.close()
