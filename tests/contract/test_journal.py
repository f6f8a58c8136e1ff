"""The Journal contract in memory, on SQLite and on PostgreSQL."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from millrace.clock import SystemClock
from millrace.errors import LeaseLost
from millrace.jobs.job import JobKind
from millrace.ports.jobs import InstanceRef
from millrace.ports.journal import Journal
from millrace.store.database import Database
from millrace.store.postgresql import PostgresqlDatabase
from millrace.store.sql_jobs import SqlJobStore
from millrace.store.sql_journal import SqlJournal
from millrace.store.sqlite import SqliteDatabase
from millrace.testing.contract_jobs import transform_job
from millrace.testing.contract_journal import JournalContract, JournalsOfJobs
from millrace.testing.journal import MemoryJournals


@dataclass(kw_only=True)
class SqlJournals:
    """Journals on two views of one state: the scheduler's and the agents'."""

    server: Database
    agents: Database
    job_ids: tuple[int, int] = (0, 0)

    @property
    def jobs(self) -> SqlJobStore:
        return SqlJobStore(self.server, clock=SystemClock())

    async def prepare(self) -> "SqlJournals":
        added = [
            await self.jobs.add(JobKind.TRANSFORM, transform_job(name), {"TransformJobName": name})
            for name in ("one", "two")
        ]
        self.job_ids = (added[0].id, added[1].id)
        return self

    async def open(self, job_id: int, *, index: int = 0, attempt: int = 1) -> Journal:
        ref = InstanceRef(job_id=job_id, index=index, attempt=attempt)
        await self.jobs.open_instance(ref)
        agent_id = f"agent-{attempt}"
        await self.jobs.register_agent(ref, agent_id=agent_id, process_id=1, process_start=1, host="here")
        return SqlJournal(self.agents, ref, agent_id=agent_id, clock=SystemClock())


class SqlJournalContract(JournalContract):
    """What holds where agents register in a database."""

    async def test_only_the_agent_of_the_attempt_saves(self, journals: SqlJournals) -> None:
        """One that came too late to register for it does not."""
        ref = InstanceRef(job_id=journals.job_ids[0], index=0, attempt=1)
        mine = await journals.open(ref.job_id)
        late = SqlJournal(journals.agents, ref, agent_id="late", clock=SystemClock())
        with pytest.raises(LeaseLost, match="attempt 1 is closed"):
            await late.save({"a": b"late"})
        assert await mine.load() == {}

    async def test_an_attempt_that_nobody_has_taken_is_nobodys(self, journals: SqlJournals) -> None:
        """The one before is closed as soon as the next is opened."""
        job_id = journals.job_ids[0]
        first = await journals.open(job_id)
        await journals.jobs.open_instance(InstanceRef(job_id=job_id, index=0, attempt=2))
        with pytest.raises(LeaseLost, match="attempt 1 is closed"):
            await first.save({"a": b"late"})

    async def test_a_journal_goes_with_its_job(self, journals: SqlJournals) -> None:
        """And that of the others stays."""
        one, two = journals.job_ids
        first, second = await journals.open(one), await journals.open(two)
        await first.save({"a": b"1"})
        await second.save({"a": b"2"})
        await journals.jobs.forget(one)
        assert await second.load_of(one) == {}
        assert await second.load_of(two) == {0: {"a": b"2"}}
        with pytest.raises(LeaseLost):
            await first.save({"a": b"1"})

    async def test_a_save_keeps_the_lease(self, journals: SqlJournals) -> None:
        """An agent that saves is alive; what it last told of its progress stays."""
        ref = InstanceRef(job_id=journals.job_ids[0], index=0, attempt=1)
        journal = await journals.open(ref.job_id)
        await journals.jobs.heartbeat(ref, "agent-1", {"records": 5})
        before = await journals.jobs.get_agent(ref)
        await journal.save({"a": b"1"})
        after = await journals.jobs.get_agent(ref)
        assert before is not None
        assert after is not None
        assert after.progress == {"records": 5}
        assert after.heartbeat_at > before.heartbeat_at


class TestSqliteJournal(SqlJournalContract):
    """One state file, opened twice: as by the server and by an agent."""

    @pytest.fixture
    async def journals(self, tmp_path: Path) -> AsyncIterator[JournalsOfJobs]:
        databases = [SqliteDatabase(tmp_path / "state.db", durable=durable) for durable in (True, False)]
        yield await SqlJournals(server=databases[0], agents=databases[1]).prepare()
        for database in databases:
            database.close()


class TestPostgresqlJournal(SqlJournalContract):
    """One database, connected to twice."""

    @pytest.fixture
    async def journals(self, database_url: str) -> AsyncIterator[JournalsOfJobs]:
        databases = [
            PostgresqlDatabase(database_url, connections=4, statement_seconds=30, wait_seconds=0) for _ in range(2)
        ]
        yield await SqlJournals(server=databases[0], agents=databases[1]).prepare()
        for database in databases:
            database.close()


@dataclass
class MemoryJournalsOfJobs:
    """The shipped fake, with two jobs."""

    held: MemoryJournals
    job_ids: tuple[int, int] = (1, 2)

    async def open(self, job_id: int, *, index: int = 0, attempt: int = 1) -> Journal:
        return self.held.open(InstanceRef(job_id=job_id, index=index, attempt=attempt))


class TestMemoryJournal(JournalContract):
    """The shipped fake."""

    @pytest.fixture
    def journals(self) -> JournalsOfJobs:
        return MemoryJournalsOfJobs(MemoryJournals())
