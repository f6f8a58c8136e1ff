"""Journal on SQL."""

from collections.abc import Mapping

from millrace.clock import Clock
from millrace.errors import LeaseLost
from millrace.moments import to_micros
from millrace.ports.jobs import InstanceRef
from millrace.ports.journal import check_key
from millrace.store.database import Database, Transaction, queries

__all__ = ["SqlJournal"]

_Q = queries("journal")
_HEARTBEAT = queries("jobs")["heartbeat"]


class SqlJournal:
    """The journal of an attempt, kept by the agent that has registered for it, in the table of that name."""

    def __init__(self, database: Database, ref: InstanceRef, *, agent_id: str, clock: Clock) -> None:
        self._db = database
        self._ref = ref
        self._agent_id = agent_id
        self._clock = clock

    async def load(self) -> Mapping[str, bytes]:
        row = {"job_id": self._ref.job_id, "instance": self._ref.index}
        return {str(entry, "utf-8"): bytes(body) for entry, body in await self._db.table(_Q["entries"], row)}

    async def save(self, entries: Mapping[str, bytes | None]) -> None:
        ref = self._ref
        place = {"job_id": ref.job_id, "instance": ref.index}
        beat = {
            **place,
            "attempt": ref.attempt,
            "agent_id": self._agent_id,
            "at": to_micros(self._clock.now()),
            "progress": None,
        }
        saved = [{**place, "entry": check_key(key), "body": body} for key, body in entries.items() if body is not None]
        deleted = [{**place, "entry": check_key(key)} for key, body in entries.items() if body is None]

        def save(transaction: Transaction) -> bool:
            # It writes the row that opens and closes attempts: who opens a later one has to wait, or comes first.
            if transaction.execute(_HEARTBEAT, beat).fetchone() is None:
                return False
            for row in saved:
                transaction.execute(_Q["save_entry"], row)
            for row in deleted:
                transaction.execute(_Q["delete_entry"], row)
            return True

        # A later save has all that a lost one had, or the work is done again.
        if not await self._db.write(save, is_fleeting=True):
            raise LeaseLost(f"instance {ref.index} of job {ref.job_id}: attempt {ref.attempt} is closed")

    async def load_of(self, job_id: int) -> Mapping[int, Mapping[str, bytes]]:
        found: dict[int, dict[str, bytes]] = {}
        for instance, entry, body in await self._db.table(_Q["entries_of_job"], {"job_id": job_id}):
            found.setdefault(instance, {})[str(entry, "utf-8")] = bytes(body)
        return found
