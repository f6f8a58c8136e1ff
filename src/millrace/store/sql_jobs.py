"""JobStore on SQL."""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache, partial
from typing import Any

import orjson

from millrace.clock import Clock
from millrace.errors import LeaseLost
from millrace.jobs import job as vocabulary
from millrace.jobs.documents import from_document, to_document
from millrace.jobs.job import EndpointJob, Event, Job, JobKind, ProcessingJob, TrainingJob, TransformJob
from millrace.moments import from_micros, to_micros
from millrace.ports.jobs import (
    AgentRecord,
    InstanceRef,
    JobExists,
    JobPage,
    JobQuery,
    JobSummary,
    NoSuchJob,
    OpenJob,
    Posted,
    StaleJob,
    UnreadableJob,
)
from millrace.store.database import Database, Row, Transaction, queries
from millrace.store.kept_reads import KeptReads

__all__ = ["SqlJobStore"]

log = logging.getLogger(__name__)

_Q = queries("jobs")
_TYPES: Mapping[str, type[Job]] = {
    JobKind.TRANSFORM: TransformJob,
    JobKind.TRAINING: TrainingJob,
    JobKind.PROCESSING: ProcessingJob,
    JobKind.ENDPOINT: EndpointJob,
}
_DECODED_JOBS = 256
"""Jobs whose documents need not be decoded again while they are the same, a few kB each."""

_KEPT_PAGES = 32
"""Pages of listings that need not be read again while the state is the same, up to 60 kB each."""

_WILDCARDS, _ESCAPED = re.compile(r"[\\%_]"), r"\\\g<0>"
_SORT_COLUMNS = {"name": "name", "created_at": "created_at", "status": "status"}
_SORT_FIELDS = {"name": "name", "created_at": "created_micros", "status": "stored_status"}

_summary: Callable[[tuple[Any, ...]], JobSummary] = partial(tuple.__new__, JobSummary)
"""What JobSummary._make does, without a frame of Python for each of a hundred rows."""


