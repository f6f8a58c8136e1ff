"""Say what became of the records of an object."""

from dataclasses import dataclass

__all__ = ["Counts"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """What became of an object's records: each of those read is one of these."""

    ok: int = 0
    failed: int = 0
    filtered: int = 0
    failed_by_algorithm: int = 0
    """Of those that failed, how many the container is at fault for (AlgorithmError), and not the client."""

    @property
    def records(self) -> int:
        return self.ok + self.failed + self.filtered
