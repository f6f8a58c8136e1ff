"""The loop that moves all jobs.

One pass: apply posted events in order, start what there is room for, look after every instance at work. A pass derives
everything from the store, so it does not matter whether the pass before it came to its end: a command that was not
performed is seen again as an instance that is wanted but has no agent.

A server that was killed is replaced by one that finds the agents at work (they heartbeat into the store) and goes on.
An agent that was killed is found by its process (at once, on this machine) or by its silence (after the lease).
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime

from millrace.clock import Clock
from millrace.errors import RuntimeUnavailable
from millrace.jobs.job import (
    Command,
    EndpointJob,
    Event,
    ForgetJob,
    IllegalTransition,
    Instance,
    InstanceLost,
    InstanceState,
    Job,
    JobStatus,
    RemoveWork,
    Scheduled,
    StartInstance,
    StopInstance,
)
from millrace.jobs.lifecycle import advance
from millrace.ports.engine import Engine
from millrace.ports.jobs import AgentRecord, InstanceRef, JobStore, NoSuchJob, Posted, StaleJob, UnreadableJob

__all__ = ["Scheduler"]

log = logging.getLogger(__name__)

IDLE_SECONDS = 0.5
"""The longest time between two passes: silence is noticed by looking, not by being told."""

MAX_UNREGISTERED_STARTS = 3
"""How often an agent may end before it registers until its instance counts as lost."""

FIRST_RESTART_DELAY_SECONDS = 0.5
MAX_RESTART_DELAY_SECONDS = 30.0
"""The pause before an endpoint's instance is started again doubles with each failure since it was last ready."""

DRAIN_SECONDS = 60.0
"""How long an endpoint's instance that is to stop may go on answering what it was asked (containers.md 5.5)."""


