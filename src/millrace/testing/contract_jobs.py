"""What every JobStore must do; a backend subclasses this and gives two stores on the same state."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from millrace.errors import LeaseLost
from millrace.jobs.endpoint import ModelContainer
from millrace.jobs.job import Event, Instance, InstanceStarted, Job, JobKind, JobStatus, Scheduled, TransformJob
from millrace.jobs.transform import TransformSpec
from millrace.names import ObjectPrefix, sagemaker_arn
from millrace.ports.jobs import InstanceRef, JobExists, JobQuery, JobStore, NoSuchJob, StaleJob

__all__ = ["JobStoreContract", "transform_job"]

START = datetime(2026, 1, 1, tzinfo=UTC)
Stores = tuple[JobStore, JobStore]


def transform_job(name: str = "job", *, region: str = "us-east-1", seconds: int = 0) -> TransformJob:
    """Return a new transform job."""
    at = START + timedelta(seconds=seconds)
    return TransformJob(
        name=name,
        arn=sagemaker_arn("transform-job", name, region=region),
        status=JobStatus.IN_PROGRESS,
        created_at=at,
        modified_at=at,
        spec=TransformSpec(model="m", source=ObjectPrefix("b", "in/"), output=ObjectPrefix("b", "out")),
        containers=(ModelContainer(image="knn:1"),),
        instances=(Instance(index=0),),
    )


async def added(store: JobStore, job: Job | None = None) -> Job:
    """Add a job and return it with its id."""
    return await store.add(JobKind.TRANSFORM, job or transform_job(), {"TransformJobName": "job", "MaxPayloadInMB": 3})


class JobStoreContract:
    """The contract; `stores` are two views of one state, as two processes have them."""

    @pytest.fixture
    def stores(self) -> Stores:
        raise NotImplementedError("a backend gives its stores")

    async def test_a_job_comes_back_as_it_was_added(self, stores: Stores) -> None:
        """Spec, state and request survive the store, and are seen by every process."""
        job = await added(stores[0])
        found, request = await stores[1].get_with_request(JobKind.TRANSFORM, "us-east-1", "job")
        assert found == job
        assert replace(found, id=0, version=0) == transform_job()
        assert request == {"TransformJobName": "job", "MaxPayloadInMB": 3}

    async def test_names_are_unique_by_kind_and_region(self, stores: Stores) -> None:
        """The same name may be used elsewhere."""
        await added(stores[0])
        with pytest.raises(JobExists, match="transform-job/job"):
            await added(stores[1])
        await added(stores[0], transform_job(region="eu-west-1"))

    async def test_missing_jobs_raise(self, stores: Stores) -> None:
        """By name and by id."""
        with pytest.raises(NoSuchJob):
            await stores[0].get(JobKind.TRANSFORM, "us-east-1", "nobody")
        with pytest.raises(NoSuchJob):
            await stores[0].get_by_id(4711)

    async def test_of_two_moves_one_wins(self, stores: Stores) -> None:
        """A job that was moved meanwhile is not saved over."""
        job = await added(stores[0])
        moved = await stores[0].save(replace(job, status=JobStatus.STOPPING))
        with pytest.raises(StaleJob):
            await stores[1].save(replace(job, status=JobStatus.COMPLETED))
        assert await stores[1].get_by_id(job.id) == moved

    async def test_terminal_jobs_are_finished(self, stores: Stores) -> None:
        """The scheduler is told of unfinished jobs only, oldest first."""
        first = await added(stores[0], transform_job("a"))
        second = await added(stores[0], transform_job("b"))
        await stores[0].save(replace(first, status=JobStatus.COMPLETED, ended_at=START))
        assert await stores[1].list_unfinished() == [second.id]

    async def test_events_wait_in_order_until_they_are_applied(self, stores: Stores) -> None:
        """Posted by one process, applied by another together with the move, kept as history."""
        job = await added(stores[0])
        events: list[Event] = [Scheduled(at=START), InstanceStarted(at=START, index=0, attempt=1)]
        for event in events:
            await stores[1].post(job.id, event)
        posted = await stores[0].list_posted()
        assert [it.event for it in posted] == events
        await stores[0].save(job, [posted[0].id])
        assert [it.event for it in await stores[1].list_posted()] == events[1:]
        assert [kind for _, kind, _ in await stores[0].history(job.id)] == ["Scheduled"]

    async def test_events_of_unknown_jobs_are_refused(self, stores: Stores) -> None:
        """A forgotten job takes nothing more."""
        with pytest.raises(NoSuchJob):
            await stores[0].post(4711, Scheduled(at=START))

    async def test_one_agent_takes_an_attempt(self, stores: Stores) -> None:
        """Of two agents started for the same attempt one is at work."""
        job = await added(stores[0])
        ref = InstanceRef(job_id=job.id, index=0, attempt=1)
        assert not await stores[0].register_agent(ref, agent_id="early", process_id=1, process_start=1, host="h")
        await stores[0].open_instance(ref)
        await stores[1].open_instance(ref)
        assert await stores[0].register_agent(ref, agent_id="one", process_id=1, process_start=1, host="h")
        assert not await stores[1].register_agent(ref, agent_id="two", process_id=2, process_start=1, host="h")
        agent = await stores[1].get_agent(ref)
        assert agent is not None
        assert (agent.agent_id, agent.process_id, agent.stop_wanted) == ("one", 1, False)

    async def test_a_later_attempt_fences_off_the_earlier(self, stores: Stores) -> None:
        """Heartbeats and events of an agent that was given up are refused."""
        job = await added(stores[0])
        old, new = (InstanceRef(job_id=job.id, index=0, attempt=attempt) for attempt in (1, 2))
        await stores[0].open_instance(old)
        await stores[0].register_agent(old, agent_id="old", process_id=1, process_start=1, host="h")
        await stores[0].open_instance(new)
        with pytest.raises(LeaseLost):
            await stores[1].heartbeat(old, "old", None)
        with pytest.raises(LeaseLost):
            await stores[1].post(job.id, Scheduled(at=START), by=old)
        await stores[0].open_instance(old)
        assert await stores[0].get_agent(old) is None
        assert await stores[1].register_agent(new, agent_id="new", process_id=2, process_start=1, host="h")
        await stores[1].post(job.id, Scheduled(at=START), by=new)

    async def test_heartbeats_carry_progress_one_way_and_stop_the_other(self, stores: Stores) -> None:
        """The agent learns that it is to stop, everybody learns how far it is."""
        job = await added(stores[0])
        ref = InstanceRef(job_id=job.id, index=0, attempt=1)
        await stores[0].open_instance(ref)
        await stores[0].register_agent(ref, agent_id="one", process_id=1, process_start=1, host="h")
        assert await stores[1].heartbeat(ref, "one", {"records": 5}) is False
        assert await stores[1].heartbeat(ref, "one", None) is False
        [agent] = await stores[0].list_agents(job.id)
        assert agent.progress == {"records": 5}
        await stores[0].want_stop(job.id, 0)
        assert await stores[1].is_stop_wanted(ref) is True
        assert await stores[1].heartbeat(ref, "one", None) is True

    async def test_a_stop_can_be_wanted_before_the_agent_comes(self, stores: Stores) -> None:
        """The agent finds it when it registers."""
        job = await added(stores[0])
        ref = InstanceRef(job_id=job.id, index=0, attempt=1)
        await stores[0].want_stop(job.id, 0)
        await stores[0].open_instance(ref)
        assert await stores[1].is_stop_wanted(ref) is True

    async def test_a_forgotten_job_leaves_nothing(self, stores: Stores) -> None:
        """Events and agents go with it, and its name is free again."""
        job = await added(stores[0])
        await stores[0].post(job.id, Scheduled(at=START))
        await stores[0].open_instance(InstanceRef(job_id=job.id, index=0, attempt=1))
        await stores[0].forget(job.id)
        assert await stores[1].list_posted() == []
        again = await added(stores[1])
        assert again.id != job.id

    async def test_a_request_can_be_amended(self, stores: Stores) -> None:
        """What Describe echoes follows updates."""
        job = await added(stores[0])
        await stores[0].update_request(job.id, {"MaxPayloadInMB": 5})
        _, request = await stores[1].get_with_request(JobKind.TRANSFORM, "us-east-1", "job")
        assert request == {"TransformJobName": "job", "MaxPayloadInMB": 5}

    @pytest.mark.parametrize("sort_by", ["name", "created_at", "status"])
    @pytest.mark.parametrize("descending", [True, False])
    async def test_listings_page_through_everything_once(self, stores: Stores, sort_by: str, descending: bool) -> None:
        """Whatever the order, also where many entries are equal in it."""
        for number in range(7):
            await added(stores[0], transform_job(f"job-{number}", seconds=number // 3))
        await added(stores[0], transform_job("job-x", region="eu-west-1"))
        names: list[str] = []
        query = JobQuery(kind=JobKind.TRANSFORM, region="us-east-1", sort_by=sort_by, descending=descending, limit=3)
        while True:
            page = await stores[1].list_jobs(query)
            names += [summary.name for summary in page.summaries]
            if page.after is None:
                break
            query = replace(query, after=page.after)
        assert sorted(names) == [f"job-{number}" for number in range(7)]
        assert names == sorted(names, reverse=descending)

    async def test_listings_follow_every_change(self, stores: Stores) -> None:
        """Whoever asks again sees what was committed since, by this process or by another, and no less."""
        query = JobQuery(kind=JobKind.TRANSFORM, region="us-east-1", sort_by="name", descending=False)

        async def listed() -> list[list[tuple[str, str]]]:
            pages = [(await store.list_jobs(query)).summaries for store in stores for _ in range(2)]
            return [[(summary.name, summary.stored_status) for summary in page] for page in pages]

        assert await listed() == [[]] * 4
        job = await added(stores[0])
        assert await listed() == [[("job", "InProgress")]] * 4
        await stores[1].save(replace(job, status=JobStatus.FAILED))
        assert await listed() == [[("job", "Failed")]] * 4
        await stores[0].forget(job.id)
        assert await listed() == [[]] * 4

    async def test_listings_filter(self, stores: Stores) -> None:
        """Name, status and times; bounds are exclusive."""
        for number in range(4):
            await added(stores[0], transform_job(f"Job-{number}", seconds=number))
        done = await stores[0].get(JobKind.TRANSFORM, "us-east-1", "Job-1")
        await stores[0].save(replace(done, status=JobStatus.FAILED, failure_reason="why", ended_at=START))
        base = JobQuery(kind=JobKind.TRANSFORM, region="us-east-1", descending=False)

        async def names(query: JobQuery) -> list[str]:
            return [summary.name for summary in (await stores[1].list_jobs(query)).summaries]

        assert await names(replace(base, name_contains="jOB-2")) == ["Job-2"]
        assert await names(replace(base, status=JobStatus.FAILED)) == ["Job-1"]
        assert await names(replace(base, created_after=START + timedelta(seconds=1))) == ["Job-2", "Job-3"]
        assert await names(replace(base, created_before=START + timedelta(seconds=1))) == ["Job-0"]
        [failed] = (await stores[1].list_jobs(replace(base, status=JobStatus.FAILED))).summaries
        assert (failed.failure_reason, failed.ended_at) == ("why", START)

    async def test_a_change_by_another_process_is_noticed(self, stores: Stores) -> None:
        """Waiting ends as soon as anybody writes, and with False if nobody does."""
        while await stores[0].wait_for_change(0.0):
            pass
        waiting = asyncio.create_task(stores[0].wait_for_change(30.0))
        await asyncio.sleep(0)
        await added(stores[1])
        assert await waiting is True
        while await stores[0].wait_for_change(0.0):
            pass
        assert await stores[0].wait_for_change(0.0) is False
