"""An Engine whose agents a test plays itself."""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field

from millrace.ports.jobs import AgentRecord, InstanceRef

__all__ = ["FakeEngine"]


@dataclass
class FakeEngine:
    """Remembers what it was asked; agents live until the test says otherwise."""

    started: list[InstanceRef] = field(default_factory=list)
    starting: set[InstanceRef] = field(default_factory=set)
    dead: set[InstanceRef] = field(default_factory=set)
    nudged: list[InstanceRef] = field(default_factory=list)
    suspended: list[InstanceRef] = field(default_factory=list)
    killed: list[InstanceRef] = field(default_factory=list)
    removed: list[tuple[int, int | None]] = field(default_factory=list)
    kept: set[int] = field(default_factory=set)

    async def start(self, ref: InstanceRef) -> None:
        self.started.append(ref)
        self.starting.add(ref)

    def is_starting(self, ref: InstanceRef) -> bool:
        return ref in self.starting

    def is_alive(self, agent: AgentRecord) -> bool | None:
        return agent.ref not in self.dead

    def nudge(self, agent: AgentRecord) -> None:
        self.nudged.append(agent.ref)

    def suspend(self, agent: AgentRecord) -> None:
        self.suspended.append(agent.ref)

    def kill(self, agent: AgentRecord) -> None:
        self.killed.append(agent.ref)

    async def remove_work(self, job_id: int, index: int | None) -> None:
        self.removed.append((job_id, index))

    async def sweep(self, list_kept: Callable[[], Awaitable[Collection[int]]]) -> None:
        self.kept = set(await list_kept())

    async def close(self) -> None:
        self.starting.clear()
