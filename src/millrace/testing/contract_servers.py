"""What every ServerStore must do; a backend subclasses this and gives two pairs of stores on the same state."""

import asyncio
from dataclasses import dataclass, replace

import pytest

from millrace.jobs.job import JobStatus
from millrace.ports.jobs import JobStore, StaleJob
from millrace.ports.servers import ServerRecord, ServerStore
from millrace.testing.clock import ManualClock
from millrace.testing.contract_jobs import added, transform_job

__all__ = ["ServerStoreContract", "ServerView"]


@dataclass(frozen=True)
class ServerView:
    """The state as one server sees it."""

    servers: ServerStore
    jobs: JobStore


Views = tuple[ServerView, ServerView]


def record(name: str, clock: ManualClock) -> ServerRecord:
    """Return a server that has just come."""
    return ServerRecord(
        id=name, machine="m", process_id=1, process_start=2, joined_at=clock.now(), heartbeat_at=clock.now()
    )


class ServerStoreContract:
    """The contract; `views` are two servers' views of one state."""

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    def views(self, clock: ManualClock) -> Views:
        raise NotImplementedError("a backend gives its stores")

    async def owner(self, view: ServerView) -> str | None:
        [job] = await view.jobs.list_open()
        return job.owner

    async def started(self, view: ServerView, owner: str, name: str = "job") -> int:
        """Add a job that a server has claimed, and return its id."""
        return (await view.jobs.save(await added(view.jobs, transform_job(name)), owner=owner)).id

    async def test_servers_are_seen_by_each_other(self, views: Views, clock: ManualClock) -> None:
        """The oldest first, with their last heartbeats."""
        await views[0].servers.join(record("a", clock), alone=False)
        clock.advance(1)
        await views[1].servers.join(record("b", clock), alone=False)
        clock.advance(1)
        assert await views[0].servers.beat("a") is True
        first, second = await views[1].servers.list_servers()
        assert (first.id, first.heartbeat_at) == ("a", clock.now())
        assert second == replace(record("b", clock), joined_at=second.joined_at, heartbeat_at=second.joined_at)

    async def test_a_job_is_claimed_once(self, views: Views) -> None:
        """With the move that starts it; another server's claim is refused, its moves are not."""
        job = await added(views[0].jobs)
        assert await self.owner(views[0]) is None
        claimed = await views[0].jobs.save(job, owner="a")
        assert await self.owner(views[1]) == "a"
        with pytest.raises(StaleJob):
            await views[1].jobs.save(claimed, owner="b")
        await views[1].jobs.save(replace(claimed, status=JobStatus.STOPPING))
        assert await self.owner(views[1]) == "a"

    async def test_a_dead_server_s_jobs_go_to_one_heir(self, views: Views, clock: ManualClock) -> None:
        """Of two that find it dead, one removes it and has its jobs."""
        for name in ("dead", "a", "b"):
            await views[0].servers.join(record(name, clock), alone=False)
        await self.started(views[0], "dead")
        [dead] = [it for it in await views[0].servers.list_servers() if it.id == "dead"]
        buried = await asyncio.gather(views[0].servers.bury(dead, "a"), views[1].servers.bury(dead, "b"))
        assert sorted(buried) == [False, True]
        assert await self.owner(views[0]) == ("a" if buried[0] else "b")
        assert await views[0].servers.beat("dead") is False

    async def test_a_server_that_beats_again_is_not_dead(self, views: Views, clock: ManualClock) -> None:
        """It keeps its place and its jobs."""
        for name in ("slow", "a"):
            await views[0].servers.join(record(name, clock), alone=False)
        await self.started(views[0], "slow")
        [slow] = [it for it in await views[0].servers.list_servers() if it.id == "slow"]
        clock.advance(1)
        await views[1].servers.beat("slow")
        assert await views[0].servers.bury(slow, "a") is False
        assert await self.owner(views[0]) == "slow"

    async def test_a_server_that_comes_has_the_orphans(self, views: Views, clock: ManualClock) -> None:
        """Jobs whose owner is no server, not those of the others nor those that nobody has started."""
        await views[0].servers.join(record("a", clock), alone=False)
        theirs = await self.started(views[0], "a", "theirs")
        orphan = await self.started(views[0], "gone", "orphan")
        waiting = (await added(views[0].jobs, transform_job("waiting"))).id
        await views[1].servers.join(record("b", clock), alone=False)
        assert {job.id: job.owner for job in await views[0].jobs.list_open()} == {
            theirs: "a",
            orphan: "b",
            waiting: None,
        }

    async def test_orphans_can_be_adopted_by_servers_only(self, views: Views, clock: ManualClock) -> None:
        """One that was removed itself gets nothing."""
        await self.started(views[0], "gone")
        await views[0].servers.adopt_orphans("nobody")
        assert await self.owner(views[0]) == "gone"
        await views[0].servers.join(record("a", clock), alone=False)
        await views[0].servers.adopt_orphans("a")
        assert await self.owner(views[0]) == "a"

    async def test_a_server_that_is_alone_has_all(self, views: Views, clock: ManualClock) -> None:
        """Those before it are removed, however young their heartbeats are."""
        await views[0].servers.join(record("before", clock), alone=False)
        await self.started(views[0], "before")
        await views[1].servers.join(record("now", clock), alone=True)
        assert [it.id for it in await views[0].servers.list_servers()] == ["now"]
        assert await self.owner(views[0]) == "now"

    async def test_a_server_that_leaves_hands_its_jobs_over(self, views: Views, clock: ManualClock) -> None:
        """To the first heir that is still there; the last one has none."""
        for name in ("a", "b"):
            await views[0].servers.join(record(name, clock), alone=False)
        await self.started(views[0], "a")
        assert await views[0].servers.leave("a", ["gone", "b"]) == "b"
        assert await self.owner(views[1]) == "b"
        assert await views[1].servers.leave("b", []) is None
        assert await self.owner(views[1]) == "b"
        assert await views[1].servers.list_servers() == []

    async def test_of_two_that_leave_at_once_one_is_the_last(self, views: Views, clock: ManualClock) -> None:
        """Neither relies on the other."""
        for name in ("a", "b"):
            await views[0].servers.join(record(name, clock), alone=False)
        heirs = await asyncio.gather(views[0].servers.leave("a", ["b"]), views[1].servers.leave("b", ["a"]))
        assert list(heirs).count(None) == 1
