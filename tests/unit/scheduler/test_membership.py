"""A server's place among others: who counts as dead, who inherits, who was the last."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from millrace.machine import machine_name
from millrace.ports.servers import ServerRecord
from millrace.scheduler.membership import Membership
from millrace.store.sql_jobs import SqlJobStore
from millrace.store.sql_servers import SqlServerStore
from millrace.store.sqlite import SqliteDatabase
from millrace.testing.clock import ManualClock
from millrace.testing.contract_jobs import added

LEASE_SECONDS = 10.0


class Hall:
    """A state, and servers that find each other in it."""

    def __init__(self, database: SqliteDatabase) -> None:
        self.clock = ManualClock()
        self.jobs = SqlJobStore(database, clock=self.clock)
        self.servers = SqlServerStore(database, clock=self.clock)

    async def enter(self) -> Membership:
        membership = Membership(
            servers=self.servers, clock=self.clock, is_shared=True, beat_seconds=1.0, lease_seconds=LEASE_SECONDS
        )
        await membership.join()
        return membership

    async def elsewhere(self, name: str, **members: object) -> ServerRecord:
        """Add a server of another machine."""
        now = self.clock.now()
        server = ServerRecord(
            id=name, machine="another", process_id=1, process_start=1, joined_at=now, heartbeat_at=now
        )
        server = replace(server, **members)  # type: ignore[arg-type]
        await self.servers.join(server, alone=False)
        return server

    async def ids(self) -> set[str]:
        return {server.id for server in await self.servers.list_servers()}

    async def job_of(self, owner: str) -> None:
        await self.jobs.save(await added(self.jobs), owner=owner)

    async def owner(self) -> str | None:
        [job] = await self.jobs.list_open()
        return job.owner


@pytest.fixture
async def hall(tmp_path: Path) -> AsyncIterator[Hall]:
    database = SqliteDatabase(tmp_path / "state.db", durable=False)
    yield Hall(database)
    database.close()


async def test_a_server_whose_process_is_gone_is_removed_at_once(hall: Hall) -> None:
    """On its machine that can be seen; its jobs are the finder's."""
    ours = await hall.enter()
    await hall.elsewhere("crashed", machine=machine_name(), process_start=-1)
    await hall.job_of("crashed")
    await ours.beat()
    assert await hall.ids() == {ours.id}
    assert await hall.owner() == ours.id


async def test_a_server_of_another_machine_is_removed_after_its_lease(hall: Hall) -> None:
    """From when its silence began for us, whatever its clock says."""
    ours = await hall.enter()
    hall.clock.advance(1000)
    await hall.elsewhere("silent")
    await hall.job_of("silent")
    await ours.beat()
    hall.clock.advance(LEASE_SECONDS)
    await ours.beat()
    assert await hall.owner() == "silent"
    hall.clock.advance(1)
    await ours.beat()
    assert await hall.ids() == {ours.id}
    assert await hall.owner() == ours.id


async def test_a_server_that_beats_stays(hall: Hall) -> None:
    """However long it has been there."""
    ours = await hall.enter()
    await hall.elsewhere("steady")
    for _ in range(5):
        hall.clock.advance(LEASE_SECONDS - 1)
        await hall.servers.beat("steady")
        await ours.beat()
    assert await hall.ids() == {ours.id, "steady"}


async def test_a_server_that_was_removed_comes_back_under_another_id(hall: Hall) -> None:
    """It slept, and what it held is another's."""
    sleeper = await hall.enter()
    before = sleeper.id
    await hall.job_of(before)
    [record] = await hall.servers.list_servers()
    other = await hall.elsewhere("other")
    assert await hall.servers.bury(record, other.id)
    await sleeper.beat()
    assert sleeper.id != before
    assert await hall.ids() == {sleeper.id, "other"}
    assert await hall.owner() == "other"


async def test_orphans_are_adopted(hall: Hall) -> None:
    """Whatever way a job has lost its owner, somebody looks after it a heartbeat later."""
    ours = await hall.enter()
    await hall.job_of("nobody")
    await ours.beat()
    assert await hall.owner() == ours.id


async def test_who_leaves_hands_over_to_one_that_lives(hall: Hall) -> None:
    """Not to one whose process is gone; without another, it was the last."""
    ours = await hall.enter()
    await hall.elsewhere("crashed", machine=machine_name(), process_start=-1)
    living = await hall.elsewhere("living")
    await hall.job_of(ours.id)
    assert await ours.leave() is False
    assert await hall.owner() == living.id
    await hall.servers.leave("living", [])
    last = await hall.enter()
    assert await last.leave() is True
