"""What every OperationStore must do; a backend subclasses this and gives all stores of one state."""

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from millrace.jobs.job import JobKind, JobStatus, Scheduled
from millrace.ports.documents import DocumentStore
from millrace.ports.jobs import InstanceRef, JobStore, NoSuchJob
from millrace.ports.keys import KeyStore
from millrace.ports.operation import OperationStore
from millrace.testing.contract_jobs import transform_job

__all__ = ["OperationStoreContract", "StateStores"]

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class StateStores:
    """The stores of one state."""

    operation: OperationStore
    jobs: JobStore
    documents: DocumentStore
    keys: KeyStore


async def _ended(stores: StateStores, name: str, at: datetime = LONG_AGO) -> int:
    job = await stores.jobs.add(JobKind.TRANSFORM, transform_job(name), {})
    await stores.jobs.save(replace(job, status=JobStatus.COMPLETED, ended_at=at))
    return job.id


class OperationStoreContract:
    """The contract."""

    @pytest.fixture
    def stores(self) -> StateStores:
        raise NotImplementedError("a backend gives its stores")

    async def test_jobs_are_counted_by_kind_and_status(self, stores: StateStores) -> None:
        """Of unfinished jobs, those without an agent wait; instances with one are at work."""
        for name in ("a", "b"):
            await stores.jobs.add(JobKind.TRANSFORM, transform_job(name), {})
        await _ended(stores, "c")
        job = await stores.jobs.get(JobKind.TRANSFORM, "us-east-1", "a")
        ref = InstanceRef(job_id=job.id, index=0, attempt=1)
        await stores.jobs.open_instance(ref)
        await stores.jobs.register_agent(ref, agent_id="x", process_id=1, process_start=1, host="h")
        counts = await stores.operation.count_jobs()
        assert counts == {("transform-job", "InProgress"): 2, ("transform-job", "Completed"): 1}
        assert await stores.operation.count_ended_jobs(LONG_AGO) == {("transform-job", "Completed"): 1}
        assert await stores.operation.count_ended_jobs(LONG_AGO + timedelta(seconds=1)) == {}
        unfinished = await stores.operation.list_unfinished()
        assert [(it.name, it.status.value, it.registered, it.working) for it in unfinished] == [
            ("a", "InProgress", 1, 1),
            ("b", "InProgress", 0, 0),
        ]

    async def test_progress_is_told_until_the_end_was_seen(self, stores: StateStores) -> None:
        """Counters of jobs at work, and of those that ended since the last look."""
        job = await stores.jobs.add(JobKind.TRANSFORM, transform_job("a"), {})
        ref = InstanceRef(job_id=job.id, index=0, attempt=1)
        await stores.jobs.open_instance(ref)
        await stores.jobs.register_agent(ref, agent_id="x", process_id=1, process_start=1, host="h")
        await stores.jobs.heartbeat(ref, "x", {"records": 5})
        [told] = await stores.operation.list_transform_progress(LONG_AGO)
        assert (told.job_id, told.index, told.attempt, told.counters) == (job.id, 0, 1, {"records": 5})
        await stores.jobs.save(replace(job, status=JobStatus.COMPLETED, ended_at=LONG_AGO))
        assert len(await stores.operation.list_transform_progress(LONG_AGO)) == 1
        assert await stores.operation.list_transform_progress(LONG_AGO + timedelta(seconds=1)) == []

    async def test_ended_jobs_are_listed_in_pages_and_forgotten(self, stores: StateStores) -> None:
        """Those that ended before the moment, with their tags; no others."""
        old = [await _ended(stores, name) for name in ("a", "b", "c")]
        await _ended(stores, "young", LONG_AGO + timedelta(days=9))
        await stores.jobs.add(JobKind.TRANSFORM, transform_job("runs"), {})
        arns = {name: str(transform_job(name).arn) for name in ("a", "runs")}
        for arn in arns.values():
            await stores.documents.put("tags", "us-east-1", arn, {"tags": {"k": "v"}})
        before = LONG_AGO + timedelta(days=1)
        first = await stores.operation.list_ended_jobs(before, limit=2)
        rest = await stores.operation.list_ended_jobs(before, after=first[-1], limit=2)
        assert [job.id for job in (*first, *rest)] == old
        assert (first[0].kind, first[0].name, first[0].ended_at) == (JobKind.TRANSFORM, "a", LONG_AGO)
        assert await stores.operation.forget_ended_job(old[0], before)
        assert not await stores.operation.forget_ended_job(old[0], before)
        with pytest.raises(NoSuchJob):
            await stores.jobs.get_by_id(old[0])
        assert await stores.documents.find("tags", "us-east-1", arns["a"]) is None
        assert await stores.documents.find("tags", "us-east-1", arns["runs"]) is not None

    async def test_what_is_unfinished_is_not_forgotten(self, stores: StateStores) -> None:
        """The guard is in the statement: a list that is out of date deletes nothing that lives."""
        job = await stores.jobs.add(JobKind.TRANSFORM, transform_job("runs"), {})
        young = await _ended(stores, "young")
        assert not await stores.operation.forget_ended_job(job.id, LONG_AGO + timedelta(days=9000))
        assert not await stores.operation.forget_ended_job(young, LONG_AGO)
        assert [it.name for it in await stores.operation.list_unfinished()] == ["runs"]

    async def test_a_job_with_a_waiting_event_is_not_listed(self, stores: StateStores) -> None:
        """Something is still to be applied to it."""
        job_id = await _ended(stores, "a")
        await stores.jobs.post(job_id, Scheduled(at=LONG_AGO))
        assert await stores.operation.list_ended_jobs(LONG_AGO + timedelta(days=1)) == []

    async def test_expired_keys_are_counted_and_deleted(self, stores: StateStores) -> None:
        """Lasting keys and those whose time is not over stay."""
        key = await stores.keys.create_session_key(role="R", session_name="s", duration_seconds=900)
        assert key.expires_at is not None
        before, after = key.expires_at - timedelta(seconds=1), key.expires_at + timedelta(seconds=1)
        assert await stores.operation.count_expired_keys(before) == 0
        assert await stores.operation.count_expired_keys(after) == 1
        assert await stores.operation.delete_expired_keys(before) == 0
        assert await stores.operation.delete_expired_keys(after) == 1
        assert await stores.operation.count_expired_keys(after) == 0

    async def test_one_of_many_gets_the_turn(self, stores: StateStores) -> None:
        """Of several who ask at once one is told to go, and nobody until the time is over."""

        async def ask(now: datetime) -> list[bool]:
            claim = stores.operation.claim_turn
            return await asyncio.gather(*(claim("gc", now=now, every_seconds=60) for _ in range(5)))

        assert sorted(await ask(LONG_AGO)) == [False] * 4 + [True]
        assert not any(await ask(LONG_AGO + timedelta(seconds=59)))
        assert sum(await ask(LONG_AGO + timedelta(seconds=60))) == 1
        assert await stores.operation.claim_turn("other", now=LONG_AGO, every_seconds=60)
