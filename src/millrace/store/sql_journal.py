"""Journal on SQL."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

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
        place, beat = self._place(), self._beat()
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
        self._require(await self._db.write(save, is_fleeting=True))

    async def take_over(self, job_ids: Sequence[int], keys: Collection[str]) -> None:
        place, beat = self._place(), self._beat()
        wanted = {check_key(key) for key in keys}

        def take(transaction: Transaction) -> bool:
            if transaction.execute(_HEARTBEAT, beat).fetchone() is None:
                return False
            held = {bytes(row["entry"]) for row in transaction.execute(_Q["entries"], place).fetchall()}
            for job_id in job_ids:
                for row in transaction.execute(_Q["entries_of_job"], {"job_id": job_id}).fetchall():
                    entry = bytes(row["entry"])
                    is_own = (job_id, row["instance"]) == (self._ref.job_id, self._ref.index)
                    if is_own or entry not in wanted:
                        continue
                    if entry not in held:
                        transaction.execute(_Q["save_entry"], {**place, "entry": entry, "body": bytes(row["body"])})
                        held.add(entry)
                    theirs = {"job_id": job_id, "instance": row["instance"], "entry": entry}
                    transaction.execute(_Q["delete_entry"], theirs)
            return True

        self._require(await self._db.write(take))

    def _place(self) -> dict[str, Any]:
        return {"job_id": self._ref.job_id, "instance": self._ref.index}

    def _beat(self) -> dict[str, Any]:
        """Return the parameters of a heartbeat, which finds no row once the attempt is another's."""
        at = to_micros(self._clock.now())
        return {**self._place(), "attempt": self._ref.attempt, "agent_id": self._agent_id, "at": at, "progress": None}

    def _require(self, is_ours: bool) -> None:
        if not is_ours:
            ref = self._ref
            raise LeaseLost(f"instance {ref.index} of job {ref.job_id}: attempt {ref.attempt} is closed")

    async def load_of(self, job_id: int) -> Mapping[int, Mapping[str, bytes]]:
        found: dict[int, dict[str, bytes]] = {}
        for instance, entry, body in await self._db.table(_Q["entries_of_job"], {"job_id": job_id}):
            found.setdefault(instance, {})[str(entry, "utf-8")] = bytes(body)
        return found
