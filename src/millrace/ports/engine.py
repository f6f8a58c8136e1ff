"""Engine: where agents run."""

from collections.abc import Awaitable, Callable, Collection
from typing import Protocol

from millrace.ports.jobs import AgentRecord, InstanceRef

__all__ = ["Engine"]


class Engine(Protocol):
    """Starts agents and tells whether they live. An agent outlives the process that started it."""

    async def start(self, ref: InstanceRef) -> None:
        """Start an agent for an opened attempt; a second agent for the same attempt ends by itself."""
        ...

    def is_starting(self, ref: InstanceRef) -> bool:
        """Whether an agent that this engine started for the attempt may still register."""
        ...

    def is_alive(self, agent: AgentRecord) -> bool | None:
        """Whether the agent's process runs; None if that can't be told from here."""
        ...

    def nudge(self, agent: AgentRecord) -> None:
        """Make an agent look at once whether it is wanted to stop; may do nothing."""
        ...

    def suspend(self, agent: AgentRecord) -> None:
        """Make an agent stop its containers and end without a word: another attempt takes its work up later."""
        ...

    def kill(self, agent: AgentRecord) -> None:
        """End an agent that no longer answers, containers and all, as far as it can be reached from here."""
        ...

    async def remove_work(self, job_id: int, index: int | None) -> None:
        """Remove working files of an instance, or of a whole job."""
        ...

    async def sweep(self, list_kept: Callable[[], Awaitable[Collection[int]]]) -> None:
        """Remove working files of all jobs but those listed: a crash may have come between an end and its clean-up.

        The list is asked for after the files were looked at: a job that another server starts meanwhile is on it.
        """
        ...

    async def close(self) -> None:
        """Forget the agents without ending them."""
        ...
