"""The loop that moves all jobs.

One pass: see what others have done, apply posted events in order, start what there is room for, look after every
instance at work. A pass derives everything from the store, so it does not matter whether the pass before it came to its
end: a command that was not performed is seen again as an instance that is wanted but has no agent.

A server that was killed is replaced by one that finds the agents at work (they heartbeat into the store) and goes on.
An agent that was killed is found by its process (at once, on this machine) or by its silence (after the lease).

Several servers may share a store. A job belongs to the server that started it: that one starts and watches its agents,
and applies what they post. Events that clients post are applied by whichever server the client has asked, so that its
answer comes with the effect; the owner sees that the job moved and does what follows. Of two that move a job at once
the guards of the store let one win, and the other looks again.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence

from millrace.clock import Clock
from millrace.errors import RuntimeUnavailable, StoreUnavailable
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
    JobKind,
    JobStatus,
    RemoveWork,
    Scheduled,
    StartInstance,
    StopInstance,
)
from millrace.jobs.lifecycle import advance
from millrace.ports.engine import Engine
from millrace.ports.jobs import AgentRecord, InstanceRef, JobStore, NoSuchJob, Posted, StaleJob, UnreadableJob
from millrace.scheduler.agent_starts import AgentStarts, StartVerdict
from millrace.scheduler.agent_watch import AgentWatch

__all__ = ["Scheduler"]

log = logging.getLogger(__name__)

IDLE_SECONDS = 0.5
"""The longest time between two passes: silence is noticed by looking, not by being told."""

MAX_COLLISIONS = 10
"""How often a pass is begun again because another server moved the same job; what is left waits for the next."""

DRAIN_SECONDS = 60.0
"""How long an endpoint's instance that is to stop may go on answering what it was asked (containers.md 5.5)."""


async def _nothing(job: Job) -> None:
    """Do nothing before a job's end."""


