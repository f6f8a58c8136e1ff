"""OperationStore on SQL."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import orjson

from millrace.jobs.job import JobKind, JobStatus
from millrace.moments import from_micros, to_micros
from millrace.ports.operation import EndedJob, InstanceProgress, UnfinishedJob
from millrace.store.database import Database, Transaction, queries

__all__ = ["SqlOperationStore"]

_Q = queries("operation")


class SqlOperationStore:
    """Figures and old records out of the tables of the other stores."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def count_jobs(self) -> Mapping[tuple[str, str], int]:
        return await self._counts("count_jobs", {})

    async def count_ended_jobs(self, ended_after: datetime) -> Mapping[tuple[str, str], int]:
        return await self._counts("count_ended_jobs", {"ended_after": to_micros(ended_after)})

    async def _counts(self, query: str, parameters: Mapping[str, object]) -> Mapping[tuple[str, str], int]:
        return {(row["kind"], row["status"]): row["number"] for row in await self._db.all(_Q[query], parameters)}

    async def list_transform_progress(self, ended_after: datetime) -> Sequence[InstanceProgress]:
        # Those at work first: a job that ends in between is in both, and counts once.
        rows = await self._db.all(_Q["list_progress_unfinished"], {})
        rows += await self._db.all(_Q["list_progress_ended"], {"ended_after": to_micros(ended_after)})
        return [
            InstanceProgress(
                job_id=row["job_id"],
                index=row["instance"],
                attempt=row["attempt"],
                counters=orjson.loads(row["progress"]),
            )
            for row in rows
            if row["kind"] == JobKind.TRANSFORM.value
        ]

    async def list_ended_jobs(
        self, before: datetime, *, after: EndedJob | None = None, limit: int = 500
    ) -> Sequence[EndedJob]:
        wanted = {
            "before": to_micros(before),
            "after_at": 0 if after is None else to_micros(after.ended_at),
            "after_id": 0 if after is None else after.id,
            "limit": limit,
        }
        return [
            EndedJob(
                id=row["id"],
                kind=JobKind(row["kind"]),
                region=row["region"],
                name=row["name"],
                ended_at=from_micros(row["ended_at"]),
            )
            for row in await self._db.all(_Q["list_ended_jobs"], wanted)
        ]

    async def forget_ended_job(self, job_id: int, before: datetime) -> bool:
        row = {"id": job_id, "before": to_micros(before)}

        def forget(transaction: Transaction) -> bool:
            # Tags first: they are found by the job's row. Both or neither.
            transaction.execute(_Q["forget_tags_of_ended_job"], row)
            return transaction.execute(_Q["forget_ended_job"], row).rowcount == 1

        return await self._db.write(forget)

    async def list_unfinished(self) -> Sequence[UnfinishedJob]:
        return [
            UnfinishedJob(
                id=row["id"],
                kind=JobKind(row["kind"]),
                name=row["name"],
                status=JobStatus(row["status"]),
                registered=row["registered"],
                working=row["working"],
            )
            for row in await self._db.all(_Q["list_unfinished_jobs"], {})
        ]

    async def count_expired_keys(self, now: datetime) -> int:
        row = await self._db.one(_Q["count_expired_keys"], {"at": to_micros(now)})
        return 0 if row is None else int(row["number"])

    async def delete_expired_keys(self, now: datetime) -> int:
        return await self._changed("delete_expired_keys", {"at": to_micros(now)})

    async def claim_turn(self, task: str, *, now: datetime, every_seconds: float) -> bool:
        row = {"task": task, "at": to_micros(now), "before": to_micros(now - timedelta(seconds=every_seconds))}
        return await self._changed("claim_turn", row) == 1

    async def _changed(self, query: str, parameters: Mapping[str, object]) -> int:
        return await self._db.write(lambda transaction: transaction.execute(_Q[query], parameters).rowcount)
