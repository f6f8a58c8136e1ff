"""A server's place among those that share a state.

A server beats; one whose process is gone (seen at once on its machine) or that is silent for a lease is removed by
another, which takes its jobs in the same transaction. A server that finds itself removed, because it slept or the store
was away, comes back under another id: what it held is another's by then. A server that ends hands its jobs over.
"""

import logging
import os
import uuid
from dataclasses import dataclass, field
from datetime import datetime

from millrace.clock import Clock
from millrace.errors import StoreUnavailable
from millrace.machine import is_running, machine_name
from millrace.ports.servers import ServerRecord, ServerStore
from millrace.process_groups import process_start

__all__ = ["Membership"]

log = logging.getLogger(__name__)


@dataclass
class Membership:
    """One server's place; `id` is what it owns jobs under, for now."""

    servers: ServerStore
    clock: Clock
    is_shared: bool
    """Whether others may be at work on the state; else nobody needs to hear of us."""
    beat_seconds: float
    lease_seconds: float
    id: str = ""
    _beats: dict[str, tuple[datetime, float]] = field(default_factory=dict)

    async def join(self) -> None:
        """Become one of the servers, under a new id."""
        self.id = uuid.uuid4().hex
        now = self.clock.now()
        await self.servers.join(
            ServerRecord(
                id=self.id,
                machine=machine_name(),
                process_id=os.getpid(),
                process_start=process_start(os.getpid()) or 0,
                joined_at=now,
                heartbeat_at=now,
            ),
            alone=not self.is_shared,
        )

    async def keep(self) -> None:
        """Beat, and look after the others, until cancelled; without others there is nothing to do."""
        while self.is_shared:
            try:
                await self.beat()
            except StoreUnavailable as exc:
                log.warning("heartbeat of this server failed; trying again", extra={"detail": str(exc)})
                self._beats.clear()  # nobody could be heard
            await self.clock.sleep(self.beat_seconds)

    async def beat(self) -> None:
        """Renew our lease, remove who is dead, adopt what is nobody's."""
        if not await self.servers.beat(self.id):
            log.warning("this server was found dead; it goes on under another id", extra={"server": self.id})
            await self.join()
        _, dead = await self._look_around()
        for server in dead:
            if await self.servers.bury(server, self.id):
                log.warning("a server is gone; its jobs are ours now", extra={"gone": server.id, "server": self.id})
            self._beats.pop(server.id, None)
        await self.servers.adopt_orphans(self.id)

    async def leave(self) -> bool:
        """Hand our jobs over to another server, if there is one; return whether we were the last."""
        alive, _ = await self._look_around()
        return await self.servers.leave(self.id, [server.id for server in alive]) is None

    async def _look_around(self) -> tuple[list[ServerRecord], list[ServerRecord]]:
        """Return the other servers that are alive, and those that are dead.

        Silence is measured by our steady clock, from when we first saw a heartbeat: clocks of machines differ.
        """
        asked_at = self.clock.monotonic()
        alive: list[ServerRecord] = []
        dead: list[ServerRecord] = []
        for server in await self.servers.list_servers():
            if server.id == self.id:
                continue
            known = self._beats.get(server.id)
            if known is None or known[0] != server.heartbeat_at:
                self._beats[server.id] = known = (server.heartbeat_at, asked_at)
            is_gone = is_running(server.machine, server.process_id, server.process_start) is False
            (dead if is_gone or asked_at - known[1] > self.lease_seconds else alive).append(server)
        return alive, dead
