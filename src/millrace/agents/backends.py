"""What the work of an instance is given: ports and a few facts, handed in by the composition root."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from millrace.agents.session import Session
from millrace.ports.journal import Journal
from millrace.ports.logs import LogStore
from millrace.ports.objects import ObjectStore
from millrace.ports.runtime import ImageCatalog, Runtime

__all__ = ["AgentBackends"]


@dataclass(frozen=True, kw_only=True)
class AgentBackends:
    """The seams that agents use.

    `endpoint_url` is where containers reach the server, None without one. `mint_credentials` returns temporary keys
    for a session name, as the variables that AWS clients read. `journal` is where work that can be taken up is told of,
    None where nobody would take it up.
    """

    session: Session
    objects: ObjectStore
    logs: LogStore
    images: ImageCatalog
    runtime: Runtime
    endpoint_url: str | None
    mint_credentials: Callable[[str], Awaitable[Mapping[str, str]]]
    journal: Journal | None = None
