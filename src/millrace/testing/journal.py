"""Journals in memory, of all jobs together."""

from collections.abc import Collection, Mapping, Sequence

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
        for key in entries:
            check_key(key)
        held = self._held()
        for key, value in entries.items():
            if value is None:
                held.pop(key, None)
            else:
                held[key] = value

    async def take_over(self, job_ids: Sequence[int], keys: Collection[str]) -> None:
        for key in keys:
            check_key(key)
        held = self._held()
        for job_id in job_ids:
            for theirs in self._journals.entries.get(job_id, {}).values():
                if theirs is held:
                    continue
                for key in theirs.keys() & set(keys):
                    held.setdefault(key, theirs[key])
                    del theirs[key]

    def _held(self) -> dict[str, bytes]:
        """Return the entries of the instance, to be changed; raises LeaseLost."""
        ref = self._ref
        if self._journals.latest[ref.job_id, ref.index] != ref.attempt:
            raise LeaseLost(f"instance {ref.index} of job {ref.job_id}: attempt {ref.attempt} is closed")
        return self._journals.entries.setdefault(ref.job_id, {}).setdefault(ref.index, {})

    async def load_of(self, job_id: int) -> Mapping[int, Mapping[str, bytes]]:
        return {index: dict(held) for index, held in self._journals.entries.get(job_id, {}).items() if held}
