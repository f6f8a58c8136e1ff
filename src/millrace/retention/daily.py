"""The server's own runs of gc: one at a time over all servers of a state, so many hours apart."""

import logging
from collections.abc import Callable, Sequence

from millrace.clock import Clock
from millrace.ports.operation import OperationStore
from millrace.retention.leftover import Collector
from millrace.retention.run import Report, collect

__all__ = ["run_daily"]

log = logging.getLogger(__name__)

LOOK_SECONDS = 600.0
"""Time between two looks whether the turn is due: a server that starts later than another one is not far behind it."""

TASK = "gc"


async def run_daily(
    collectors: Sequence[Collector],
    *,
    operation: OperationStore,
    clock: Clock,
    interval_seconds: float,
    on_report: Callable[[Report], None] = lambda report: None,
) -> None:
    """Run gc whenever it is due, until cancelled. The first run comes one look after the start, not into its rush."""
    while True:
        await clock.sleep(min(LOOK_SECONDS, interval_seconds))
        try:
            now = clock.now()
            if not await operation.claim_turn(TASK, now=now, every_seconds=interval_seconds):
                continue
            report = await collect(collectors, now, dry_run=False)
        except Exception:  # the next turn may find the disk or the database well again
            log.exception("gc failed")
            continue
        for kind, number in report.counts().items():
            size = sum(it.size for it in report.leftovers if it.kind.value == kind)
            log.info("gc removed", extra={"kind": kind, "number": number, "bytes": size})
        on_report(report)
