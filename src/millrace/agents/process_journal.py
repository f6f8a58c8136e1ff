"""Journals of instances that run beside each other in this process, and end with it."""

from collections.abc import Collection, Mapping, Sequence

from millrace.ports.journal import check_key

__all__ = ["ProcessJournal", "ProcessJournals"]


class ProcessJournals:
    """The journals of one job's instances: nobody takes their work up, but they tell each other what they have done."""

    def __init__(self) -> None:
        self.entries: dict[int, dict[str, bytes]] = {}

    def of(self, index: int) -> "ProcessJournal":
        """Return the journal of an instance."""
        return ProcessJournal(self.entries, index)


class ProcessJournal:
    """A Journal without attempts or other jobs; see `millrace.ports.journal.Journal` for the contract."""

    def __init__(self, entries: dict[int, dict[str, bytes]], index: int) -> None:
        self._entries = entries
        self._mine = entries.setdefault(index, {})

    async def load(self) -> Mapping[str, bytes]:
        return dict(self._mine)

    async def save(self, entries: Mapping[str, bytes | None]) -> None:
        for key in entries:
            check_key(key)
        for key, value in entries.items():
            if value is None:
                self._mine.pop(key, None)
            else:
                self._mine[key] = value

    async def take_over(self, job_ids: Sequence[int], keys: Collection[str]) -> None:
        """There are no other jobs."""

    async def load_of(self, job_id: int) -> Mapping[int, Mapping[str, bytes]]:
        return {index: dict(held) for index, held in self._entries.items() if held}
