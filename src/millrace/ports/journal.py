"""Journal: what an instance of a job has to remember of its work, for the attempt that takes it up after a crash."""

from collections.abc import Mapping
from typing import Protocol

__all__ = ["Journal"]


class Journal(Protocol):
    """Entries of one instance of a job, held by one attempt of it: bytes by key.

    What is saved is there for every later attempt, until the job is forgotten. Who opens an output with what `load`
    returns relies on the order of two things: first the bytes are made durable (ResumableWriter.checkpoint), then the
    entry that counts them is saved. A journal may lose its last saves with the machine, then work is done again; it
    never tells of more than there is.

    Keys are any text without U+0000, which one of the databases can't hold.
    """

    async def load(self) -> Mapping[str, bytes]:
        """Return all entries of the instance, whichever attempt has saved them.

        No earlier attempt can change them any more once this attempt's agent has registered.
        """
        ...

    async def save(self, entries: Mapping[str, bytes | None]) -> None:
        """Set entries, and delete those whose value is None: all of them or, if this fails, none.

        Raises:
            LeaseLost: The attempt is not the latest, or the agent is not its holder; nothing was saved.
            ValueError: A key holds U+0000.
        """
        ...

    async def load_of(self, job_id: int) -> Mapping[int, Mapping[str, bytes]]:
        """Return the entries of another job, by instance; empty if there is no such job or it has saved nothing."""
        ...