class Scheduler:
    """Moves the jobs of one store. `pump` may be called by others to have their event applied at once."""

    def __init__(
        self,
        *,
        jobs: JobStore,
        engine: Engine,
        clock: Clock,
        max_jobs: int,
        max_attempts: int,
        lease_seconds: float,
        on_moved: Callable[[Job], None] = lambda job: None,
        on_started: Callable[[InstanceRef], None] = lambda ref: None,
        on_lost: Callable[[InstanceLost], None] = lambda loss: None,
        on_saved: Callable[[Job], None] = lambda job: None,
        is_busy: Callable[[str], bool] = lambda address: False,
    ) -> None:
        """Take the ports, the bounds, and whom to tell of moved jobs, started agents and agents that are gone.

        `on_saved` is told of a move before anything is done about it: no request goes to an instance that is about to
        be stopped. `is_busy` tells whether the endpoint's instance at an address still answers requests.
        """
        self._jobs = jobs
        self._engine = engine
        self._clock = clock
        self._max_jobs = max_jobs
        self._max_attempts = max_attempts
        self._lease = lease_seconds
        self._on_moved = on_moved
        self._on_started = on_started
        self._on_lost = on_lost
        self._on_saved = on_saved
        self._is_busy = is_busy
        self._active: dict[int, Job] = {}
        self._queued_kinds: dict[int, type[Job]] = {}
        self._starts: dict[InstanceRef, int] = defaultdict(int)
        self._not_before: dict[InstanceRef, float] = {}
        self._beats: dict[InstanceRef, tuple[datetime, float]] = {}
        self._drains: dict[InstanceRef, float] = {}
        self._unreadable: set[int] = set()
        self._lock = asyncio.Lock()

    async def suspend(self, *, all_jobs: bool) -> list[AgentRecord]:
        """Make the agents of endpoints (or of all jobs) end without a word; return them."""
        suspended = []
        for job in list(self._active.values()):
            if all_jobs or isinstance(job, EndpointJob):
                for agent in await self._jobs.list_agents(job.id):
                    self._engine.suspend(agent)
                    suspended.append(agent)
        return suspended

    async def run(self) -> None:
        """Pass after pass, whenever the store changes and at least every half second, until cancelled."""
        while True:
            try:
                await self.pump()
                await self._jobs.wait_for_change(IDLE_SECONDS)
            except Exception:  # the loop must outlive a bad moment of disk or database
                log.exception("scheduler pass failed; trying again")
                await self._clock.sleep(IDLE_SECONDS)

    async def try_pump(self) -> None:
        """Make one pass; trouble is logged, for whoever calls has done his part already."""
        try:
            await self.pump()
        except Exception:
            log.exception("scheduler pass failed")

    async def pump(self) -> None:
        """Make one pass."""
        async with self._lock:
            await self._apply_posted()
            await self._start_queued()
            for job in list(self._active.values()):
                await self._look_after(job)

    async def _apply_posted(self) -> None:
        waiting: dict[int, list[Posted]] = defaultdict(list)
        for posted in await self._jobs.list_posted():
            waiting[posted.job_id].append(posted)
        for job_id, events in waiting.items():
            job = await self._find(job_id)
            if job is not None:
                readable = [posted.event for posted in events if posted.event is not None]
                await self._move(job, readable, [posted.id for posted in events])

    async def _find(self, job_id: int) -> Job | None:
        """Return a job, or None if it was forgotten meanwhile or can't be read: the others must go on."""
        try:
            return await self._jobs.get_by_id(job_id)
        except NoSuchJob:
            return None
        except UnreadableJob as exc:
            if job_id not in self._unreadable:
                self._unreadable.add(job_id)
                log.error("job can't be read", extra={"detail": str(exc)})
            return None

    async def _move(self, job: Job, events: Sequence[Event], applied: Sequence[int] = ()) -> Job:
        """Apply events, save once, perform what follows."""
        moved = job
        commands: list[Command] = []
        for event in events:
            try:
                moved, further = advance(moved, event, max_attempts=self._max_attempts)
            except IllegalTransition as exc:
                log.info("event came too late", extra={"job": str(job.arn), "event": str(exc)})
                continue
            commands += further
        try:
            saved = await self._jobs.save(moved, applied)
        except StaleJob:
            log.info("job was moved by another scheduler", extra={"job": str(job.arn)})
            return job
        self._remember(saved)
        self._on_saved(saved)
        for command in commands:
            try:
                await self._perform(saved, command)
            except Exception:  # what was not done is seen by the next pass, from the saved job
                log.exception("command failed", extra={"job": str(job.arn), "command": command})
        self._on_moved(saved)
        return saved

    def _remember(self, job: Job) -> None:
        if job.is_terminal and not (isinstance(job, EndpointJob) and job.instances):
            self._active.pop(job.id, None)
        elif any(instance.state is not InstanceState.WAITING for instance in job.instances):
            self._active[job.id] = job

    async def _start_queued(self) -> None:
        """Start jobs in order of creation while there is room; endpoints always."""
        unfinished = await self._jobs.list_unfinished()
        room = self._max_jobs - sum(not isinstance(job, EndpointJob) for job in self._active.values())
        for job_id in unfinished:
            if job_id in self._active or (room <= 0 and self._queued_kinds.get(job_id, EndpointJob) != EndpointJob):
                continue
            job = await self._find(job_id)
            if job is None:
                continue
            self._queued_kinds[job_id] = type(job)
            if job.status is JobStatus.DELETING and not job.instances:
                await self._perform(job, ForgetJob())  # a crash came between the last move and this
                continue
            self._remember(job)
            if job_id in self._active:  # at work before this server started
                room -= not isinstance(job, EndpointJob)
            elif isinstance(job, EndpointJob) or room > 0:
                if job.is_terminal or (isinstance(job, EndpointJob) and job.instances):
                    continue
                moved = await self._move(job, [Scheduled(at=self._clock.now())])
                room -= moved.id in self._active and not isinstance(moved, EndpointJob)

    async def _look_after(self, job: Job) -> None:
        for instance in job.instances:
            if instance.state in (InstanceState.WAITING, InstanceState.DONE):
                continue
            ref = InstanceRef(job_id=job.id, index=instance.index, attempt=instance.attempt)
            agent = await self._jobs.get_agent(ref)
            if job.status is JobStatus.STOPPING or instance.state is InstanceState.STOPPING:
                await self._tell_to_stop(job, instance, agent)
            if agent is None:
                lost = await self._start_agent(job, instance, ref)
            else:
                lost = self._find_loss(agent)
            if lost is None:
                continue
            if any(posted.job_id == job.id for posted in await self._jobs.list_posted()):
                return  # it said how it ended just before it did; the next pass applies that
            self._on_lost(lost)
            log.warning("instance lost", extra={"job": str(job.arn), "instance": instance.index, "detail": lost.detail})
            await self._move(job, [lost])
            return

    async def _tell_to_stop(self, job: Job, instance: Instance, agent: AgentRecord | None) -> None:
        """Make sure that the stop is known: a crash may have come between saving it and saying it."""
        if agent is None or not agent.stop_wanted:
            await self._perform(job, StopInstance(index=instance.index))

    def _find_loss(self, agent: AgentRecord) -> InstanceLost | None:
        """Tell whether an agent that once registered is gone: by its process, or by its silence.

        Silence is measured by our own steady clock from the moment when we last saw a new heartbeat: a machine that
        slept, or whose clock was set, must not lose all of its agents at once. What is silent is killed before
        another attempt begins.
        """
        now = self._clock.now()
        ref = agent.ref
        seen_at = self._clock.monotonic()
        known = self._beats.get(ref)
        if known is None or known[0] != agent.heartbeat_at:
            self._beats[ref] = known = (agent.heartbeat_at, seen_at)
        if self._engine.is_alive(agent) is False:
            detail = f"agent process {agent.process_id} ended"
        elif seen_at - known[1] > self._lease:
            self._engine.kill(agent)
            detail = f"no heartbeat for {seen_at - known[1]:.0f} s"
        else:
            return None
        return InstanceLost(at=now, index=ref.index, attempt=ref.attempt, detail=detail)

    async def _start_agent(self, job: Job, instance: Instance, ref: InstanceRef) -> InstanceLost | None:
        """Start an agent for an attempt that has none; after some that never came, the instance is lost."""
        if self._engine.is_starting(ref):
            return None
        now = self._clock.monotonic()
        if self._starts[ref] >= MAX_UNREGISTERED_STARTS or instance.state is InstanceState.STOPPING:
            return InstanceLost(
                at=self._clock.now(), index=ref.index, attempt=ref.attempt, detail="its agent never registered"
            )
        if instance.failures:
            pause = min(MAX_RESTART_DELAY_SECONDS, FIRST_RESTART_DELAY_SECONDS * 2 ** (instance.failures - 1))
            if now < self._not_before.setdefault(ref, now + pause):
                return None
        await self._jobs.open_instance(ref)
        self._starts[ref] += 1
        try:
            await self._engine.start(ref)
            self._on_started(ref)
        except (OSError, RuntimeUnavailable):
            log.exception("agent can't be started", extra={"job": str(job.arn), "instance": ref.index})
        return None

    async def _perform(self, job: Job, command: Command) -> None:
        match command:
            case StartInstance():
                instance = job.instance(command.index)
                ref = InstanceRef(job_id=job.id, index=command.index, attempt=command.attempt)
                if instance is not None and instance.attempt == command.attempt:
                    await self._start_agent(job, instance, ref)
            case StopInstance():
                if self._is_draining(job, command.index):
                    return  # the next pass sees an instance that is to stop and was not told
                await self._jobs.want_stop(job.id, command.index)
                for agent in await self._jobs.list_agents(job.id):
                    if agent.ref.index == command.index:
                        self._engine.nudge(agent)
            case RemoveWork():
                self._forget_starts(job.id, command.index)
                await self._engine.remove_work(job.id, command.index)
            case ForgetJob():
                self._active.pop(job.id, None)
                await self._jobs.forget(job.id)

    def _is_draining(self, job: Job, index: int) -> bool:
        """Whether an endpoint's instance still answers requests that it took before it was to stop."""
        instance = job.instance(index)
        if instance is None or not instance.address or not self._is_busy(instance.address):
            return False
        now = self._clock.monotonic()
        ref = InstanceRef(job_id=job.id, index=index, attempt=instance.attempt)
        return now - self._drains.setdefault(ref, now) < DRAIN_SECONDS

    def _forget_starts(self, job_id: int, index: int | None) -> None:
        self._queued_kinds.pop(job_id, None)
        for memory in (self._starts, self._not_before, self._beats, self._drains):
            for ref in [ref for ref in memory if ref.job_id == job_id and index in (None, ref.index)]:
                del memory[ref]
