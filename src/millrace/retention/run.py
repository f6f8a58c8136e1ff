"""One run of gc: find everything, then remove it piece by piece."""

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from millrace.retention.leftover import Collector, Leftover

__all__ = ["Report", "collect"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What went, or would go."""

    leftovers: tuple[Leftover, ...]
    failed: int = 0
    """Things that could not be removed; the log says why."""

    @property
    def size(self) -> int:
        """Bytes of all."""
        return sum(leftover.size for leftover in self.leftovers)

    def counts(self) -> dict[str, int]:
        """How many of each kind."""
        return dict(Counter(leftover.kind.value for leftover in self.leftovers))


async def collect(collectors: Iterable[Collector], now: datetime, *, dry_run: bool) -> Report:
    """Remove what the collectors find, or only tell of it. One that fails does not keep the others from their work."""
    done = []
    failed = 0
    for collector in collectors:
        try:
            found = await collector.find(now)
        except Exception:
            log.exception("leftovers can't be listed", extra={"collector": type(collector).__name__})
            failed += 1
            continue
        for leftover in found:
            try:
                if dry_run or await collector.remove(leftover, now):
                    done.append(leftover)
            except Exception:
                log.exception(
                    "leftover can't be removed", extra={"kind": leftover.kind.value, "leftover": leftover.name}
                )
                failed += 1
    return Report(leftovers=tuple(done), failed=failed)
