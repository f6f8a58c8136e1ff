"""Journal: what an instance of a job has to remember of its work, for the attempt that takes it up after a crash."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

__all__ = ["MAX_KEY_BYTES", "Journal", "check_key"]

MAX_KEY_BYTES = 2000
"""More than the longest name of an object; what is longer does not fit into the index of a database."""


class Journal(Protocol):
    """Entries of one instance of a job, held by one attempt of it: bytes by key.

    What is saved is there for every later attempt, until the job is forgotten. Who opens an output with what `load`
    returns relies on the order of two things: first the bytes are made durable (ResumableWriter.checkpoint), then the
    entry that counts them is saved. A power failure may take the last saves, then work is done again. As older entries
    are back then, who begins an output anew while there is one about its draft takes another name for the new draft.

    Keys are any text of 1 to 2,000 bytes of UTF-8.
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
            ValueError: A key is too long or empty; nothing was saved.
        """
        ...

    async def take_over(self, job_ids: Sequence[int], keys: Collection[str]) -> None:
        """Move the entries of these keys from other jobs, whose work this instance goes on with, into its own journal.

        Of several entries of one key one is left: the instance's own, else that of the first job that has one. So
        nobody else goes on with what it tells of, and it is there when those jobs are forgotten. Harmless when
        repeated; all of it happens, or, if this fails, nothing.

        Raises:
            LeaseLost: The attempt is not the latest, or the agent is not its holder; nothing was moved.
        """
        ...

    async def load_of(self, job_id: int) -> Mapping[int, Mapping[str, bytes]]:
        """Return the entries of another job, by instance; empty if there is no such job or it has saved nothing."""
        ...


def check_key(key: str) -> bytes:
    """Return a key's bytes; raises ValueError."""
    encoded = key.encode()
    if not 1 <= len(encoded) <= MAX_KEY_BYTES:
        raise ValueError(
            f"a journal's key must have 1 to {MAX_KEY_BYTES} bytes of UTF-8, got {len(encoded)}: {key[:80]!r}"
        )
    return encoded
