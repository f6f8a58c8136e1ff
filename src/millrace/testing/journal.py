"""Journals in memory, of all jobs together."""

from collections.abc import Mapping

from millrace.errors import LeaseLost
from millrace.ports.jobs import InstanceRef
from millrace.ports.journal import check_key

__all__ = ["MemoryJournal", "MemoryJournals"]


class MemoryJournals:
    """What the journals of all jobs hold: `entries` by job, instance and key. The newest attempt may save."""

    def __init__(self) -> None:
        self.entries: dict[int, dict[int, dict[str, bytes]]] = {}
        self.latest: dict[tuple[int, int], int] = {}

    def open(self, ref: InstanceRef) -> "MemoryJournal":
        """Return the journal of an attempt; a later one closes the earlier."""
        place = (ref.job_id, ref.index)
        self.latest[place] = max(ref.attempt, self.latest.get(place, 0))
        return MemoryJournal(self, ref)


class MemoryJournal:
    """A Journal of one attempt; see `millrace.ports.journal.Journal` for the contract."""

    def __init__(self, journals: MemoryJournals, ref: InstanceRef) -> None:
        self._journals = journals
        self._ref = ref

    async def load(self) -> Mapping[str, bytes]:
        return (await self.load_of(self._ref.job_id)).get(self._ref.index, {})

    async def save(self, entries: Mapping[str, bytes | None]) -> None:
        ref = self._ref
        for key in entries:
            check_key(key)
        if self._journals.latest[ref.job_id, ref.index] != ref.attempt:
            raise LeaseLost(f"instance {ref.index} of job {ref.job_id}: attempt {ref.attempt} is closed")
        held = self._journals.entries.setdefault(ref.job_id, {}).setdefault(ref.index, {})
        for key, value in entries.items():
            if value is None:
                held.pop(key, None)
            else:
                held[key] = value

    async def load_of(self, job_id: int) -> Mapping[int, Mapping[str, bytes]]:
        return {index: dict(held) for index, held in self._journals.entries.get(job_id, {}).items() if held}
