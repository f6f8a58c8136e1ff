"""ServerStore: which servers are at work on the state, and whose jobs are whose."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

__all__ = ["ServerRecord", "ServerStore"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerRecord:
    """One server, from when it joined until it leaves or is found dead. It never comes back under the same id."""

    id: str
    machine: str
    process_id: int
    process_start: int
    joined_at: datetime
    heartbeat_at: datetime


class ServerStore(Protocol):
    """Servers by id. A job that was started has an owner: the server that starts and watches its agents.

    A job whose owner is no server (any more) is an orphan; whoever sees it may adopt it. Every method is one
    transaction, so that of two servers that want the same one gets it.
    """

    async def join(self, server: ServerRecord, *, alone: bool) -> None:
        """Add a server, and give it the orphans; `alone` removes all others first: they can't be at work."""
        ...

    async def beat(self, server_id: str) -> bool:
        """Renew a server's lease; False if it was found dead meanwhile and is no server any more."""
        ...

    async def list_servers(self) -> list[ServerRecord]:
        """Return all servers, the oldest first."""
        ...

    async def bury(self, dead: ServerRecord, heir: str) -> bool:
        """Remove a server and give its jobs to another; False, and nothing done, if it has beaten since it was read."""
        ...

    async def adopt_orphans(self, server_id: str) -> None:
        """Give all orphans to a server, if it is one."""
        ...

    async def leave(self, server_id: str, heirs: list[str]) -> str | None:
        """Remove a server and give its jobs to the first of the heirs that is still there.

        Returns that heir; None if there is none: then its jobs are orphans.
        """
        ...
