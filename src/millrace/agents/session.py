"""An agent's standing: its lease on one attempt of an instance, kept by heartbeats, and whether it is wanted to stop.

The attempt number fences: once the scheduler has opened a later attempt, heartbeats and events of this one are refused
with LeaseLost, and the agent ends at once without writing anything more.
"""

import asyncio
import contextlib
import logging
import os
import signal
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Protocol

from millrace.agents.busy_loop import BusyLoop
from millrace.clock import Clock
from millrace.errors import LeaseLost, StoreUnavailable
from millrace.jobs.job import Event
from millrace.machine import machine_name
from millrace.ports.jobs import InstanceRef, JobStore

__all__ = ["AgentSession", "DetachedSession", "Session", "Suspended"]

log = logging.getLogger(__name__)


class Suspended(LeaseLost):
    """The agent was told to end without a word; a later attempt takes its work up."""


class Session(Protocol):
    """What the work of an instance needs of its agent's standing."""

    ref: InstanceRef
    clock: Clock
    stop: asyncio.Event
    read_progress: Callable[[], Mapping[str, Any] | None]

    async def check_lease(self) -> None:
        """Return if this process may commit results, now; raise LeaseLost if not."""
        ...

    async def check_attempt(self) -> None:
        """As `check_lease`, but return for a suspended agent too: for what helps the attempt that follows."""
        ...

    async def post(self, event: Event) -> None:
        """Report an event; raises LeaseLost if another attempt has taken over."""
        ...


class DetachedSession:
    """The standing of work that no scheduler watches: a transform from the command line."""

    def __init__(self, clock: Clock, index: int = 0) -> None:
        self.ref = InstanceRef(job_id=0, index=index, attempt=1)
        self.clock = clock
        self.stop = asyncio.Event()
        self.read_progress: Callable[[], Mapping[str, Any] | None] = lambda: None

    async def check_lease(self) -> None:
        """Nobody else is at this work."""

    async def check_attempt(self) -> None:
        """Nobody else is at this work."""

    async def post(self, event: Event) -> None:
        """Nobody listens."""


PATIENCE_SECONDS = 900.0
"""How long an agent works on without hearing of the state; it can't commit meanwhile, and another may have its work."""


class AgentSession:
    """A registered agent. `stop` is set once the instance is wanted to stop; `lost` once the lease is lost."""

    def __init__(
        self,
        ref: InstanceRef,
        *,
        jobs: JobStore,
        clock: Clock,
        heartbeat_seconds: float,
        agent_id: str,
        has_beaten: Callable[[], None],
    ) -> None:
        self.ref = ref
        self.clock = clock
        self.stop = asyncio.Event()
        self.lost = asyncio.Event()
        self.suspended = False
        self.read_progress: Callable[[], Mapping[str, Any] | None] = lambda: None
        self._jobs = jobs
        self.agent_id = agent_id
        self._interval = heartbeat_seconds
        self._has_beaten = has_beaten

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        ref: InstanceRef,
        *,
        jobs: JobStore,
        clock: Clock,
        heartbeat_seconds: float,
        process_start: int,
        busy_seconds: float = 5.0,
        beat_alone: Callable[[InstanceRef, str], None] = lambda ref, agent_id: None,
    ) -> AsyncIterator["AgentSession"]:
        """Register for an attempt and keep the lease while the block runs.

        `beat_alone` sends a heartbeat from a thread of its own when the event loop has not beaten for `busy_seconds`.

        Raises:
            LeaseLost: Another agent has the attempt, or it is closed.
        """
        agent_id = uuid.uuid4().hex
        busy = BusyLoop(partial(beat_alone, ref, agent_id), clock=clock, after_seconds=busy_seconds)
        session = cls(
            ref,
            jobs=jobs,
            clock=clock,
            heartbeat_seconds=heartbeat_seconds,
            agent_id=agent_id,
            has_beaten=busy.has_beaten,
        )
        nudge = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, nudge.set)  # before anybody can know of us and send it
        loop.add_signal_handler(signal.SIGTERM, session._suspend)
        taken = await jobs.register_agent(
            ref,
            agent_id=agent_id,
            process_id=os.getpid(),
            process_start=process_start,
            host=machine_name(),
        )
        if not taken:
            raise LeaseLost(f"instance {ref.index} of job {ref.job_id}: attempt {ref.attempt} is taken or closed")
        if await jobs.is_stop_wanted(ref):
            session.stop.set()
        beating = asyncio.create_task(session._beat(nudge))
        try:
            with busy:
                yield session
        finally:
            beating.cancel()
            await asyncio.wait({beating})
            loop.remove_signal_handler(signal.SIGUSR1)

    def _suspend(self) -> None:
        self.suspended = True
        self.stop.set()

    async def _beat(self, nudge: asyncio.Event) -> None:
        heard = self.clock.monotonic()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval):  # wait_for returns, and is cancelled no more, when nudged
                    await nudge.wait()
            nudge.clear()
            try:
                if await self._jobs.heartbeat(self.ref, self.agent_id, self.read_progress()):
                    self.stop.set()
                self._has_beaten()
                heard = self.clock.monotonic()
            except StoreUnavailable:
                if self.clock.monotonic() - heard > PATIENCE_SECONDS:
                    log.exception("the state has not answered for %d seconds; giving up", PATIENCE_SECONDS)
                    self.lost.set()
                    self.stop.set()
                    return
                log.exception("heartbeat failed; trying again")  # the lease is longer than several of them
            except LeaseLost as exc:
                log.error("lease lost", extra={"detail": str(exc)})
                self.lost.set()
                self.stop.set()
                return

    async def check_lease(self) -> None:
        """Return if the lease still holds, now; raise LeaseLost if not. To be awaited before anything is committed."""
        self._check_suspended()
        await self.check_attempt()

    async def check_attempt(self) -> None:
        """As `check_lease`, but return for a suspended agent too: for what helps the attempt that follows."""
        await self._jobs.heartbeat(self.ref, self.agent_id, None)

    async def post(self, event: Event) -> None:
        """Report an event; raises LeaseLost if the attempt was closed meanwhile."""
        self._check_suspended()
        await self._jobs.post(self.ref.job_id, event, by=self.ref)

    def _check_suspended(self) -> None:
        if self.suspended:
            raise Suspended(f"instance {self.ref.index} of job {self.ref.job_id}: suspended")

    async def report_progress(self) -> None:
        """Write the counters now, as at the end of the work."""
        await self._jobs.heartbeat(self.ref, self.agent_id, self.read_progress())