class SqlJobStore:
    """Jobs in the tables jobs, job_events and agents."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._db = database
        self._clock = clock
        self._described: KeptReads[tuple[Job, Mapping[str, Any]]] = KeptReads(database, limit=_DECODED_JOBS)
        self._pages: KeptReads[JobPage] = KeptReads(database, limit=_KEPT_PAGES)

    async def add(self, kind: JobKind, job: Job, request: Mapping[str, Any]) -> Job:
        row = {
            "kind": kind.value,
            "region": job.region,
            "name": job.name,
            "arn": str(job.arn),
            "status": job.status.value,
            "created_at": to_micros(job.created_at),
            "modified_at": to_micros(job.modified_at),
            "body": orjson.dumps(to_document(job)),
            "request": orjson.dumps(to_document(request)),
        }

        added: Row | None = await self._db.write(
            lambda transaction: transaction.execute(_Q["insert_job"], row).fetchone()
        )
        if added is None:
            raise JobExists(str(job.arn))
        return _job(added)

    async def get(self, kind: JobKind, region: str, name: str) -> Job:
        row = await self._db.one(_Q["find_job"], {"kind": kind.value, "region": region, "name": name})
        if row is None:
            raise NoSuchJob(name)
        return _job(row)

    async def get_with_request(self, kind: JobKind, region: str, name: str) -> tuple[Job, Mapping[str, Any]]:
        return await self._described.get((kind, region, name), partial(self._read_with_request, kind, region, name))

    async def _read_with_request(self, kind: JobKind, region: str, name: str) -> tuple[Job, Mapping[str, Any]]:
        row = await self._db.one(_Q["find_job_with_request"], {"kind": kind.value, "region": region, "name": name})
        if row is None:
            raise NoSuchJob(name)
        return _job(row), orjson.loads(row["request"])

    async def get_by_id(self, job_id: int) -> Job:
        row = await self._db.one(_Q["find_job_by_id"], {"id": job_id})
        if row is None:
            raise NoSuchJob(str(job_id))
        return _job(row)

    async def list_jobs(self, query: JobQuery) -> JobPage:
        return await self._pages.get(query, partial(self._read_page, query))

    async def _read_page(self, query: JobQuery) -> JobPage:
        statement, parameters = _listing(query)
        rows = await self._db.table(statement, parameters)
        summaries = list(map(_summary, rows[: query.limit]))
        after = None
        if len(rows) > query.limit:
            last = summaries[-1]
            after = (getattr(last, _SORT_FIELDS[query.sort_by]), last.id)
        return JobPage(summaries=summaries, after=after)

    async def list_unfinished(self) -> list[int]:
        return [row["id"] for row in await self._db.all(_Q["list_unfinished"], {})]

    async def list_open(self) -> list[OpenJob]:
        return [
            OpenJob(id=row["id"], kind=JobKind(row["kind"]), version=row["version"], owner=row["owner"])
            for row in await self._db.all(_Q["list_open"], {})
        ]

    async def save(self, job: Job, applied: Sequence[int] = (), *, owner: str | None = None) -> Job:
        row = {
            "id": job.id,
            "version": job.version,
            "status": job.status.value,
            "finished": int(job.is_terminal and not isinstance(job, EndpointJob)),
            "modified_at": to_micros(job.modified_at),
            "ended_at": None if job.ended_at is None else to_micros(job.ended_at),
            "failure_reason": job.failure_reason,
            "owner": owner,
            "body": orjson.dumps(to_document(job)),
        }
        now = to_micros(self._clock.now())

        def update(transaction: Transaction) -> Row:
            saved: Row | None = transaction.execute(_Q["save_job"], row).fetchone()
            if saved is None:
                raise StaleJob(f"{job.arn} version {job.version}")
            for event_id in applied:
                if transaction.execute(_Q["mark_applied"], {"id": event_id, "at": now}).rowcount != 1:
                    raise StaleJob(f"{job.arn}: event {event_id} was applied by another mover")
            return saved

        return _job(await self._db.write(update))

    async def forget(self, job_id: int) -> None:
        await self._db.write(lambda transaction: transaction.execute(_Q["delete_job"], {"id": job_id}))

    async def update_request(self, job_id: int, members: Mapping[str, Any]) -> None:
        def update(transaction: Transaction) -> None:
            row = transaction.execute(_Q["find_request"], {"id": job_id}).fetchone()
            if row is None:
                raise NoSuchJob(str(job_id))
            request = {**orjson.loads(row["request"]), **to_document(members)}
            transaction.execute(_Q["update_request"], {"id": job_id, "request": orjson.dumps(request)})

        await self._db.write(update)

    async def post(self, job_id: int, event: Event, *, by: InstanceRef | None = None) -> None:
        row: dict[str, Any] = {
            "job_id": job_id,
            "at": to_micros(self._clock.now()),
            "type": type(event).__name__,
            "body": orjson.dumps(to_document(event)),
        }
        if by is None:
            added = await self._db.write(lambda transaction: transaction.execute(_Q["post_event"], row).rowcount)
            if not added:
                raise NoSuchJob(str(job_id))
            return
        row |= {"instance": by.index, "attempt": by.attempt}
        added = await self._db.write(lambda transaction: transaction.execute(_Q["post_event_of_agent"], row).rowcount)
        if not added:
            raise LeaseLost(f"instance {by.index} of job {job_id}: attempt {by.attempt} is closed")

    async def list_posted(self) -> list[Posted]:
        rows = await self._db.all(_Q["list_posted"], {})
        return [Posted(id=row["id"], job_id=row["job_id"], event=_find_event(row)) for row in rows]

    async def history(self, job_id: int) -> list[tuple[datetime, str, Mapping[str, Any]]]:
        rows = await self._db.all(_Q["history"], {"job_id": job_id})
        return [(from_micros(row["applied_at"]), row["type"], orjson.loads(row["body"])) for row in rows]

    async def open_instance(self, ref: InstanceRef) -> None:
        await self._db.write(lambda transaction: transaction.execute(_Q["open_instance"], _keys(ref)))

    async def register_agent(
        self, ref: InstanceRef, *, agent_id: str, process_id: int, process_start: int, host: str
    ) -> bool:
        row = {
            **_keys(ref),
            "agent_id": agent_id,
            "process_id": process_id,
            "process_start": process_start,
            "host": host,
            "at": to_micros(self._clock.now()),
        }
        return await self._db.write(lambda transaction: transaction.execute(_Q["register_agent"], row).rowcount) == 1

    async def heartbeat(self, ref: InstanceRef, agent_id: str, progress: Mapping[str, Any] | None) -> bool:
        row = {
            **_keys(ref),
            "agent_id": agent_id,
            "at": to_micros(self._clock.now()),
            "progress": None if progress is None else orjson.dumps(progress),
        }

        beaten: Row | None = await self._db.write(
            lambda transaction: transaction.execute(_Q["heartbeat"], row).fetchone(), is_fleeting=True
        )
        if beaten is None:
            raise LeaseLost(f"instance {ref.index} of job {ref.job_id}: attempt {ref.attempt} is closed")
        return bool(beaten["stop_wanted"])

    async def is_stop_wanted(self, ref: InstanceRef) -> bool:
        row = await self._db.one(_Q["is_stop_wanted"], _keys(ref))
        return row is None or bool(row["stop_wanted"])

    async def want_stop(self, job_id: int, index: int) -> None:
        row = {"job_id": job_id, "instance": index}
        await self._db.write(lambda transaction: transaction.execute(_Q["want_stop"], row))

    async def get_agent(self, ref: InstanceRef) -> AgentRecord | None:
        row = await self._db.one(_Q["find_agent"], _keys(ref))
        return None if row is None else _agent(row)

    async def list_agents(self, job_id: int) -> list[AgentRecord]:
        return [_agent(row) for row in await self._db.all(_Q["list_agents"], {"job_id": job_id})]

    async def list_agents_of_server(self, owner: str) -> list[AgentRecord]:
        return [_agent(row) for row in await self._db.all(_Q["list_agents_of_server"], {"owner": owner})]

    async def wait_for_change(self, timeout_seconds: float) -> bool:
        return await self._db.wait_for_change(timeout_seconds)


def _listing(query: JobQuery) -> tuple[str, dict[str, Any]]:
    """Return statement and parameters of a listing; one row more than the limit tells whether there is more."""
    column = _SORT_COLUMNS[query.sort_by]
    order, beyond = ("DESC", "<") if query.descending else ("ASC", ">")
    conditions = ["kind = :kind", "region = :region"]
    parameters: dict[str, Any] = {"kind": query.kind.value, "region": query.region, "limit": query.limit + 1}
    bounds = {
        "created_at > :created_after": ("created_after", query.created_after),
        "created_at < :created_before": ("created_before", query.created_before),
        "modified_at > :modified_after": ("modified_after", query.modified_after),
        "modified_at < :modified_before": ("modified_before", query.modified_before),
    }
    for condition, (name, bound) in bounds.items():
        if bound is not None:
            conditions.append(condition)
            parameters[name] = to_micros(bound)
    if query.status is not None:
        conditions.append("status = :status")
        parameters["status"] = query.status.value
    if query.name_contains is not None:
        conditions.append(r"lower(name) LIKE :part ESCAPE '\'")
        parameters["part"] = f"%{_WILDCARDS.sub(_ESCAPED, query.name_contains.lower())}%"
    if query.after is not None:
        conditions.append(f"({column}, id) {beyond} (:after_value, :after_id)")
        parameters["after_value"], parameters["after_id"] = query.after
    statement = (
        # In the order of a JobSummary's fields.
        "SELECT name, arn, status, created_at, modified_at, ended_at, failure_reason, id FROM jobs"
        f" WHERE {' AND '.join(conditions)} ORDER BY {column} {order}, id {order} LIMIT :limit"
    )
    return statement, parameters


def _job(row: Row) -> Job:
    try:
        return _decoded(row["kind"], row["id"], row["version"], row["body"])
    except (TypeError, ValueError, KeyError) as exc:
        raise UnreadableJob(f"job {row['id']}: {exc}") from exc


@lru_cache(maxsize=_DECODED_JOBS)
def _decoded(kind: str, job_id: int, version: int, body: bytes) -> Job:
    # Nothing is kept but what follows from the row just read: jobs are values, and clients ask for the same ones.
    document = orjson.loads(body)
    document["id"] = job_id
    document["version"] = version
    job: Job = from_document(_TYPES[kind], document)
    return job


def _find_event(row: Row) -> Event | None:
    """Return an event, or None for one of another release: it must not stand in the way of all others."""
    try:
        event: Event = from_document(getattr(vocabulary, row["type"]), orjson.loads(row["body"]))
    except (AttributeError, TypeError, ValueError, KeyError):
        log.exception("event can't be read", extra={"event": row["id"], "job_id": row["job_id"], "type": row["type"]})
        return None
    return event


def _agent(row: Row) -> AgentRecord:
    return AgentRecord(
        ref=InstanceRef(job_id=row["job_id"], index=row["instance"], attempt=row["attempt"]),
        agent_id=row["agent_id"],
        process_id=row["process_id"],
        process_start=row["process_start"],
        host=row["host"],
        registered_at=from_micros(row["registered_at"]),
        heartbeat_at=from_micros(row["heartbeat_at"]),
        stop_wanted=bool(row["stop_wanted"]),
        progress=None if row["progress"] is None else orjson.loads(row["progress"]),
    )


def _keys(ref: InstanceRef) -> dict[str, int]:
    return {"job_id": ref.job_id, "instance": ref.index, "attempt": ref.attempt}