class Scheduler:
    """Moves the jobs of one store. `try_pump` may be called by others to have their event applied at once."""

    def __init__(
        self,
        *,
        jobs: JobStore,
        engine: Engine,
        clock: Clock,
        max_jobs: int,
        max_attempts: int,
        lease_seconds: float,
        server_id: Callable[[], str] = lambda: "server",
        is_busy: Callable[[str], bool] = lambda address: False,
        on_moved: Callable[[Job], None] = lambda job: None,
        on_started: Callable[[InstanceRef], None] = lambda ref: None,
        on_lost: Callable[[InstanceLost], None] = lambda loss: None,
        on_saved: Callable[[Job], None] = lambda job: None,
        on_forgotten: Callable[[int], None] = lambda job_id: None,
        before_end: Callable[[Job], Awaitable[None]] = _nothing,
    ) -> None:
        """Take the ports, the bounds, the id under which jobs are owned, and whom to tell what happens.

        `on_moved` is told of this server's moves, of its jobs that others have moved, and of all endpoints' moves.
        `on_saved` is told of the same before anything is done about it: no request goes to an instance that is about to
        be stopped. `on_forgotten` is told of each endpoint whose record this server has removed. `before_end` is
        awaited before the end of a job is saved. `is_busy` tells whether the endpoint's instance at an address still
        answers requests.
        """
        self._jobs = jobs
        self._engine = engine
        self._clock = clock
        self._max_jobs = max_jobs
        self._max_attempts = max_attempts
        self._server_id = server_id
        self._is_busy = is_busy
        self._on_moved = on_moved
        self._on_started = on_started
        self._on_lost = on_lost
        self._on_saved = on_saved
        self._on_forgotten = on_forgotten
        self._before_end = before_end
        self._watch = AgentWatch(engine, lease_seconds=lease_seconds)
        self._owners: dict[int, str | None] = {}
        self._kinds: dict[int, JobKind] = {}
        self._known: dict[int, tuple[int, str | None]] = {}
        self._endpoints: dict[int, Job] = {}
        self._active: dict[int, Job] = {}
        self._waiting: set[int] = set()
        self._starts = AgentStarts()
        self._drains: dict[InstanceRef, float] = {}
        self._told: set[InstanceRef] = set()
        self._unreadable: set[int] = set()
        self._lock = asyncio.Lock()

    async def suspend(self, *, all_jobs: bool) -> list[AgentRecord]:
        """Make the agents of endpoints (or of all jobs), whoever's they are, end without a word; return them."""
        suspended = []
        for entry in await self._jobs.list_open():
            if all_jobs or entry.kind is JobKind.ENDPOINT:
                for agent in await self._jobs.list_agents(entry.id):
                    self._engine.suspend(agent)
                    suspended.append(agent)
        return suspended

    async def run(self, after_pass: Callable[[], Awaitable[None]] | None = None) -> None:
        """Pass after pass, whenever the store changes and at least every half second, until cancelled."""
        while True:
            try:
                await self.pump()
                if after_pass is not None:
                    await after_pass()
                await self._jobs.wait_for_change(IDLE_SECONDS)
            except StoreUnavailable as exc:
                log.error("scheduler pass failed; trying again", extra={"detail": str(exc)})
                self._watch.start_anew()  # the agents could not be heard
                await self._clock.sleep(IDLE_SECONDS)
            except Exception:  # the loop must outlive a bad moment
                log.exception("scheduler pass failed; trying again")
                await self._clock.sleep(IDLE_SECONDS)

    async def try_pump(self, *, for_all: bool = False) -> None:
        """Make one pass; trouble is logged, for whoever calls has done his part already.

        Args:
            for_all: Whether to apply events of other servers' jobs too: the caller wants to see the effect of his.
        """
        try:
            await self.pump(for_all=for_all)
        except Exception:
            log.exception("scheduler pass failed")

    async def pump(self, *, for_all: bool = False) -> None:
        """Make one pass, and again if another server got in the way."""
        async with self._lock:
            for _ in range(MAX_COLLISIONS):
                await self._see_others()
                if await self._apply_posted(for_all):
                    break
            await self._start_queued()
            await self._look_after_all()

    async def _see_others(self) -> None:
        """Learn what other servers have moved, left or taken since the last pass, and what is new."""
        me = self._server_id()
        entries = await self._jobs.list_open()
        self._owners = {entry.id: entry.owner for entry in entries}
        self._kinds = {entry.id: entry.kind for entry in entries}
        for job_id in [job_id for job_id in self._active if self._owners.get(job_id) != me]:
            del self._active[job_id]
        for job_id in [job_id for job_id in self._known if job_id not in self._owners]:
            del self._known[job_id]
            self._waiting.discard(job_id)
            self._forget_starts(job_id, None)
            gone = self._endpoints.pop(job_id, None)
            if gone is not None:
                self._on_saved(gone)
        for entry in entries:
            is_watched = entry.owner == me or (entry.owner is not None and entry.kind is JobKind.ENDPOINT)
            if not is_watched or self._known.get(entry.id) == (entry.version, entry.owner):
                continue
            job = await self._find(entry.id)
            if job is not None:
                self._remember(job)
                self._on_saved(job)
                self._on_moved(job)

    async def _apply_posted(self, for_all: bool) -> bool:
        """Apply what waits, return whether no other server got in the way."""
        waiting: dict[int, list[Posted]] = defaultdict(list)
        for posted in await self._jobs.list_posted():
            waiting[posted.job_id].append(posted)
        is_clear = True
        for job_id, events in waiting.items():
            if not for_all and self._owners.get(job_id) not in (None, self._server_id()):
                continue
            job = self._active.get(job_id) or await self._find(job_id)
            if job is not None:
                readable = [posted.event for posted in events if posted.event is not None]
                is_clear &= await self._move(job, readable, [posted.id for posted in events])
        return is_clear

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

    async def _move(
        self, job: Job, events: Sequence[Event], applied: Sequence[int] = (), *, owner: str | None = None
    ) -> bool:
        """Apply events, save once, perform what follows; return whether no other server moved the job first."""
        moved = job
        commands: list[Command] = []
        for event in events:
            try:
                moved, further = advance(moved, event, max_attempts=self._max_attempts)
            except IllegalTransition as exc:
                log.info("event came too late", extra={"job": str(job.arn), "event": str(exc)})
                continue
            commands += further
        if moved.is_terminal and not job.is_terminal:
            await self._before_end(moved)
        try:
            saved = await self._jobs.save(moved, applied, owner=owner)
        except StaleJob:
            log.info("job was moved by another scheduler", extra={"job": str(job.arn)})
            return False
        if owner is not None:
            self._owners[saved.id] = owner
        self._remember(saved)
        self._on_saved(saved)
        for command in commands:
            try:
                await self._perform(saved, command)
            except Exception:  # what was not done is seen by the next pass, from the saved job
                log.exception("command failed", extra={"job": str(job.arn), "command": command})
        self._on_moved(saved)
        return True

    def _is_ours(self, job_id: int) -> bool:
        return self._owners.get(job_id) == self._server_id()

    def _remember(self, job: Job) -> None:
        self._known[job.id] = (job.version, self._owners.get(job.id))
        if isinstance(job, EndpointJob):
            self._endpoints[job.id] = job
        is_over = job.is_terminal and not (isinstance(job, EndpointJob) and job.instances)
        is_at_work = any(instance.state is not InstanceState.WAITING for instance in job.instances)
        self._active.pop(job.id, None)
        self._waiting.discard(job.id)
        if self._is_ours(job.id) and not is_over:
            if is_at_work:
                self._active[job.id] = job
            else:
                self._waiting.add(job.id)

    async def _start_queued(self) -> None:
        """Start jobs in order of creation while there is room; endpoints always."""
        room = self._max_jobs - sum(not isinstance(job, EndpointJob) for job in self._active.values())
        for job_id, owner in list(self._owners.items()):
            if owner is not None and job_id not in self._waiting:
                continue
            is_endpoint = self._kinds[job_id] is JobKind.ENDPOINT
            if room <= 0 and not is_endpoint:
                continue
            job = await self._find(job_id)
            if job is None or job.is_terminal:
                continue
            if job.status is JobStatus.DELETING:
                if not job.instances:
                    await self._perform(job, ForgetJob())  # a crash came between the last move and this
                continue
            await self._move(job, [Scheduled(at=self._clock.now())], owner=self._server_id())
            room -= job_id in self._active and not is_endpoint

    async def _look_after_all(self) -> None:
        if self._active:
            asked_at = self._clock.monotonic()
            agents = {agent.ref: agent for agent in await self._jobs.list_agents_of_server(self._server_id())}
            for job in list(self._active.values()):
                await self._look_after(job, agents, asked_at)

    async def _look_after(self, job: Job, agents: Mapping[InstanceRef, AgentRecord], asked_at: float) -> None:
        for instance in job.instances:
            if instance.state in (InstanceState.WAITING, InstanceState.DONE):
                continue
            ref = InstanceRef(job_id=job.id, index=instance.index, attempt=instance.attempt)
            agent = agents.get(ref)
            if job.status is JobStatus.STOPPING or instance.state is InstanceState.STOPPING:
                await self._tell_to_stop(job, ref, agent)
            if agent is None and not self._engine.is_starting(ref):
                agent = await self._jobs.get_agent(ref)  # it may have come, or come and gone, since the pass began
            if agent is None:
                detail = await self._start_agent(job, instance, ref)
            else:
                detail = self._watch.find_loss(agent, asked_at=asked_at)
            if detail is None:
                continue
            if any(posted.job_id == job.id for posted in await self._jobs.list_posted()):
                return  # it said how it ended just before it did; the next pass applies that
            lost = InstanceLost(at=self._clock.now(), index=ref.index, attempt=ref.attempt, detail=detail)
            self._on_lost(lost)
            log.warning("instance lost", extra={"job": str(job.arn), "instance": ref.index, "detail": detail})
            await self._move(job, [lost])
            return

    async def _tell_to_stop(self, job: Job, ref: InstanceRef, agent: AgentRecord | None) -> None:
        """Make sure that the stop is known: a crash may have come between saving it and saying it."""
        if ref not in self._told and (agent is None or not agent.stop_wanted):
            await self._perform(job, StopInstance(index=ref.index))

    async def _start_agent(self, job: Job, instance: Instance, ref: InstanceRef) -> str | None:
        """Start an agent for an attempt that has none; after some that never came, return why the instance is lost."""
        if self._engine.is_starting(ref):
            return None
        verdict = self._starts.judge(ref, instance, now=self._clock.monotonic())
        if verdict is StartVerdict.GIVE_UP:
            return "its agent never registered"
        if verdict is StartVerdict.WAIT:
            return None
        await self._jobs.open_instance(ref)
        self._starts.note(ref)
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
                if instance is not None and instance.attempt == command.attempt and self._is_ours(job.id):
                    await self._start_agent(job, instance, ref)
            case StopInstance():
                if self._is_draining(job, command.index):
                    return  # the next pass sees an instance that is to stop and was not told
                instance = job.instance(command.index)
                if instance is not None:
                    self._told.add(InstanceRef(job_id=job.id, index=command.index, attempt=instance.attempt))
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
                self._on_forgotten(job.id)

    def _is_draining(self, job: Job, index: int) -> bool:
        """Whether an endpoint's instance still answers requests that it took before it was to stop."""
        instance = job.instance(index)
        if instance is None or not instance.address or not self._is_busy(instance.address):
            return False
        now = self._clock.monotonic()
        ref = InstanceRef(job_id=job.id, index=index, attempt=instance.attempt)
        return now - self._drains.setdefault(ref, now) < DRAIN_SECONDS

    def _forget_starts(self, job_id: int, index: int | None) -> None:
        self._watch.forget(job_id, index)
        self._starts.forget(job_id, index)
        for ref in [ref for ref in self._drains if ref.job_id == job_id and index in (None, ref.index)]:
            del self._drains[ref]
        self._told -= {ref for ref in self._told if ref.job_id == job_id and index in (None, ref.index)}
